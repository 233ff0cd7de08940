"""Accuracy against cost."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ltbench.errors import LtbenchError
from ltbench.report.figures.labels import label_points
from ltbench.report.figures.material import Material, Setting
from ltbench.report.figures.style import BLUE, DOUBLE, VERMILLION, broken, key, plain_log, title
from ltbench.report.pareto import pareto

MOST_OTHERS, MOST_ASKED = 5, 12
"""Number of methods that are named beside those of the fronts, and where the user named the methods."""


def draw(material: Material) -> Figure:
    """Accuracy against training time, relative to the shortest, and against multiply-adds of an image.

    The line is the Pareto front: nobody who costs the same or less beats who is on it. Accuracies are those on the
    table's seeds; a row that lacks some is on no front, and is shown at the best row's accuracy less the difference on
    the seeds that both have. Named are those on a front, and a few others. Training times are of rows that were trained
    on equal hardware.

    Raises:
        LtbenchError: if costs are not on record.
    """
    settings = [one for one in material.ranked() if one.row["training_seconds"] > 0]
    if not settings:
        raise LtbenchError("the stored runs have no costs on record", hint="ltbench run --rerun stores them")
    assert material.leaderboard is not None, "there are settings"
    comparable = set(material.leaderboard.timed["setting"])
    timed = [one for one in settings if one.row["setting"] in comparable]
    figure = Figure(figsize=(DOUBLE, 3.2))
    panels = figure.subplots(1, 2, sharey=True)
    shortest = min(one.row["training_seconds"] for one in timed)
    counted = [one for one in settings if one.row["multiply_adds"] > 0]
    drawn = [
        _panel(panels[0], timed, [one.row["training_seconds"] / shortest for one in timed], material),
        _panel(panels[1], counted, [one.row["multiply_adds"] / 1e6 for one in counted], material),
    ]
    others = len(settings) - len(timed)
    apart = f"\n{others} of {len(settings)} rows, on other hardware, left out" if others else ""
    panels[0].set_xlabel(f"training time (shortest = 1){apart}")
    panels[1].set_xlabel("multiply-adds of an image (million)")
    panels[0].set_ylabel(material.accuracy)
    key(figure, panels[0], 3)
    title(figure, material.title(settings, measure="mean", seeds=len(material.leaderboard.seeds) or None))
    figure.draw_without_rendering()  # the places of labels depend on the layout
    figure.set_layout_engine("none")
    for axes, (x, y, labels) in zip(panels, drawn, strict=True):
        label_points(axes, x, y, labels)
    return figure


def _comparable(setting: Setting, metric: str) -> float:
    """The accuracy beside those of the other rows; where there is no comparison, the mean over its own seeds."""
    row = setting.row
    return float(row[metric] if np.isnan(row["comparable"]) else row["comparable"])


def steps(x: np.ndarray, y: np.ndarray, points: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Points on the line of a front, as ``Axes.step`` draws it on a logarithmic axis of x: x and y."""
    pairs = list(zip(x, x[1:], y, y[1:], strict=False))
    across = [(np.geomspace(x0, x1, points), np.full(points, y0)) for x0, x1, y0, _ in pairs]
    up = [(np.full(points, x1), np.linspace(y0, y1, points)) for _, x1, y0, y1 in pairs]
    both = [*across, *up, (x[:0], y[:0])]
    return np.concatenate([one for one, _ in both]), np.concatenate([one for _, one in both])


def _panel(
    axes: Axes, settings: Sequence[Setting], costs: Sequence[float], material: Material
) -> tuple[np.ndarray, np.ndarray, dict[int, str]]:
    """Draw settings with their costs: the places that labels shall not cover, x and y, and the labels by place."""
    cost, accuracy = np.array(costs), np.array([_comparable(one, material.metric) for one in settings])
    complete = [place for place, one in enumerate(settings) if not one.row["lacks_seeds"] and one.row["behind_n"]]
    front = [complete[at] for at in pareto(cost[complete], accuracy[complete])]
    most = MOST_ASKED if material.asked else MOST_OTHERS
    named = [place for place in map(settings.index, material.chosen(most, settings)) if place not in front]
    rest = [place for place in range(len(cost)) if place not in [*front, *named]]
    axes.plot(cost[rest], accuracy[rest], "o", color="0.75", label="other methods" if rest else None)
    axes.plot(cost[named], accuracy[named], "o", color=BLUE)
    axes.step(cost[front], accuracy[front], where="post", color=VERMILLION, linewidth=0.9)
    axes.plot(cost[front], accuracy[front], "D", color=VERMILLION, label="Pareto front")
    axes.set_xscale("log")
    plain_log(axes.xaxis)
    axes.margins(x=0.25, y=0.06)
    line = steps(cost[front], accuracy[front])  # which labels shall not cover either
    labels = {place: broken(settings[place].label, 18) for place in [*named, *front]}
    return np.concatenate([cost, line[0]]), np.concatenate([accuracy, line[1]]), labels
