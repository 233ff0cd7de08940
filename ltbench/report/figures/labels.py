"""Placement of short labels beside points, without overlaps."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.transforms import Bbox

_SIZE = 6.5
_LEADER = {"arrowstyle": "-", "linewidth": 0.3, "shrinkA": 1, "shrinkB": 1}
_BACKGROUND = {"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.4}
_DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))


def label_points(
    axes: Axes,
    x: Sequence[float] | np.ndarray,
    y: Sequence[float] | np.ndarray,
    labels: Mapping[int, str],
) -> None:
    """Write a label beside each point that has one, at the first place within the axes that is free, nearest first.

    Args:
        axes: with their final size and limits.
        x: of all points, also of those without a label, and of what else is not to be covered.
        y: the same.
        labels: by the place of the point.
    """
    scale = 72 / axes.get_figure(root=True).dpi  # type: ignore[union-attr]
    frame = Bbox(axes.get_window_extent().get_points() * scale)
    points = axes.transData.transform(np.column_stack([x, y])) * scale
    taken = [Bbox.from_bounds(px - 2, py - 2, 4, 4) for px, py in points]
    for place, text in labels.items():
        rows = text.split("\n")
        width, height = 0.66 * _SIZE * max(map(len, rows)), 1.2 * _SIZE * len(rows) - 0.4 * _SIZE
        spots = [
            (right * (width / 2 + distance), up * (height / 2 + distance))
            for distance in (4, 6, 9, 13, 18, 25, 33, 42)
            for right, up in _DIRECTIONS
        ]
        corners = points[place] + np.array(spots) - (width / 2, height / 2)
        boxes = [Bbox.from_bounds(left, bottom, width, height) for left, bottom in corners]
        covered = [box.count_overlaps(taken) + (not _within(box, frame)) for box in boxes]
        best = min(range(len(spots)), key=lambda one: (covered[one], one))
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
            bbox=_BACKGROUND,
            arrowprops=_LEADER if far else None,
        )


def _within(box: Bbox, frame: Bbox) -> bool:
    return bool(frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1)
