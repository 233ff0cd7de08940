"""Noise floor and debiased ECE of a leaderboard's rows, from the stored reliability tables."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ltbench.metrics.calibration_noise import Estimate, estimate
from ltbench.report.collection import Collection
from ltbench.results.records import BinTable

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("ece_floor", "ece_floor_limit", "ece_debiased", "ece_low", "ece_high")
"""The fields of ``Estimate``, in its order; the ends are of the interval of the debiased ECE."""


def of_rows(run_ids: Mapping[str, Iterable[str]], stored: Collection) -> "pd.DataFrame":
    """Noise floor of each row's mean ECE, debiased ECE and its 95 % interval: ``COLUMNS``, percent.

    NaN where the reliability table of a run is not one.

    Args:
        run_ids: the runs of each row, by its setting.
        stored: has them.
    """
    import pandas as pd  # not above: `ltbench show` does without

    rows = {}
    for setting, members in run_ids.items():
        tests = [stored.results[run_id].test for run_id in members]
        found = of_tables([test.bins for test in tests if test is not None])
        rows[setting] = (
            [float("nan")] * len(COLUMNS)
            if found is None
            else [found.floor, found.floor_limit, found.debiased, found.low, found.high]
        )
    return pd.DataFrame.from_dict(rows, orient="index", columns=list(COLUMNS), dtype=float)


def of_tables(tables: Sequence[BinTable]) -> Estimate | None:
    """Noise floor and debiased estimate of the mean ECE of some seeds; None where a table is empty or damaged."""
    if not tables or not all(len(one.count) == len(one.confidence) == len(one.accuracy) for one in tables):
        return None
    most = max(len(table.count) for table in tables)
    # A bin without images changes nothing, so that tables of other numbers of bins can stand beside each other.
    count, confidence, accuracy = (
        np.array([values + [0] * (most - len(values)) for values in column], dtype=float)
        for column in zip(*((one.count, one.confidence, one.accuracy) for one in tables), strict=True)
    )
    if (count < 0).any() or not (count.sum(1) > 0).all():
        return None
    shares = np.stack([confidence, accuracy])
    return estimate(count, confidence, accuracy) if ((shares >= 0) & (shares <= 1)).all() else None
