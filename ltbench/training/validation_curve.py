"""The validation curve: what held-out images say while a method trains, and whether it trains on."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ltbench.training.schedule import PlannedStage

SETTLES = 0.05
"""Fraction of the last stage after the fall of its learning rate until figures have settled."""


@dataclass(frozen=True)
class ValidationCurve:
    """How a method is measured after each epoch from ``settled`` on, and when training ends for it."""

    metric: str
    """What is measured."""
    measure: Callable[[], float]
    """Measures the method as it is; a parameter that it chooses after training has its initial value."""
    ends: Callable[[Mapping[int, float], int, int], bool]
    """Whether training ends early, by the values so far (by number of epochs trained), the number of epochs of the
    first value, and that of all epochs. Nothing else counts: training that resumes ends where it would have."""


def settled(stages: Sequence[PlannedStage]) -> int:
    """The number of epochs after which figures of held-out images begin to foretell those after the last epoch.

    In the last stage: earlier ones train something else than what predicts in the end (LDAM-DRW has not re-weighted
    yet, cRT has a classifier that it will throw away). In it, once the learning rate has fallen to a quarter: before,
    accuracies of single epochs differ from their neighbours by more than trials differ in the end. A stage whose rate
    does not fall that far counts from its middle.

    Args:
        stages: of the whole training.
    """
    lrs = stages[-1].lrs
    peak = lrs.index(max(lrs))
    fallen = next((epoch for epoch in range(peak, len(lrs)) if lrs[epoch] <= lrs[peak] / 4), len(lrs) // 2)
    before = sum(planned.epochs for planned in stages[:-1])
    return before + min(fallen + max(1, math.ceil(SETTLES * len(lrs))), len(lrs))
