"""What the tables of a leaderboard say, before they are Markdown, LaTeX or a terminal's."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd

from ltbench.report.board import LOWER_IS_BETTER, Board

COLUMNS = {
    "top1": "Acc",
    "macro": "Macro",
    "many": "Many",
    "medium": "Med",
    "few": "Few",
    "ece": "ECE",
    "mce": "MCE",
}
_BESIDE = {"ece": {"ece_floor": "Floor", "ece_debiased": "Debiased"}}
"""Columns that stand right of a metric's."""
NOTE = (
    "Percent, mean ± standard deviation over n seeds; accuracy on the test set after the last epoch: all, many- (> "
    "100 training images), medium- and few-shot (< 20) classes, the groups averaged over classes; Macro, where the "
    "test set is not balanced: over all classes. ECE and MCE: 15 bins; lower is better. Floor: the ECE that a "
    "perfectly calibrated model with the same confidences measures on as many images (mean of consistency resampling); "
    "Debiased: the ECE without what noise adds to it. MAdds: of one image. Train: "
    "the shortest of the seeds, on the machine at hand, with the runs that a method starts from. Bold: the best of "
    "its column, told apart from every other row (paired t test over the seeds, p < .05 after Holm's correction). ≈: "
    "not told apart from the best in the column that ranks. Neither where rows share fewer than three seeds. Plain "
    "text has a star for bold."
)
DIFFERENCES_NOTE = (
    "Differences: intervals hold 95 % of 1000 bootstrap samples over seeds and test images (with one seed: over images "
    "only); with few seeds they are somewhat too narrow. The interval of the debiased ECE holds the errors from which "
    "noise makes the measured ECE in 95 % of cases. Behind: points behind the best row, mean over the seeds that both "
    "have, their number in brackets where it is not n; p: paired t test over these, corrected for all "
    "comparisons with the best row by Holm. Rank: mean over the seeds that most rows have; a row that lacks one has no "
    "rank. Wins: comparisons with another row on the same seed that the row wins, a tie being half a win. All is about "
    "these data and settings: other data may rank methods otherwise."
)


class Bold(str):
    """The text of a cell that stands out."""

    __slots__ = ()


@dataclass(frozen=True)
class Table:
    """Rows of text under a header; the first column is a label, the others are figures."""

    title: str
    header: list[str]
    rows: list[list[str]]
    caption: str = ""
    level: int = 1
    """1 for a leaderboard, 2 for what belongs to it."""
    expendable: Sequence[str] = field(default=())
    """Columns that a narrow terminal does without, the first first."""


def leaderboard(board: Board) -> Table:
    """Mean and standard deviation of every row, and what it costs."""
    metrics = [metric for metric in COLUMNS if metric != "macro" or board.metric == "macro"]
    best = {metric: _best(board.rows, metric) for metric in metrics if metric in board.holds}
    rows = [
        [
            str(row["label"]),
            str(row["n"]),
            *(cell for metric in metrics for cell in _cells(board, row, metric, place == best.get(metric))),
            _number(row["parameters"] / 1e6, 2),
            _number(row["multiply_adds"] / 1e6, 1),
            _duration(row["training_seconds"]),
        ]
        for place, row in board.rows.iterrows()
    ]
    named = [name for metric in metrics for name in (COLUMNS[metric], *_BESIDE.get(metric, {}).values())]
    header = ["Method", "n", *named, "Params (M)", "MAdds (M)", "Train"]
    expendable = ["MAdds (M)", "Params (M)", "MCE", "Train", "Debiased", "Med", "Many", "Floor", "Few", "n"]
    return Table(board.title, header, rows, expendable=expendable)


def _best(rows: pd.DataFrame, metric: str) -> object:
    return rows[metric].idxmin() if metric in LOWER_IS_BETTER else rows[metric].idxmax()


def _cells(board: Board, row: pd.Series, metric: str, bold: bool) -> list[str]:
    """The figure, and what it is read against."""
    return [_cell(board, row, metric, bold), *(_number(row[name], 1) for name in _BESIDE.get(metric, {}))]


def _cell(board: Board, row: pd.Series, metric: str, bold: bool) -> str:
    text = spread(row[metric], row[f"{metric}_sd"])
    if metric == board.metric and not math.isnan(row["p"]) and not row["told_apart"]:
        return f"≈ {text}"
    return Bold(text) if bold else text


def differences(board: Board) -> Table:
    """How sure the order of the rows is."""
    name = COLUMNS[board.metric]
    rows = [
        [
            str(row["label"]),
            str(row["n"]),
            _interval(*(row[f"{board.metric}{end}"] for end in ("", "_low", "_high"))),
            _interval(row["ece_debiased"], row["ece_low"], row["ece_high"]),
            "best" if place == 0 else _behind(row),
            "" if place == 0 else probability(row["p"]),
            _number(row["rank"], 1),
            _number(100 * row["wins"], 0),
        ]
        for place, row in board.rows.iterrows()
    ]
    header = ["Method", "n", f"{name} [95 %]", "ECE debiased [95 %]", "Behind", "p (Holm)", "Rank", "Wins %"]
    expendable = ["n", "Rank", "Wins %", "ECE debiased [95 %]"]
    return Table(f"Differences: {board.title}", header, rows, _ranks(board), 2, expendable)


def _ranks(board: Board) -> str:
    among = f"Ranks: of {board.rows['rank'].notna().sum()} rows, seeds in common: {board.blocks}"
    if board.critical_difference is None:
        return f"{among}, too few for a test." if len(board.rows) > 1 else ""
    friedman = "" if board.friedman is None else f"Friedman's test that all rank alike: p {_equal(board.friedman)}. "
    return f"{among}. {friedman}Two differ if their ranks do by {board.critical_difference:.1f} (Nemenyi, 5 %)."


def _interval(value: float, low: float, high: float) -> str:
    shown = _number(value, 1)
    return f"{shown} [n/a]" if math.isnan(low) else f"{shown} [{low:.1f}, {high:.1f}]"


def _behind(row: pd.Series) -> str:
    seeds = "" if row["behind_n"] in (0, row["n"]) else f" ({row['behind_n']})"
    return _number(row["behind"], 1) + seeds


def spread(mean: float, deviation: float) -> str:
    """For example "63.0 ± 3.6"; one run has no deviation."""
    if pd.isna(mean):
        return "n/a"
    return f"{mean:.1f}" if pd.isna(deviation) else f"{mean:.1f} ± {deviation:.1f}"


def probability(p: float) -> str:
    """For example ".012"; n/a where there was no test."""
    if math.isnan(p):
        return "n/a"
    return "<.001" if p < 0.001 else f"{p:.3f}".removeprefix("0")


def _equal(p: float) -> str:
    return "< .001" if p < 0.001 else f"= {probability(p)}"


def _number(value: float, digits: int) -> str:
    return "n/a" if pd.isna(value) else f"{value:.{digits}f}"


def _duration(seconds: float) -> str:
    if math.isnan(seconds):
        return "n/a"
    return f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 60:.0f} min"
