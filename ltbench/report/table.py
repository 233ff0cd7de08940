"""Leaderboards as text."""

import json
import math
import re
from collections.abc import Callable
from typing import Any

import pandas as pd
from tabulate import tabulate

from ltbench.report.board import LOWER_IS_BETTER, Board

COLUMNS = {
    "top1": "Acc",
    "many": "Many",
    "medium": "Med",
    "few": "Few",
    "ece": "ECE",
    "mce": "MCE",
}


def render(boards: list[Board], style: str) -> str:
    """The leaderboards as text.

    Args:
        boards: to show.
        style: md, csv, json or latex.
    """
    return _STYLES[style](boards)


def _cell(row: pd.Series, metric: str, best: str, bold: Callable[[str], str]) -> str:
    mean, deviation = row[metric], row[f"{metric}_sd"]
    if pd.isna(mean):
        return "n/a"
    shown = f"{mean:.1f}"
    text = shown if pd.isna(deviation) else f"{shown} ± {deviation:.1f}"
    return bold(text) if shown == best else text


def _best(rows: pd.DataFrame, metric: str) -> str:
    """The best value as it is shown; none where all rows show the same."""
    values = rows[metric].dropna()
    worst, best = sorted((values.min(), values.max()), reverse=metric in LOWER_IS_BETTER)
    return f"{best:.1f}" if f"{best:.1f}" != f"{worst:.1f}" else ""


def cells(board: Board, bold: Callable[[str], str]) -> list[list[str]]:
    """The rows as text, below ``HEADER``; ``bold`` marks the best of a column."""
    best = {metric: _best(board.rows, metric) for metric in COLUMNS}
    return [
        [
            row["label"],
            str(row["n"]),
            *(_cell(row, metric, best[metric], bold) for metric in COLUMNS),
            f"{row['parameters'] / 1e6:.2f}",
            f"{row['multiply_adds'] / 1e6:.1f}",
            _duration(row["training_seconds"]),
        ]
        for _, row in board.rows.iterrows()
    ]


HEADER = ["Method", "n", *COLUMNS.values(), "Params (M)", "MAdds (M)", "Train"]
NOTE = (
    "Percent, mean ± standard deviation over n seeds; accuracy on the test set after the last epoch: all, many- "
    "(> 100 training images), medium- and few-shot (< 20) classes, the groups averaged over classes. "
    "ECE and MCE: 15 bins; lower is better. MAdds: of one image. Train: on the machine at hand, with the runs that a "
    "method starts from. Bold: best mean, not a test of significance."
)


def _duration(seconds: float) -> str:
    if math.isnan(seconds):
        return "n/a"
    return f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 60:.0f} min"


def _markdown(boards: list[Board]) -> str:
    align = ["left", "right", *["right"] * (len(HEADER) - 2)]
    parts = []
    for board in boards:
        rows = cells(board, lambda text: f"**{text}**")
        table = tabulate(rows, HEADER, tablefmt="github", colalign=align, disable_numparse=True)
        parts.append(f"### {board.title}\n\n{table}\n")
    return "\n".join([*parts, NOTE]) + "\n"


def _latex(boards: list[Board]) -> str:
    parts = []
    for board in boards:
        rows = cells(board, lambda text: f"@@{text}@@")  # marks that survive the escaping
        align = ["left", *["right"] * (len(HEADER) - 1)]
        table = tabulate(rows, HEADER, tablefmt="latex_booktabs", colalign=align, disable_numparse=True)
        table = re.sub(r"@@(.+?)@@", r"\\textbf{\1}", table).replace("±", r"$\pm$")
        parts.append(f"% {board.title}\n{table}\n")
    return "\n".join(parts)


def _records(boards: list[Board]) -> list[dict[str, Any]]:
    return [
        {"board": board.title, **{str(name): _plain(value) for name, value in row.items()}}
        for board in boards
        for row in board.rows.to_dict("records")
    ]


def _plain(value: Any) -> Any:
    """A value that JSON has a word for."""
    if isinstance(value, float) and math.isnan(value):
        return None
    return value.item() if hasattr(value, "item") else value


_STYLES: dict[str, Callable[[list[Board]], str]] = {
    "md": _markdown,
    "latex": _latex,
    "json": lambda boards: json.dumps(_records(boards), indent=1, allow_nan=False) + "\n",
    "csv": lambda boards: str(pd.DataFrame(_records(boards)).to_csv(index=False)),
}
FORMATS = tuple(_STYLES)
