"""The bins of confidence that calibration errors are measured in. Uses NumPy alone: reports need no torch."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

BINS = 15


Floats = NDArray[np.float64]


@lru_cache(maxsize=64)
def bin_edges(bins: int = BINS) -> NDArray[np.float32]:
    """(bins - 1,) inner edges k / bins of equal-width bins, each rounded once to float32, in which confidences are."""
    return (np.arange(1, bins) / bins).astype(np.float32)


def bin_of(confidence: NDArray[np.floating], bins: int = BINS) -> NDArray[np.int64]:
    """The bin of each confidence: a bin holds (lower, upper]. Confidences are compared as float32, whatever they are.

    Args:
        confidence: of any shape, 0 to 1.
        bins: how many.
    """
    return np.searchsorted(bin_edges(bins), confidence.astype(np.float32), side="left")
