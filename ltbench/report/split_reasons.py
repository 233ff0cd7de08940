"""Why runs on one data set stand in several leaderboards."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ltbench.config.format_settings import format_imbalance_ratio, format_value
from ltbench.report.leaderboard import Leaderboard


def _yes_no(value: Any) -> str:
    return "yes" if value else "no"


def _ratio(value: float | None) -> str:
    return format_imbalance_ratio(value).removeprefix("IR ")


_WORDS: Mapping[str, tuple[str, Callable[[Any], str]]] = {
    "imbalance_ratio": ("imbalance ratio", _ratio),
    "imbalance": ("kind of imbalance", str),
    "class_order": ("class order", str),
    "data_seed": ("data seed", format_value),
    "image_size": ("image size", format_value),
    "backbone": ("backbone", format_value),
    "pretrained": ("pretrained", _yes_no),
    "weights": ("weights", lambda value: value.removeprefix("sha256:")[:8] if value else "none"),
    "precision": ("precision", format_value),
    "validation": ("trained without the validation part", _yes_no),
    "recipe.name": ("recipe", str),
    "table_epochs": ("epochs", lambda value: "each its own" if value is None else format_value(value)),
    "transductive": ("adapted to the unlabelled test set", _yes_no),
    "comparison_group": ("comparison group", lambda value: value or "trained from scratch"),
}


def split_reasons(leaderboards: Sequence[Leaderboard]) -> list[str]:
    """A line for each data set, or a user's folder, that has several tables: what its runs differ in.

    For example "digits-lt has 2 tables, since results differ with: recipe (paper / standard)".
    """
    lines = []
    tables: dict[tuple[str, str], list[Leaderboard]] = {}
    for leaderboard in leaderboards:
        tables.setdefault((str(leaderboard.key["dataset"]), leaderboard.trained.data), []).append(leaderboard)
    for (_, name), some in tables.items():
        keys = [_in_words(leaderboard.key) for leaderboard in some]
        values = {name: list(dict.fromkeys(key.get(name, "none") for key in keys)) for key in keys for name in key}
        differing = [f"{word} ({' / '.join(shown)})" for word, shown in values.items() if len(shown) > 1]
        if len(keys) > 1:
            lines.append(f"{name} has {len(keys)} tables, since results differ with: {', '.join(differing)}.")
    return lines


def _in_words(key: Mapping[str, Any]) -> dict[str, str]:
    words = {name: show(key[column]) for column, (name, show) in _WORDS.items()}
    return words | {f"{part} data": str(value)[:6] for part, value in json.loads(key["data"]).items()}
