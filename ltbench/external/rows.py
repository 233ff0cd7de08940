"""What rows have in common that ltbench has not trained: others' predictions, others' weights."""

import re
import shlex
from collections.abc import Mapping

from ltbench import recipes, registry
from ltbench.config import Recipe, RunConfig
from ltbench.errors import LtbenchError
from ltbench.store import Result, Store, read

EXTERNAL = "external"
"""Stands for a training recipe that ltbench knows nothing about."""
SCORED, IMPORTED = "scored", "imported"
"""Revisions of what ltbench has not trained, and where a result's provenance tells the file: predictions, weights."""
LARGEST_EXPONENT = 1000.0
"""Of a prior left in logits; methods have 0, 1 or a few, and much larger ones overflow where they are corrected."""
_COMMANDS = {SCORED: "score", IMPORTED: "import-checkpoint"}


def check_row(name: str, logit_prior: float | None) -> None:
    """Refuse a row's name that is none or a method's, and an exponent that is no number.

    Raises:
        LtbenchError: which, and what to give instead.
    """
    check_word(name, "--name")
    if name in registry.method_names():
        raise LtbenchError(
            f"there is a method '{name}' that ltbench trains itself",
            where="--name",
            hint=f"rows that it has not trained have names of their own, e.g. {name}-published",
        )
    if logit_prior is not None and not abs(logit_prior) <= LARGEST_EXPONENT:
        raise LtbenchError(
            f"{logit_prior} is no exponent", where="--logit-prior", hint="1 for cross entropy, 0 balanced"
        )


def check_word(name: str, where: str) -> None:
    """Refuse a name that is no good as a file's.

    Raises:
        LtbenchError: if it is not of letters, digits and _ . + -
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.+-]*", name):
        raise LtbenchError(f"'{name}' is no name", where=where, hint="use letters, digits and _ . + -")


def declared_recipe(recipe: str | Recipe, table: str) -> str | Recipe:
    """The recipe that the user says a model was trained under.

    Args:
        recipe: "external", a recipe's name or a TOML file.
        table: of the data set's recipes.

    Raises:
        LtbenchError: if there is no such recipe, or none for the data set.
    """
    if not isinstance(recipe, str) or recipe == EXTERNAL:
        return recipe
    if recipe == recipes.PAPER:
        raise LtbenchError(
            "there is no authors' recipe on record for a model of others",
            where="--recipe",
            hint=f"leave it {EXTERNAL}, or give the recipe as a TOML file",
        )
    return recipes.recipe(recipe, table)


def refuse_twice(store: Store, config: RunConfig, run_id: str, fingerprints: Mapping[str, str]) -> None:
    """Refuse a second file for one row and seed: it would stand in for the first unseen.

    Raises:
        LtbenchError: if there is a result with these settings and data, and another run id.
    """
    for path in sorted(store.path(config, run_id).parent.glob("*.json")):
        if path.stem == run_id:
            continue
        other: Result = read(path)
        if other.config == config and other.data.fingerprints == fingerprints:
            raise LtbenchError(
                f"'{config.method}' with seed {config.seed} was made from another file before",
                where=path,
                hint="give another --seed if it is one more training run, another --name if it is another model, "
                "or delete the old result",
            )


def command(result: Result) -> str | None:
    """The command that makes a result from a file of others again; None for a run of ltbench's own."""
    found = next((name for name in _COMMANDS if name in result.provenance), None)
    if found is None:
        return None
    config = result.config
    told = result.provenance[found]
    options = {
        "name": config.method,
        "dataset": config.dataset,
        "train-counts": told.get("train_counts"),
        "imbalance-ratio": config.imbalance_ratio,
        "data-seed": config.data_seed or None,
        "image-size": config.image_size,
        "recipe": config.recipe if isinstance(config.recipe, str) else config.recipe.name,
        "seed": config.seed,
        "logit-prior": result.method.logit_prior,
    }
    given = {f"--{name}": str(value).removesuffix(".0") for name, value in options.items() if value is not None}
    words = [word for option in given.items() for word in option]
    words += ["--transductive"] if result.method.transductive else []
    return shlex.join(["ltbench", _COMMANDS[found], told["file"], *words])
