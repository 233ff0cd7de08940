"""Noise floor and debiased ECE of a leaderboard's rows, from the stored reliability tables."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ltbench.metrics.calibration_noise import ECEEstimate, estimate, estimates
from ltbench.report.collection import Collection
from ltbench.results.records import BinTable

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("ece_floor", "ece_floor_limit", "ece_debiased", "ece_low", "ece_high")
"""The fields of ``ECEEstimate``, in its order; the ends are of the interval of the debiased ECE."""


def of_rows(run_ids: Mapping[str, Iterable[str]], stored: Collection) -> "pd.DataFrame":
    """Noise floor of each row's mean ECE, debiased ECE and its 95 % interval: ``COLUMNS``, percent.

    NaN where the reliability table of a run is not one.

    Args:
        run_ids: the runs of each row, by its setting.
        stored: has them.
    """
    import pandas as pd  # not above: `ltbench show` does without

    tables = {
        setting: _stacked([test.bins for run_id in members if (test := stored.results[run_id].test) is not None])
        for setting, members in run_ids.items()
    }
    rows = {setting: [float("nan")] * len(COLUMNS) for setting in tables}
    alike: dict[tuple[int, ...], dict[str, Stacked]] = {}  # as many seeds and bins: worked out at once
    for setting, table in tables.items():
        if table is not None:
            alike.setdefault(table.shape, {})[setting] = table
    for some in alike.values():
        found = estimates(*np.stack(list(some.values()), axis=1))
        rows |= {setting: list(astuple(one)) for setting, one in zip(some, found, strict=True)}
    return pd.DataFrame.from_dict(rows, orient="index", columns=list(COLUMNS), dtype=float)


def of_tables(tables: Sequence[BinTable]) -> ECEEstimate | None:
    """Noise floor and debiased estimate of the mean ECE of some seeds; None where a table is empty or damaged."""
    found = _stacked(tables)
    return None if found is None else estimate(*found)


Stacked = NDArray[np.float64]
"""(3, n, B) images, mean confidence and accuracy in the bins of n seeds."""


def _stacked(tables: Sequence[BinTable]) -> Stacked | None:
    """The tables of some seeds; None where one is empty or damaged."""
    if not tables or not all(len(one.count) == len(one.confidence) == len(one.accuracy) for one in tables):
        return None
    most = max(len(table.count) for table in tables)
    # A bin without images changes nothing, so that tables of other numbers of bins can stand beside each other.
    columns = zip(*((one.count, one.confidence, one.accuracy) for one in tables), strict=True)
    stacked = np.array([[values + [0] * (most - len(values)) for values in column] for column in columns], dtype=float)
    count, shares = stacked[0], stacked[1:]
    if (count < 0).any() or not (count.sum(1) > 0).all() or not ((shares >= 0) & (shares <= 1)).all():
        return None
    return stacked
