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
    written: list[Bbox] = []
    for place, text in sorted(labels.items(), key=lambda one: len(one[1])):  # the long ones look for what is left
        rows = text.split("\n")
        width, height = 0.66 * _SIZE * max(map(len, rows)), 1.2 * _SIZE * len(rows)
        spots = [
            (right * (width / 2 + distance), up * (height / 2 + distance))
            for distance in (4, 6, 9, 13, 18, 25, 33, 42, 54, 68)
            for right, up in _DIRECTIONS
        ]
        corners = points[place] + np.array(spots) - (width / 2, height / 2)
        boxes = [Bbox.from_bounds(left, bottom, width, height) for left, bottom in corners]
        leaders = [_along(points[place], spot) if one >= len(_DIRECTIONS) else [] for one, spot in enumerate(spots)]
        covered = [
            box.count_overlaps(taken)
            + 2 * box.count_overlaps(written)  # text on text cannot be read
            + 3 * (not _within(box, frame))
            + 2 * any(one.count_overlaps(written) for one in leader)
            for box, leader in zip(boxes, leaders, strict=True)
        ]
        best = min(range(len(spots)), key=lambda one: (covered[one], one))
        taken += [boxes[best], *leaders[best]]
        written.append(boxes[best])
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


def _along(point: np.ndarray, spot: tuple[float, float]) -> list[Bbox]:
    """Small boxes along the line from a point to its label, without the ends."""
    places = point + np.outer(np.linspace(0.2, 0.8, 20), spot)
    return [Bbox.from_bounds(px - 1, py - 1, 2, 2) for px, py in places]


def _within(box: Bbox, frame: Bbox) -> bool:
    return bool(frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1)
