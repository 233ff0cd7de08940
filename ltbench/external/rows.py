"""What rows have in common that ltbench has not trained: others' predictions, others' weights."""

import re
from collections.abc import Mapping

from ltbench import registry
from ltbench.config import Recipe, RunConfig, recipes
from ltbench.errors import LtbenchError
from ltbench.results.external import EXTERNAL
from ltbench.results.schema import Result
from ltbench.results.store import Store, read

LARGEST_EXPONENT = 100.0
"""Of the training prior in logits. Published ones are between 0 and 3; far beyond, corrected logits overflow."""


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
    if logit_prior is not None and not abs(logit_prior) <= LARGEST_EXPONENT:  # NaN is none either
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
