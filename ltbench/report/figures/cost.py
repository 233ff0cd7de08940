"""Accuracy against cost."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ltbench.errors import LtbenchError
from ltbench.report.figures.labels import label_points
from ltbench.report.figures.material import Material, Setting
from ltbench.report.figures.style import BLUE, DOUBLE, VERMILLION, broken, key, plain_log, title

MOST_OTHERS, MOST_ASKED = 5, 12
"""Number of methods that are named beside those of the fronts, and where the user named the methods."""


def draw(material: Material) -> Figure:
    """Accuracy against training time, relative to the shortest, and against multiply-adds of an image.

    The line is the Pareto front: nobody who costs the same or less beats who is on it. Accuracies are those on the
    table's seeds; a row that lacks some is on no front, and is shown at the best row's accuracy less the difference on
    the seeds that both have. Named are those on a front, and a few others.

    Raises:
        LtbenchError: if costs are not on record.
    """
    settings = [one for one in material.ranked() if one.row["training_seconds"] > 0]
    if not settings:
        raise LtbenchError("the stored runs have no costs on record", hint="ltbench run --rerun stores them")
    accuracy = np.array([_comparable(one, material.metric) for one in settings])
    complete = [place for place, one in enumerate(settings) if not one.row["lacks_seeds"] and one.row["behind_n"]]
    seconds = np.array([one.row["training_seconds"] for one in settings])
    work = np.array([one.row["multiply_adds"] for one in settings]) / 1e6
    costs = {"training time (shortest = 1)": seconds / seconds.min(), "multiply-adds of an image (million)": work}
    fronts = [[complete[at] for at in pareto(cost[complete], accuracy[complete])] for cost in costs.values()]
    others = [settings.index(one) for one in material.chosen(MOST_ASKED if material.asked else MOST_OTHERS, settings)]
    assert material.leaderboard is not None, "there are settings"
    figure = Figure(figsize=(DOUBLE, 3.2))
    panels = figure.subplots(1, 2, sharey=True)
    for axes, (label, cost), front in zip(panels, costs.items(), fronts, strict=True):
        _panel(axes, cost, accuracy, front, [place for place in others if place not in front])
        axes.set_xlabel(label)
    panels[0].set_ylabel(material.accuracy)
    key(figure, panels[0], 3)
    title(figure, material.title(settings, measure="mean", seeds=len(material.leaderboard.seeds) or None))
    figure.draw_without_rendering()  # the places of labels depend on the layout
    figure.set_layout_engine("none")
    for axes, cost, front in zip(panels, costs.values(), fronts, strict=True):
        shown = dict.fromkeys([*others, *front])
        line = steps(cost[front], accuracy[front])  # which labels shall not cover either
        x, y = np.concatenate([cost, line[0]]), np.concatenate([accuracy, line[1]])
        label_points(axes, x, y, {place: broken(settings[place].label, 24) for place in shown})
    return figure


def _comparable(setting: Setting, metric: str) -> float:
    """The accuracy beside those of the other rows; where there is no comparison, the mean over its own seeds."""
    row = setting.row
    return float(row[metric] if np.isnan(row["comparable"]) else row["comparable"])


def pareto(cost: Sequence[float] | np.ndarray, accuracy: Sequence[float] | np.ndarray) -> list[int]:
    """The Pareto front: points that none of the same or lower cost beats, cheapest first; of equal points the first."""
    front: list[int] = []
    for place in sorted(range(len(cost)), key=lambda one: (cost[one], -accuracy[one], one)):
        if not front or accuracy[place] > accuracy[front[-1]]:
            front.append(place)
    return front


def steps(x: np.ndarray, y: np.ndarray, points: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Points on the line of a front, as ``Axes.step`` draws it on a logarithmic axis of x: x and y."""
    pairs = list(zip(x, x[1:], y, y[1:], strict=False))
    across = [(np.geomspace(x0, x1, points), np.full(points, y0)) for x0, x1, y0, _ in pairs]
    up = [(np.full(points, x1), np.linspace(y0, y1, points)) for _, x1, y0, y1 in pairs]
    both = [*across, *up, (x[:0], y[:0])]
    return np.concatenate([one for one, _ in both]), np.concatenate([one for _, one in both])


def _panel(axes: Axes, cost: np.ndarray, accuracy: np.ndarray, front: list[int], named: list[int]) -> None:
    rest = [place for place in range(len(cost)) if place not in [*front, *named]]
    axes.plot(cost[rest], accuracy[rest], "o", color="0.75", label="other methods" if rest else None)
    axes.plot(cost[named], accuracy[named], "o", color=BLUE)
    axes.step(cost[front], accuracy[front], where="post", color=VERMILLION, linewidth=0.9)
    axes.plot(cost[front], accuracy[front], "D", color=VERMILLION, label="Pareto front")
    axes.set_xscale("log")
    plain_log(axes.xaxis)
    axes.margins(x=0.25, y=0.06)
