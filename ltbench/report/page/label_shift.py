"""Label-shift tables of the page."""

from dataclasses import dataclass

import pandas as pd

from ltbench.report.collection import Collection
from ltbench.report.label_shift import PRIORS, SETS, noise_floors, under_shift
from ltbench.report.leaderboard import Leaderboard
from ltbench.report.numbers import MISSING, spread
from ltbench.report.page.columns import NAMES, Values
from ltbench.results.records import LOWER_IS_BETTER

_METRICS = ("top1", "ece")


@dataclass(frozen=True)
class ShiftColumn:
    """A shifted test set."""

    name: str
    images: int
    classes: int
    """Number of classes that have images."""


@dataclass(frozen=True)
class ShiftRow:
    """A setting: mean and, where there are several seeds, standard deviation for each test set."""

    label: str
    cells: list[tuple[str, float | None]]
    """Text, and the value to sort by."""


@dataclass(frozen=True)
class ShiftedLeaderboard:
    """One table: one metric with one kind of knowledge of the prior."""

    prior: str
    about: str
    metric: str
    lower_first: bool
    columns: list[ShiftColumn]
    rows: list[ShiftRow]
    floors: str
    """A sentence on noise floors; empty for another metric, or where they are not known."""


def shifted_leaderboards(leaderboard: Leaderboard, stored: Collection) -> list[ShiftedLeaderboard]:
    """A table for each prior and metric that results of the leaderboard have; no table where none has any."""
    figures = under_shift(leaderboard, stored)
    sets = figures.drop_duplicates(list(SETS))
    columns = [ShiftColumn(row["distribution"], row["images"], row["classes"]) for row in sets.to_dict("records")]
    return [
        ShiftedLeaderboard(
            prior,
            about,
            NAMES[metric],
            metric in LOWER_IS_BETTER,
            columns,
            _rows(leaderboard, found, columns, metric),
            noise_floors(found) if metric == "ece" else "",
        )
        for prior, about in PRIORS.items()
        for metric in _METRICS
        if len(found := figures[figures["prior"] == prior])
    ]


def _rows(leaderboard: Leaderboard, figures: pd.DataFrame, columns: list[ShiftColumn], metric: str) -> list[ShiftRow]:
    found = {(row["setting"], *(row[name] for name in SETS)): row for row in figures.to_dict("records")}
    keys = [(column.name, column.images, column.classes) for column in columns]
    return [
        ShiftRow(label, [_cell(found.get((setting, *key)), metric) for key in keys])
        for setting, label in zip(leaderboard.rows["setting"], leaderboard.rows["label"], strict=True)
    ]


def _cell(figures: Values | None, metric: str) -> tuple[str, float | None]:
    return (MISSING, None) if figures is None else (spread(figures[metric], figures[f"{metric}_sd"]), figures[metric])
