"""The Pareto front of accuracy against cost."""

from collections.abc import Sequence

import numpy as np


def pareto(cost: Sequence[float] | np.ndarray, accuracy: Sequence[float] | np.ndarray) -> list[int]:
    """The Pareto front: points that none of the same or lower cost beats, cheapest first; of equal points the first."""
    front: list[int] = []
    for place in sorted(range(len(cost)), key=lambda one: (cost[one], -accuracy[one], one)):
        if not front or accuracy[place] > accuracy[front[-1]]:
            front.append(place)
    return front
