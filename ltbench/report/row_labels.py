"""Labels of a leaderboard's rows: the method, and the settings in which rows differ."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import pandas as pd

from ltbench.config import FEATURE_VIEWS
from ltbench.config.format_settings import format_value
from ltbench.registry.declared import display_name
from ltbench.report.collection import Collection
from ltbench.report.one_setting import Candidate, Chosen
from ltbench.results.external import IMPORTED, SCORED

_NOT_IN_LABELS = {"method", "seed", "recipe.name"}
_SETTING_ROOTS = (
    "hyperparameters.",
    "recipe.",
    "backbone",
    "feature_views",
    "precision",
    "revision",
    "epochs",
    "batch_norm_images",
)
_HYPERPARAMETER = "hyperparameters."
_HEAD = "recipe.head"
_ALWAYS_NAMED = ("cache_resized", "decode")
"""Settings that change pixels for the sake of speed: in a label even where all rows have them."""


def row_labels(runs: pd.DataFrame, candidates: Sequence[Candidate], chosen: Chosen) -> dict[str, str]:
    """The label of each setting: the name that papers have for the method, and what is not its default.

    Where the defaults are not known, what differs within the leaderboard or among the method's rows.

    Args:
        runs: of one leaderboard, as ``ltbench.report.frame`` gives them.
        candidates: its settings.
        chosen: which of them stand for their methods.
    """
    settings = [_without_missing(row) for row in runs.drop_duplicates("setting").astype(object).to_dict("records")]
    departures = {one.setting: one.departures for one in candidates}
    called = {one.setting: one.result.method.name or display_name(one.method) for one in candidates}
    # Models that were not trained here have settings that are not known here.
    foreign = [row for row in settings if row["revision"] in (SCORED, IMPORTED)]
    labels = {row["setting"]: f"{called[row['setting']]} ({row['revision']})" for row in foreign}
    settings = [row for row in settings if row["setting"] not in labels]
    if not settings:
        return labels
    shown = [name for name in map(str, runs) if name.startswith(_SETTING_ROOTS) and name not in _NOT_IN_LABELS]
    # Rows of a search are named by that; the hyper-parameters that it found need not be.
    groups: dict[tuple[str, bool], list[Row]] = {}
    for row in settings:
        groups.setdefault((row["method"], "tuning_trials" in row), []).append(row)
    own = {group: _varying(rows, shown) for group, rows in groups.items()}
    # A hyper-parameter that every method of the table has, such as mixup, is named for all where it differs.
    common = [name for name in shown if _HYPERPARAMETER not in name or all(name in row for row in settings)]
    if all(row.get("recipe.name") == "paper" for row in settings):  # authors' own, so no part of a method's name
        common = [name for name in common if not name.startswith("recipe.")]
    shared = _varying(settings, [name for name in common if name != "revision"])
    heads = {_HEAD: _of_most(settings, _HEAD)}  # a few methods have their own
    usual = {"decode": "cpu", "feature_views": FEATURE_VIEWS, **heads}
    for row in settings:
        setting, searched = row["setting"], "tuning_trials" in row
        named = list(dict.fromkeys([*_ALWAYS_NAMED, *shared, *own[row["method"], searched]]))
        departing = departures[setting].hyperparameters
        if setting in chosen.defaults:
            named = [name for name in named if name in _ALWAYS_NAMED or name == "batch_norm_images"]
        elif departing is not None:
            departing_names = [f"{_HYPERPARAMETER}{name}" for name in departing]
            named = [name for name in named if _HYPERPARAMETER not in name or name in departing_names]
            named += [] if searched else [name for name in departing_names if name not in named]
        differing = [name for name in named if name in row and row[name] != usual.get(name)]
        departs = departures[setting].head
        if departs is not None:
            differing = [*(name for name in differing if name != _HEAD), *([_HEAD] if departs else [])]
        search = [f"tuned in {row['tuning_trials']:g} trials"] if searched else []
        parts = [called[setting], *search, *(_setting(name, row[name]) for name in differing)]
        labels[setting] = ", ".join(parts)
    methods = {(labels[row["setting"]], row["method"]) for row in settings}
    homonyms = Counter(label for label, _ in methods)
    for row in settings:
        if homonyms[labels[row["setting"]]] > 1:
            labels[row["setting"]] += f", method={row['method']}"
    uses = Counter(labels.values())
    for row in settings:  # experts that divide the backbone otherwise
        if uses[labels[row["setting"]]] > 1 and "parameters" in row:
            labels[row["setting"]] += f", {row['parameters']:,.0f} parameters"
    return labels


Row = dict[str, Any]
"""The columns of a run that have a value."""


def _without_missing(row: dict[Any, Any]) -> Row:
    return {name: value for name, value in row.items() if value is not None and value == value}  # NaN does not equal


def _of_most(rows: Sequence[Row], name: str) -> Any:
    """The value that more than half of the rows that have one have, if there is one."""
    counts = Counter(row[name] for row in rows if name in row).most_common(1)
    return next((value for value, count in counts if count > len(rows) / 2), None)


def _varying(rows: Sequence[Row], names: Sequence[str]) -> list[str]:
    return [name for name in names if len({row.get(name) for row in rows}) > 1]


def _setting(name: str, value: Any) -> str:
    """A setting as ``--set`` takes it; a list is JSON text in a frame."""
    if isinstance(value, str) and value.startswith("["):
        with suppress(ValueError, RecursionError):  # text may begin like a list, e.g. "[/]"
            value = json.loads(value)
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], float):  # as --set takes it as well
        (value,) = value
    return f"{name.split('.')[-1]}={format_value(value)}"


def in_brackets(label: str) -> str:
    """A label for a sentence: its settings in brackets, e.g. "BalPoE (mixup=0.4)"."""
    method, comma, settings = label.partition(", ")
    return f"{method} ({settings})" if comma else method


def from_elsewhere(row: Mapping[Any, Any], stored: Collection) -> bool:
    """Whether a row is of a model that ltbench has not trained."""
    ids = [run_id for run_id in row.get("run_ids") or [] if run_id in stored.results]
    return any(stored.results[run_id].method.revision in (IMPORTED, SCORED) for run_id in ids)
