"""The scale of a table's accuracies, which a few rows far away do not squash."""

from collections.abc import Sequence

import numpy as np

_REACH = 1.5
"""Tukey's: a row further than this many interquartile ranges from the quartiles is an outlier (Exploratory Data
Analysis, 1977)."""


def scale_of(low: Sequence[float], high: Sequence[float]) -> tuple[float, float]:
    """Both ends of a scale that shows all intervals but outliers, which reach beyond it.

    Args:
        low: lower ends; NaN where a row has no interval.
        high: upper ends.

    Returns:
        The ends, the first below the second; 0 and 1 where no row has an interval.
    """
    ends = np.array([low, high], dtype=float)
    ends = ends[:, np.isfinite(ends).all(0)]
    if not ends.size:
        return 0.0, 1.0
    middle = ends.mean(0)
    first, third = np.quantile(middle, [0.25, 0.75])
    reach = _REACH * max(third - first, float(np.median(ends[1] - ends[0])))
    start = float(max(ends[0].min(), first - reach))
    end = float(min(ends[1].max(), third + reach))
    return (start, end) if end > start else (start - 0.5, start + 0.5)
