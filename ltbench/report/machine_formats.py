"""Leaderboards as CSV and JSON, for machines."""

import json
import math
from collections.abc import Callable, Iterable
from typing import Any

import pandas as pd

from ltbench.files.spreadsheet import csv
from ltbench.report.leaderboard import Leaderboard
from ltbench.report.leaderboard_table import TableOptions, rows_in_view


def records(leaderboards: Iterable[Leaderboard], view: TableOptions | None = None) -> list[dict[str, Any]]:
    """Every column of every row, for machines; what is not known is None.

    ``first`` is whether a row leads its table, ``bold`` names the metrics in which it is significantly better than
    every other row, ``table_seeds`` are the seeds on which the table compares. A setting that a view opens has a row of
    its own, which is not ``compared``.
    """
    return [
        {
            "leaderboard": leaderboard.title,
            "not_as_the_recipe": leaderboard.trained.warning,
            "ranked_by": leaderboard.metric,
            "compared": row.get("of") is None,
            **dict.fromkeys(map(str, leaderboard.rows)),
            **{str(name): _json_value(value) for name, value in row.items() if name != "of"},
            "first": leaderboard.leads and row["setting"] == leaderboard.reference,
            "bold": ",".join(metric for metric, setting in leaderboard.bold.items() if setting == row["setting"]),
            "table_seeds": ",".join(map(str, leaderboard.seeds)),
            "common_seeds": leaderboard.blocks,
            "critical_difference": leaderboard.critical_difference,
            "friedman_p": leaderboard.friedman,
        }
        for leaderboard in leaderboards
        for row in rows_in_view(leaderboard, view or TableOptions())
    ]


def _json_value(value: Any) -> Any:
    """A value that JSON has a word for."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value.item() if hasattr(value, "item") else value


def as_json(leaderboards: Iterable[Leaderboard], view: TableOptions | None = None) -> str:
    """The records as JSON."""
    return json.dumps(records(leaderboards, view), indent=1, allow_nan=False) + "\n"


def as_csv(leaderboards: Iterable[Leaderboard], view: TableOptions | None = None) -> str:
    """The records as CSV, several run ids in a cell by spaces; see ``ltbench.files.spreadsheet.csv`` for texts."""
    return csv(pd.DataFrame([{**row, "run_ids": " ".join(row["run_ids"])} for row in records(leaderboards, view)]))


DATA: dict[str, Callable[[Iterable[Leaderboard], TableOptions | None], str]] = {"json": as_json, "csv": as_csv}
"""Formats for machines."""
