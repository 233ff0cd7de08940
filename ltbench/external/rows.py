"""Checks and names that scored predictions and imported checkpoints share."""

import re
from collections.abc import Mapping

from ltbench import registry
from ltbench.config import Recipe, RunConfig, recipes
from ltbench.errors import LtbenchError
from ltbench.results.external import EXTERNAL
from ltbench.results.schema import Result
from ltbench.results.store import Store, read

LARGEST_EXPONENT = 100.0
"""Largest exponent of the training prior. Published ones are 0 to 3; far beyond, corrected logits overflow."""

OR_COUNTS = "--dataset (for one that ltbench does not have, give --train-counts FILE too)"
"""Where an unknown data set of scored predictions was given."""


def check_row(name: str, logit_prior: float | None) -> None:
    """Refuse a row's name that is none or a method's, and an exponent that is no number.

    Raises:
        LtbenchError: which, and what to give instead.
    """
    check_word(name, "--name")
    if name in registry.method_names():
        raise LtbenchError(
            f"'{name}' is a method of ltbench",
            where="--name",
            hint=f"give the row another name, e.g. {name}-published",
        )
    if logit_prior is not None and not abs(logit_prior) <= LARGEST_EXPONENT:  # NaN is none either
        raise LtbenchError(
            f"{logit_prior} is no exponent",
            where="--logit-prior",
            hint="give 1 for cross entropy, 0 for balanced",
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
            "the paper recipe is known only for methods of ltbench",
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
                f"'{config.method}' with seed {config.seed} exists already, from another file",
                where=path,
                hint="give another --seed if it is one more training run, another --name if it is another model, "
                "or delete the old result",
            )
