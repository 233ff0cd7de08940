"""Label-shift tables: accuracy and calibration on test sets with other class frequencies."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from ltbench.report.board import Board
from ltbench.report.collection import Collection
from ltbench.report.page.columns import MISSING, Values, spread
from ltbench.store import Result, ShiftTable

PRIORS = {
    "unknown": "Nothing is known of the test set's class frequencies; predictions are as they are.",
    "known": "Predictions are corrected by the shifted set's true class frequencies, which nobody has in practice.",
    "estimated": "Predictions are corrected by class frequencies estimated from the shifted set's images without "
    "labels (transductive).",
}
_METRICS = {"top1": "accuracy", "ece": "ECE"}


@dataclass(frozen=True)
class ShiftColumn:
    """A shifted test set."""

    name: str
    images: int
    classes: int
    """That have images."""


@dataclass(frozen=True)
class ShiftRow:
    """A setting: mean and, where there are several seeds, standard deviation for each test set."""

    label: str
    cells: list[tuple[str, float | None]]
    """Text, and the value to sort by."""


@dataclass(frozen=True)
class ShiftedBoard:
    """One table: one metric with one kind of knowledge of the prior."""

    prior: str
    about: str
    metric: str
    lower_first: bool
    columns: list[ShiftColumn]
    rows: list[ShiftRow]


def shifted_boards(board: Board, stored: Collection) -> list[ShiftedBoard]:
    """A table for each prior and metric that results of the leaderboard have; no table where none has any."""
    runs = _runs(board, stored)
    if not len(runs):
        return []
    columns = [
        ShiftColumn(str(name), int(rows["images"].iloc[0]), int(rows["classes"].iloc[0]))
        for name, rows in runs.groupby("distribution", sort=False)
    ]
    return [
        ShiftedBoard(prior, about, words, metric == "ece", columns, _rows(board, rows, columns, metric))
        for prior, about in PRIORS.items()
        for metric, words in _METRICS.items()
        if len(rows := runs[runs["prior"] == prior])
    ]


def _runs(board: Board, stored: Collection) -> pd.DataFrame:
    """One row a run, test set and prior."""
    frames = [
        _frame(result.shift).assign(setting=row["setting"])
        for _, row in board.rows.iterrows()
        for result in _results(row["run_ids"], stored)
        if result.shift is not None
    ]
    return pd.concat(frames) if frames else pd.DataFrame()


def _results(run_ids: Sequence[str], stored: Collection) -> list[Result]:
    return [stored.results[run_id] for run_id in run_ids]


def _frame(shift: ShiftTable) -> pd.DataFrame:
    names = ("distribution", "prior", "images", "classes", *_METRICS)
    return pd.DataFrame({name: getattr(shift, name) for name in names})


def _rows(board: Board, runs: pd.DataFrame, columns: list[ShiftColumn], metric: str) -> list[ShiftRow]:
    grouped = runs.groupby(["setting", "distribution"])[metric]
    found = pd.DataFrame({metric: grouped.mean(), f"{metric}_sd": grouped.std(ddof=1)}).to_dict("index")
    return [
        ShiftRow(label, [_cell(found.get((setting, column.name)), metric) for column in columns])
        for setting, label in zip(board.rows["setting"], board.rows["label"], strict=True)
    ]


def _cell(figures: Values | None, metric: str) -> tuple[str, float | None]:
    return (MISSING, None) if figures is None else (spread(figures, metric), figures[metric])
