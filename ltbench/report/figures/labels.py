"""Placement of short labels beside points, without overlaps."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from matplotlib.transforms import Bbox

_SIZE = 6.5
_LEADER = {"arrowstyle": "-", "linewidth": 0.3, "shrinkA": 1, "shrinkB": 1}
_HALO = [withStroke(linewidth=1.2, foreground="white")]
_DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))


def number_points(
    axes: Axes,
    x: Sequence[float] | np.ndarray,
    y: Sequence[float] | np.ndarray,
    labels: Mapping[int, str],
) -> None:
    """Write a label beside each point that has one, at the first place that is free, nearest first.

    Args:
        axes: with their final size and limits.
        x: of all points, also of those without a label: none is covered.
        y: the same.
        labels: by the place of the point.
    """
    scale = 72 / axes.get_figure(root=True).dpi  # type: ignore[union-attr]
    points = axes.transData.transform(np.column_stack([x, y])) * scale
    taken = [Bbox.from_bounds(px - 2, py - 2, 4, 4) for px, py in points]
    for place, text in labels.items():
        width, height = 0.62 * _SIZE * len(text), 0.8 * _SIZE
        spots = [
            (right * (width / 2 + distance), up * (height / 2 + distance))
            for distance in (3, 6, 9, 13, 18)
            for right, up in _DIRECTIONS
        ]
        corners = points[place] + np.array(spots) - (width / 2, height / 2)
        boxes = [Bbox.from_bounds(left, bottom, width, height) for left, bottom in corners]
        best = min(range(len(spots)), key=lambda one: (boxes[one].count_overlaps(taken), one))
        taken.append(boxes[best])
        far = best >= len(_DIRECTIONS)
        axes.annotate(
            text,
            (x[place], y[place]),
            xytext=spots[best],
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=_SIZE,
            path_effects=_HALO,
            arrowprops=_LEADER if far else None,
        )
