"""Labels of a leaderboard's rows: the method, and the settings in which rows differ."""

import json
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pandas as pd

from ltbench.config.format_settings import format_value
from ltbench.declared import display_name
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
    settings = runs.drop_duplicates("setting").set_index("setting")
    departures = {one.setting: one.departures.hyperparameters for one in candidates}
    called = {one.setting: one.result.method.name or display_name(one.method) for one in candidates}
    foreign = settings[settings["revision"].isin((SCORED, IMPORTED))]  # not trained here, with settings not known here
    labels = {str(setting): f"{called[str(setting)]} ({row['revision']})" for setting, row in foreign.iterrows()}
    settings = settings.drop(foreign.index)
    if settings.empty:
        return labels
    shown = [name for name in map(str, settings) if name.startswith(_SETTING_ROOTS) and name not in _NOT_IN_LABELS]
    # Rows of a search are named by that; the hyper-parameters that it found need not be.
    tuned = settings["tuning_trials"].notna()
    own = {name: _varying(rows, shown) for name, rows in settings.groupby(["method", tuned])}
    # A hyper-parameter that every method of the table has, such as mixup, is named for all where it differs.
    common = [name for name in shown if _HYPERPARAMETER not in name or settings[name].notna().all()]
    if settings["recipe.name"].eq("paper").all():  # each method has its authors' own: no part of its name
        common = [name for name in common if not name.startswith("recipe.")]
    shared = _varying(settings, [name for name in common if name != "revision"])
    usual = {"decode": "cpu", "recipe.head": _of_most(settings["recipe.head"])}  # a few methods have their own head
    for setting, row in settings.iterrows():
        searched = pd.notna(row["tuning_trials"])
        named = list(dict.fromkeys([*_ALWAYS_NAMED, *shared, *own[row["method"], searched]]))
        departing = departures[str(setting)]
        if setting in chosen.defaults:
            named = [name for name in named if name in _ALWAYS_NAMED or name == "batch_norm_images"]
        elif departing is not None:
            departing_names = [f"{_HYPERPARAMETER}{name}" for name in departing]
            named = [name for name in named if _HYPERPARAMETER not in name or name in departing_names]
            named += [] if searched else [name for name in departing_names if name not in named]
        differing = [name for name in named if not pd.isna(row[name]) and row[name] != usual.get(name)]
        search = [f"tuned in {row['tuning_trials']:g} trials"] if searched else []
        parts = [called[str(setting)], *search, *(_setting(name, row[name]) for name in differing)]
        labels[str(setting)] = ", ".join(parts)
    uses = Counter(labels.values())
    for setting, row in settings.iterrows():  # experts that divide the backbone otherwise
        if uses[labels[str(setting)]] > 1 and pd.notna(row["parameters"]):
            labels[str(setting)] += f", {row['parameters']:,.0f} parameters"
    return labels


def _of_most(values: pd.Series) -> Any:
    """The value that more than half of the rows have, if there is one."""
    counts = values.value_counts()
    return counts.index[0] if len(counts) and counts.iloc[0] > len(values) / 2 else None


def _varying(settings: pd.DataFrame, names: list[str]) -> list[str]:
    return [name for name in names if settings[name].nunique(dropna=False) > 1]


def _setting(name: str, value: Any) -> str:
    """A setting as ``--set`` takes it; a list is JSON text in a frame."""
    if isinstance(value, str) and value.startswith("["):
        with suppress(ValueError, RecursionError):  # text may begin like a list, e.g. "[/]"
            value = json.loads(value)
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], float):  # as --set takes it as well
        (value,) = value
    return f"{name.split('.')[-1]}={format_value(value)}"
