"""Which class a column is of, and which image a row, where a file of predictions names them."""

import re
import warnings
from collections.abc import Hashable, Sequence
from pathlib import Path

import numpy as np

from ltbench.data.long_tail import IntArray
from ltbench.errors import LtbenchError, LtbenchWarning


def column_order(given: Sequence[str], own: Sequence[str], *, where: object = None) -> IntArray | None:
    """The columns of a file in the order of a data set's classes.

    Args:
        given: (C,) class names, in the order of the file's columns.
        own: (C,) class names of the data set, in its order.
        where: the names come from, for errors.

    Returns:
        (C,) for each class its column; None where the orders are equal.

    Raises:
        LtbenchError: if the names are not those of the data set, each once.
    """
    return _places(list(given), list(own), "class", where)


def row_order(given: Sequence[str], own: Sequence[str], *, where: object = None) -> IntArray | None:
    """The rows of a file in the order of a data set's test images.

    A path need not be the whole one: of absolute paths, or of such within a folder, the parts are compared that both
    sides have, from the end.

    Args:
        given: (N,) file names, or positions in the official data, in the order of the file's rows.
        own: (N,) names of the test images, in their order.
        where: the names come from, for errors.

    Returns:
        (N,) for each test image its row; None where the orders are equal.

    Raises:
        LtbenchError: if the names are not those of the test images, each once.
    """
    parts = [[re.split(r"[/\\]", name.removeprefix("./")) for name in names] for names in (given, own)]
    depth = min(len(path) for paths in parts for path in paths)
    theirs, ours = (["/".join(path[-depth:]) for path in paths] for paths in parts)
    if len(set(ours)) < len(ours):
        raise LtbenchError(
            f"names of {depth} parts are not unique among the test images, e.g. {given[0]}",
            where=where,
            hint="give the paths as ltbench data order prints them",
        )
    return _places(theirs, ours, "image", where)


def warn_of_two_orders(classes: Sequence[str], file: Path, todo: str) -> None:
    """Warn where a file names no classes and these have two usual orders, with "10" after "9" or before it.

    Args:
        classes: (C,) names, in the data set's order.
        file: that names none.
        todo: what to do about it.
    """
    if sorted(classes) != sorted(classes, key=_by_numbers):
        message = (
            f"{file.name} does not name its classes, and names with numbers have two usual orders. Here the first "
            f"outputs must be of {', '.join(classes[:4])}; if they are not, all figures are wrong. To do: {todo}"
        )
        warnings.warn(message, LtbenchWarning, stacklevel=4)


def renumbering(given: IntArray, own: IntArray) -> dict[int, int] | None:
    """The class that each label of a file stands for, where labels differ by their numbers alone.

    Args:
        given: (N,) labels of a file.
        own: (N,) labels of the same images.

    Returns:
        Class by label, or None where a label stands for several classes or several labels for one.
    """
    pairs = {(int(theirs), int(ours)) for theirs, ours in zip(given, own, strict=True)}
    found = dict(pairs)
    return found if len(pairs) == len(found) == len(set(found.values())) else None


def _places(given: list[str], own: list[str], kind: str, where: object) -> IntArray | None:
    place = {name: number for number, name in enumerate(given)}
    if len(place) < len(given):
        twice = next(name for number, name in enumerate(given) if place[name] != number)
        raise LtbenchError(f"the {kind} '{twice}' is named twice", where=where)
    missing = [name for name in own if name not in place]
    if missing or len(given) != len(own):
        unknown = sorted(place.keys() - set(own))
        words = [f"{_listed(missing)} is missing"] if missing else []
        words += [f"{_listed(unknown)} is none of the data set's"] if unknown else []
        plural = "classes" if kind == "class" else "images"
        raise LtbenchError(
            f"the names of the {plural} are not those of the data set: {'; '.join(words)}",
            where=where,
            hint="ltbench data order prints those",
        )
    order = np.array([place[name] for name in own], dtype=np.int64)
    return None if np.array_equal(order, np.arange(len(own))) else order


def _listed(names: list[str]) -> str:
    return f"'{names[0]}'" + (f" (of {len(names)})" if len(names) > 1 else "")


def _by_numbers(name: str) -> tuple[Hashable, ...]:
    """A key that sorts "9" before "10"."""
    parts = re.split(r"(\d+)", name)
    return tuple((int(part), "") if number % 2 else (-1, part) for number, part in enumerate(parts))
