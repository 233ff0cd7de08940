"""What papers report: ``published.csv``, one figure a row, with its source."""

from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from pathlib import Path

import pandas as pd

from ltbench.errors import unknown

KEY = ("method", "dataset", "imbalance_ratio", "backbone", "epochs", "metric", "split")
"""The columns that, joined by "|", name a figure; sources that disagree have one row each."""
_WORDS = {
    "acc": "accuracy",
    "acc@uniform": "accuracy",
    "acc@fwd50": "accuracy on the forward test set of IR 50",
    "acc@bwd50": "accuracy on the backward test set of IR 50",
    "ECE_percent": "ECE",
    "MCE_percent": "MCE",
    "med": "medium",
    "all": "",
}


@cache
def published() -> pd.DataFrame:
    """All figures as text, with their ``key``."""
    table = pd.read_csv(Path(str(files(__package__) / "published.csv")), dtype=str, keep_default_na=False)
    return table.assign(key=table[list(KEY)].agg("|".join, axis=1))


def claims(keys: Iterable[str]) -> list[str]:
    """Figures in words, e.g. "BalPoE, CIFAR-100-LT, IR 100, ResNet-32, 400 epochs: accuracy 55.9".

    Args:
        keys: of the figures; those that differ in metric and split only share a line.

    Raises:
        LtbenchError: for a key that is not there.
    """
    table = published()
    lines: dict[str, list[str]] = {}
    for key in keys:
        rows = table[table["key"] == key]
        if not len(rows):
            raise unknown("published figure", key, table["key"], where="the claims of a method")
        row = rows.iloc[0]
        about = (row["method"], row["dataset"], f"IR {row['imbalance_ratio']}", row["backbone"], _epochs(row["epochs"]))
        setting = ", ".join(about)
        metric = " ".join(filter(None, (_WORDS.get(row[name], row[name]) for name in ("split", "metric"))))
        lines.setdefault(setting, []).append(f"{metric} {' or '.join(dict.fromkeys(rows['value']))}")
    return [f"{setting}: {', '.join(figures)}" for setting, figures in lines.items()]


def _epochs(text: str) -> str:
    return f"{text} epochs" if text.isdigit() else text
