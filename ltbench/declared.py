"""What the files of ltbench's own methods and data sets declare, read without running them: reports import no torch.

``declared`` never fails for a name that it does not know, such as a method of a user's own: it says None.
"""

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from ltbench.config import Recipe, read_toml, recipes
from ltbench.errors import LtbenchError
from ltbench.method.declaration import read_declaration


@dataclass(frozen=True)
class SameAs:
    """Another method that a method equals by construction, and the hyper-parameters with which the other does so."""

    method: str
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class DatasetDefaults:
    """What a run on a data set has unless it says otherwise."""

    recipe_table: str
    backbone: str
    image_size: int


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
    if method not in _methods():
        return None
    own = read_declaration(Path(str(files("ltbench_methods") / f"{method}.py")))
    settings = own.config.model_validate(own.paper.defaults_for(dataset, imbalance_ratio))
    return settings.model_dump(mode="json", exclude_none=True)


def dataset_defaults(dataset: str) -> DatasetDefaults | None:
    """What a data set declares; None for one that is none of ltbench's own."""
    return _datasets().get(dataset)


@cache
def recipe_of(name: str, dataset: str, train: str = "all") -> Recipe | None:
    """The recipe that comes with ltbench under a name, for a data set; None where there is none."""
    known = dataset_defaults(dataset)
    if known is None or name not in recipes.names():
        return None
    try:
        return recipes.recipe(name, recipes.table_of(train, known.recipe_table))
    except LtbenchError:  # has nothing for this data set
        return None


@cache
def _toml(method: str) -> dict[str, Any]:
    """The TOML file beside a method; empty where there is none."""
    if method not in _methods():
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


@cache
def _datasets() -> dict[str, DatasetDefaults]:
    classes: dict[str, tuple[list[str], dict[str, Any]]] = {}
    for entry in (files("ltbench") / "data" / "datasets").iterdir():
        if entry.name.endswith(".py"):
            for node in _classes(_parsed("ltbench.data.datasets", entry.name)):
                classes[node.name] = ([_name(base) for base in node.bases], dict(_constants(node)))
    found = {}
    for name in classes:
        values = _inherited(name, classes)
        if {"name", "recipe_table", "backbone", "image_size"} <= values.keys():
            found[values["name"]] = DatasetDefaults(values["recipe_table"], values["backbone"], values["image_size"])
    return found


def _inherited(name: str, classes: Mapping[str, tuple[list[str], dict[str, Any]]]) -> dict[str, Any]:
    bases, own = classes.get(name, ([], {}))
    return {**{key: value for base in bases for key, value in _inherited(base, classes).items()}, **own}


def _constants(node: ast.ClassDef) -> Iterable[tuple[str, Any]]:
    for one in node.body:
        targets = one.targets if isinstance(one, ast.Assign) else [one.target] if isinstance(one, ast.AnnAssign) else []
        value = getattr(one, "value", None)
        if len(targets) == 1 and isinstance(targets[0], ast.Name) and isinstance(value, ast.Constant):
            yield targets[0].id, value.value


def _classes(node: ast.Module | ast.ClassDef) -> list[ast.ClassDef]:
    return [one for one in node.body if isinstance(one, ast.ClassDef)]


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


@cache
def _parsed(package: str, name: str) -> ast.Module:
    # Of a package that is found, not imported: ltbench.method is torch's.
    root, _, rest = package.partition(".")
    file = files(root)
    for part in filter(None, [*rest.split("."), name]):
        file = file / part
    return ast.parse(file.read_text(encoding="utf-8"))
