"""What ltbench's own methods and data sets declare, without torch, which reports do not import.

``declared`` never fails for a name that it does not know, such as a method of a user's own: it says None.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ltbench import registry
from ltbench.config import Recipe, read_toml, recipes
from ltbench.errors import LtbenchError
from ltbench.method.declaration import Declaration, read_declaration

if TYPE_CHECKING:
    from ltbench.data.datasets.base import Source


@dataclass(frozen=True)
class SameAs:
    """Another method that a method equals by construction, and the hyper-parameters with which the other does so."""

    method: str
    settings: Mapping[str, Any]


def display_name(method: str) -> str:
    """The name that papers have for a method, from its TOML file; that of the command line where it has none."""
    return str(_toml(method).get("name", method))


def method_named(name: str) -> str:
    """The method of a name of papers, e.g. balpoe of "BalPoE", in any case; other names stay as they are."""
    return _by_display_name().get(name.casefold(), name)


def same_as(method: str) -> list[SameAs]:
    """The methods that a method equals by construction."""
    return [SameAs(other, settings) for other, settings in _toml(method).get("same_as", {}).items()]


def hyperparameter_defaults(method: str, dataset: str, imbalance_ratio: float | None) -> dict[str, Any] | None:
    """The hyper-parameters of a method where a run sets none, those of its TOML file for the data set included.

    What is off (None) is left out, as in a stored run.

    Args:
        method: its name.
        dataset: the data set's.
        imbalance_ratio: of the run; None for a data set that is used as it is.

    Returns:
        None where the method is none of ltbench's own.
    """
    if not is_own_method(method):
        return None
    own = _declaration(method)
    settings = own.config.model_validate(own.paper.defaults_for(dataset, imbalance_ratio))
    return settings.model_dump(mode="json", exclude_none=True)


def is_own_method(name: str) -> bool:
    """Whether a method is one of ltbench's own."""
    return name in _methods()


def declared_head(method: str) -> str | None:
    """The classifier head that one of ltbench's own methods always has; None: the recipe's."""
    return _declaration(method).head


@cache
def data_set(name: str) -> "Source | None":
    """A data set, for what a run on it has unless it says otherwise; None for one that is none of ltbench's own."""
    return registry.dataset(name) if registry.is_own_dataset(name) else None


@cache
def recipe_of(name: str, dataset: str, train: str = "all") -> Recipe | None:
    """The recipe that comes with ltbench under a name, for a data set; None where there is none."""
    known = data_set(dataset)
    if known is None or name not in recipes.names():
        return None
    try:
        return recipes.recipe(name, recipes.table_of(train, known.recipe_table))
    except LtbenchError:  # has nothing for this data set
        return None


@cache
def _declaration(method: str) -> Declaration:
    return read_declaration(Path(str(files("ltbench_methods") / f"{method}.py")))


@cache
def _toml(method: str) -> dict[str, Any]:
    """The TOML file beside a method; empty where there is none."""
    if not is_own_method(method):
        return {}
    file = Path(str(files("ltbench_methods") / f"{method}.toml"))
    return read_toml(file) if file.is_file() else {}


@cache
def _by_display_name() -> dict[str, str]:
    return {display_name(method).casefold(): method for method in _methods()}


@cache
def _methods() -> frozenset[str]:
    return frozenset(
        Path(entry.name).stem for entry in files("ltbench_methods").iterdir() if entry.name.endswith(".py")
    ) - {"__init__"}
