"""Accuracy against cost."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ltbench.errors import LtbenchError
from ltbench.report.figures.labels import number_points
from ltbench.report.figures.material import Material, Setting
from ltbench.report.figures.style import DOUBLE, GREY, VERMILLION, plain_log

MOST_NAMED = 32


def draw(material: Material) -> Figure:
    """Accuracy against training time, relative to the shortest, and against multiply-adds of an image.

    The line is the Pareto front: nobody who costs the same or less beats who is on it. Accuracies are those on the
    table's seeds; a row that lacks some is on no front, and is shown at the best row's accuracy less the difference on
    the seeds that both have. Numbered on the left: those on a front, and the best setting of each method; on the right,
    where many cost the same: those on the front.

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
    named = _numbered(settings, fronts)
    figure = Figure(figsize=(DOUBLE, max(2.8, 0.4 + 0.125 * len(named))))
    *panels, names = figure.subplots(1, 3, width_ratios=[1.2, 1, 1])
    for axes, (title, cost), front in zip(panels, costs.items(), fronts, strict=True):
        _panel(axes, cost, accuracy, front, named)
        axes.set_xlabel(title)
    panels[0].legend(loc="best")
    panels[0].set_ylabel(material.accuracy)
    names.axis("off")
    names.set(xlim=(0, 1), ylim=(max(len(named), 20), -1))
    for line, place in enumerate(named):
        names.text(0.0, line, f"{place + 1}", ha="right", va="baseline", fontsize=6.5)
        names.text(0.04, line, settings[place].label, ha="left", va="baseline", fontsize=6.5)
    figure.draw_without_rendering()  # the places of labels depend on the layout
    figure.set_layout_engine("none")
    for axes, cost, shown in zip(panels, costs.values(), (named, fronts[1]), strict=True):
        number_points(axes, cost, accuracy, {place: str(place + 1) for place in shown})
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


def _numbered(settings: Sequence[Setting], fronts: list[list[int]]) -> list[int]:
    first = {setting.method: place for place, setting in reversed(list(enumerate(settings)))}
    wanted = [*sorted({place for front in fronts for place in front}), *sorted(first.values())]
    return sorted(list(dict.fromkeys(wanted))[:MOST_NAMED])


def _panel(axes: Axes, cost: np.ndarray, accuracy: np.ndarray, front: list[int], named: list[int]) -> None:
    others = [place for place in named if place not in front]
    rest = [place for place in range(len(cost)) if place not in named]
    axes.plot(cost[rest], accuracy[rest], "o", color="0.8", markersize=2.5)
    axes.plot(cost[others], accuracy[others], "o", color=GREY)
    axes.step(cost[front], accuracy[front], where="post", color=VERMILLION, linewidth=0.9)
    axes.plot(cost[front], accuracy[front], "D", color=VERMILLION, label="Pareto front")
    axes.set_xscale("log")
    plain_log(axes.xaxis)
    axes.margins(x=0.12, y=0.06)
