"""Reported numbers: ``published.csv``, one figure a row, with its source and what else is known about it."""

from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from pathlib import Path

import pandas as pd

from ltbench.errors import unknown

KEY = ("method", "dataset", "imbalance_ratio", "backbone", "epochs", "metric", "split")
"""The columns that, joined by "|", name a figure; sources that disagree have one row each."""
HEADLINES = (("CIFAR-100-LT", "100"), ("ImageNet-LT", "256"))
"""Data set and imbalance ratio that papers agree to compare on."""


@cache
def published() -> pd.DataFrame:
    """All figures as text, with their ``key``."""
    table = pd.read_csv(Path(str(files(__package__) / "published.csv")), dtype=str, keep_default_na=False)
    return table.assign(key=table[list(KEY)].agg("|".join, axis=1))


@cache
def reported_numbers(claim: str) -> pd.DataFrame:
    """The figures whose key begins with a claim's columns; no row if there is none."""
    table = published()
    return table[(table["key"] + "|").str.startswith(f"{claim}|")]


def headlines(claims: Iterable[str]) -> list[str]:
    """The accuracies on the data that papers agree to compare on, one line a data set.

    From the lowest to the highest of a backbone, e.g. "ImageNet-LT IR 256: 56 (ResNet-50), 57.1 to 57.2 (ResNeXt-50)".

    Raises:
        LtbenchError: for a claim that is not in the table.
    """
    tables = []
    for claim in claims:
        tables.append(reported_numbers(claim))
        if not len(tables[-1]):
            raise unknown("published figure", claim, published()["key"], where="the claims of a method")
    every = pd.concat(tables) if tables else published().head(0)
    accuracies = every[(every["split"] == "all") & every["metric"].isin(["acc", "acc@uniform"])]
    lines = []
    for dataset, ratio in HEADLINES:
        rows = accuracies[(accuracies["dataset"] == dataset) & (accuracies["imbalance_ratio"] == ratio)]
        if len(rows):
            values = rows["value"].astype(float).groupby(rows["backbone"], sort=False)
            lines.append(f"{dataset} IR {ratio}: " + ", ".join(f"{_span(group)} ({name})" for name, group in values))
    return lines


def _span(values: "pd.Series[float]") -> str:
    low, high = f"{values.min():g}", f"{values.max():g}"
    return low if low == high else f"{low} to {high}"
