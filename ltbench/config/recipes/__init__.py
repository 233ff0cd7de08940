"""Training recipes as data: one TOML file a recipe, one table a data set.

``standard`` and ``long`` are those of the BalPoE paper's published configurations, which its rivals are trained
with too, so that a table compares methods and not schedules. ``finetune`` is for pre-trained networks, ``paper`` is
each method's own, stated in the TOML file beside the method's. A recipe may name an augmentation of
``ltbench/config/augmentations.toml``.
"""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from ltbench.config import Recipe, read_toml, validated
from ltbench.config.augment import augmentation
from ltbench.errors import LtbenchError, unknown

PAPER = "paper"
"""Stands for the recipe of a method's authors."""
FINETUNE = "finetune"
"""The recipe for the whole of a pre-trained network."""
PROBING = "linear-probing"
"""The table of a recipe for heads on frozen features, whatever the data set."""
ANY = "any"
"""The table of a recipe for whole networks on data sets that it has no table of their own for."""


def table_of(train: str, dataset_table: str) -> str:
    """The table of a recipe that a run takes.

    Args:
        train: what it trains: all, or the head.
        dataset_table: that of its data set.
    """
    return PROBING if train == "head" else dataset_table


def names() -> list[str]:
    """The recipes that come with ltbench."""
    return sorted(Path(entry.name).stem for entry in files(__package__).iterdir() if entry.name.endswith(".toml"))


@cache
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
        return _parsed({"name": Path(name).stem, **read_toml(Path(name))}, where=name)
    known = tables(name)
    if table not in known and table != PROBING and ANY in known:
        table = ANY
    if table not in known:
        raise LtbenchError(
            f"recipe '{name}' has no settings for {table}",
            where="--recipe",
            hint=f"it has them for {', '.join(known)}; give a recipe file of your own for others",
        )
    return _parsed({"name": name, **known[table]}, where=f"recipe {name}")


def of_paper(method: str, own: Mapping[str, Recipe], table: str) -> Recipe:
    """The recipe of a method's authors for the data sets that share ``table``.

    Args:
        method: its name.
        own: its authors' recipes by table.
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
    return own[table]


def paper_recipe(own: Mapping[str, Any], table: str, *, where: object) -> Recipe:
    """One of the ``[recipe.TABLE]`` tables of a method's TOML file; ``like`` names another one, which it changes.

    Args:
        own: all of these tables, by name.
        table: which of them.
        where: it stands, for the error.

    Raises:
        LtbenchError: for an unknown key, augmentation or ``like``, or a value out of range.
    """
    values = own[table]
    if not isinstance(values, dict):
        raise LtbenchError("a recipe must be a table", where=where, hint=f"write [recipe.{table}]")
    if "like" in values:
        others = {name: one for name, one in own.items() if isinstance(one, dict) and "like" not in one}
        if not isinstance(values["like"], str) or values["like"] not in others:
            raise unknown("recipe", str(values["like"]), others, where=where)
        values = {**others[values["like"]], **{key: value for key, value in values.items() if key != "like"}}
    return _parsed({**values, "name": PAPER}, where=where)


def _parsed(values: Mapping[str, Any], *, where: object) -> Recipe:
    """A recipe as TOML has it: with an augmentation as a table, or by its name."""
    whole = dict(values)
    for key in ("augment", "contrast"):
        if isinstance(whole.get(key), str):
            whole[key] = augmentation(whole[key], where=where)
    return validated(Recipe, whole, where=where)
