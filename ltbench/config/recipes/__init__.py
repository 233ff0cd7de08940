"""Training recipes as data: one TOML file a recipe, one table a data set.

``standard`` and ``long`` are those of the BalPoE paper's published configurations, which its rivals are trained
with too, so that a table compares methods and not schedules. ``paper`` is each method's own, stated in its file.
"""

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from ltbench.config import Recipe, read_toml, validated
from ltbench.errors import LtbenchError, unknown

PAPER = "paper"
"""Stands for the recipe of a method's authors."""


def names() -> list[str]:
    """The recipes that come with ltbench."""
    return sorted(Path(entry.name).stem for entry in files(__package__).iterdir() if entry.name.endswith(".toml"))


def tables(name: str) -> dict[str, dict[str, Any]]:
    """The tables of a recipe by data set.

    Raises:
        LtbenchError: if there is no such recipe.
    """
    if name not in names():
        raise unknown("recipe", name, [*names(), PAPER], where="--recipe")
    with_path = files(__package__) / f"{name}.toml"
    return read_toml(Path(str(with_path)))


def recipe(name: str, table: str) -> Recipe:
    """The recipe ``name`` for the data sets that share ``table``; a name that ends in .toml is a file.

    Raises:
        LtbenchError: if the recipe is unknown, malformed, or says nothing for this data set.
    """
    if name.endswith(".toml"):
        return validated(Recipe, {"name": Path(name).stem, **read_toml(Path(name))}, where=name)
    known = tables(name)
    if table not in known:
        raise LtbenchError(
            f"recipe '{name}' has no settings for {table}",
            where="--recipe",
            hint=f"it has them for {', '.join(known)}; give a recipe file of your own for others",
        )
    return validated(Recipe, {"name": name, **known[table]}, where=f"recipe {name}")


def of_paper(method: str, own: Mapping[str, Mapping[str, Any]], table: str) -> Recipe:
    """The recipe of a method's authors for the data sets that share ``table``.

    Args:
        method: its name.
        own: its recipes by table.
        table: of the data set.

    Raises:
        LtbenchError: if there is none for this data set.
    """
    if table not in own:
        raise LtbenchError(
            f"the authors of '{method}' have no recipe for {table}",
            where="--recipe paper",
            hint=f"they have one for {', '.join(own) or 'no data set'}; use another recipe or a file of your own",
        )
    return validated(Recipe, {"name": PAPER, **own[table]}, where=f"the recipe of {method}")
