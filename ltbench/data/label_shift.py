"""Test sets with other class frequencies: forward and backward long tails, and uniform."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ltbench.data.long_tail import IntArray, largest_head, profile, select

RATIOS = (2, 5, 10, 25, 50)


@dataclass(frozen=True)
class LabelShift:
    """The class frequencies of a test set: which way its tail lies and how long it is."""

    direction: Literal["forward", "uniform", "backward"]
    """Forward: the classes with most training images are the largest; backward: the smallest."""
    ratio: int
    """Imbalance ratio; 1 where uniform."""

    @property
    def name(self) -> str:
        """Such as "forward-50" or "uniform"."""
        return self.direction if self.direction == "uniform" else f"{self.direction}-{self.ratio}"


DISTRIBUTIONS = (
    *(LabelShift("forward", ratio) for ratio in reversed(RATIOS)),
    LabelShift("uniform", 1),
    *(LabelShift("backward", ratio) for ratio in RATIOS),
)
"""Shifted test sets, from the training set's direction to its reverse, as in the tables of LADE, SADE and BalPoE."""


def shifted(labels: IntArray, train_counts: IntArray, distribution: LabelShift) -> IntArray:
    """The images of a shifted test set, drawn as the training images of CIFAR-LT are (seed 0).

    LADE (Hong et al., CVPR 2021, section 4.2): the exponential profile imposed on a test set. Classes are ranked by
    their training images, those of equal rank by label.

    Args:
        labels: (N,) of the whole test set.
        train_counts: (C,) training images of each class.
        distribution: to draw.

    Returns:
        Indices into ``labels``, in class order. The largest class has as many images as the classes allow; a class
        may have none. Classes that have none in ``labels`` are left out of the ranking.
    """
    available = np.bincount(labels, minlength=len(train_counts))
    rank = np.argsort(-train_counts, kind="stable")
    rank = rank[available[rank] > 0]
    if distribution.direction == "backward":
        rank = rank[::-1]
    counts = np.zeros(len(train_counts), dtype=np.int64)
    counts[rank] = profile(largest_head(available[rank], distribution.ratio), len(rank), distribution.ratio)
    return select(labels, counts)
