"""Why runs on one data set stand in several tables."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from ltbench.report.board import Board


def _yes_no(value: Any) -> str:
    return "yes" if value else "no"


def _ratio(value: Any) -> str:
    return "as it is" if pd.isna(value) else f"{value:g}"


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


_WORDS: Mapping[str, tuple[str, Callable[[Any], str]]] = {
    "imbalance_ratio": (
        "imbalance ratio",
        lambda value: "as it is" if value is None or value != value else f"{value:g}",
    ),
    "data_seed": ("data seed", _plain),
    "image_size": ("image size", _plain),
    "validation": ("trained without the validation part", _yes_no),
    "recipe.name": ("recipe", str),
    "transductive": ("adapted to the unlabelled test set", _yes_no),
    "track": ("track", lambda value: value or "trained from scratch"),
}


def split_reasons(boards: Sequence[Board]) -> list[str]:
    """A line for each data set that has several tables: what its runs differ in, so that they are not compared.

    For example "digits-lt has 2 tables, since results differ with: recipe (paper / standard)".
    """
    lines = []
    for dataset in dict.fromkeys(board.key["dataset"] for board in boards):
        keys = [_in_words(board.key) for board in boards if board.key["dataset"] == dataset]
        values = {name: list(dict.fromkeys(key.get(name, "none") for key in keys)) for key in keys for name in key}
        differing = [f"{name} ({' / '.join(shown)})" for name, shown in values.items() if len(shown) > 1]
        if len(keys) > 1:
            lines.append(f"{dataset} has {len(keys)} tables, since results differ with: {', '.join(differing)}.")
    return lines


def _in_words(key: Mapping[str, Any]) -> dict[str, str]:
    words = {name: show(key[column]) for column, (name, show) in _WORDS.items()}
    return words | {f"{part} data": str(value)[:6] for part, value in json.loads(key["data"]).items()}
