"""What the calibration errors of a table's rows say, from the stored reliability tables."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from ltbench.evaluate.calibration_error import Estimate, Floats, estimate
from ltbench.report.collection import Collection
from ltbench.store import BinTable

COLUMNS = ("ece_floor", "ece_floor_limit", "ece_debiased", "ece_low", "ece_high")
"""The fields of ``Estimate``, in its order; the ends are of the interval of the debiased ECE."""


def of_rows(run_ids: Mapping[str, Iterable[str]], stored: Collection) -> pd.DataFrame:
    """Of each row the noise floor of its mean ECE, the ECE without noise and its 95 % interval: ``COLUMNS``, percent.

    NaN where the reliability table of a run is not one.

    Args:
        run_ids: the runs of each row, by its setting.
        stored: has them.
    """
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
    """What the mean ECE of some seeds says; None where a table has no images or columns of unequal length."""
    arrays = [arrays_of(table) for table in tables]
    if not arrays or any(one is None for one in arrays):
        return None
    most = max(len(table.count) for table in tables)
    # A bin without images changes nothing, so that tables of other numbers of bins can stand beside each other.
    padded = [[np.pad(values, (0, most - len(values))) for values in one] for one in arrays if one is not None]
    count, confidence, accuracy = (np.stack(values) for values in zip(*padded, strict=True))
    return estimate(count, confidence, accuracy)


def arrays_of(table: BinTable) -> tuple[Floats, Floats, Floats] | None:
    """Images, mean confidence and accuracy of each bin, (B,); None where they are not a reliability table."""
    count, confidence, accuracy = (
        np.array(values, dtype=float) for values in (table.count, table.confidence, table.accuracy)
    )
    if not len(count) == len(confidence) == len(accuracy) or not count.sum() > 0 or (count < 0).any():
        return None
    shares = np.stack([confidence, accuracy])
    return (count, confidence, accuracy) if ((shares >= 0) & (shares <= 1)).all() else None
