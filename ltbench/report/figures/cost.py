"""What accuracy costs."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from ltbench.errors import LtbenchError
from ltbench.report.figures.labels import number_points
from ltbench.report.figures.material import Material, Setting
from ltbench.report.figures.style import DOUBLE, GREY, VERMILLION

MOST_NAMED = 32


def draw(material: Material) -> Figure:
    """Accuracy against training time, relative to the shortest, and against multiply-adds of an image.

    The line is the Pareto front: who is on it is beaten by nobody who costs the same or less. Numbered: those on a
    front, and the best setting of each method.

    Raises:
        LtbenchError: if costs are not on record.
    """
    settings = [one for one in material.finished() if one.row["training_seconds"] > 0]
    if not settings:
        raise LtbenchError("the stored runs have no costs on record", hint="ltbench run --rerun stores them")
    accuracy = np.array([one.row[material.metric] for one in settings])
    seconds = np.array([one.row["training_seconds"] for one in settings])
    work = np.array([one.row["multiply_adds"] for one in settings]) / 1e6
    costs = {"training time, relative": seconds / seconds.min(), "multiply-adds of an image (million)": work}
    fronts = [pareto(cost, accuracy) for cost in costs.values()]
    named = _named(settings, fronts)
    figure = Figure(figsize=(DOUBLE, max(2.8, 0.4 + 0.115 * len(named))))
    *panels, names = figure.subplots(1, 3, width_ratios=[1, 1, 0.9], sharey=False)
    for axes, (title, cost), front in zip(panels, costs.items(), fronts, strict=True):
        _panel(axes, cost, accuracy, front, named)
        axes.set_xlabel(title)
    panels[0].set_ylabel(material.accuracy)
    names.axis("off")
    lines = [f"{place + 1}  {settings[place].label}" for place in named]
    names.text(-0.1, 1, "\n".join(lines), transform=names.transAxes, va="top", fontsize=6, linespacing=1.35)
    figure.draw_without_rendering()  # the places of labels depend on the layout
    figure.set_layout_engine("none")
    for axes, cost in zip(panels, costs.values(), strict=True):
        number_points(axes, cost, accuracy, {place: str(place + 1) for place in named})
    return figure


def pareto(cost: Sequence[float] | np.ndarray, accuracy: Sequence[float] | np.ndarray) -> list[int]:
    """Which points are beaten by no other that costs the same or less, cheapest first; of equal points the first."""
    front: list[int] = []
    for place in sorted(range(len(cost)), key=lambda one: (cost[one], -accuracy[one], one)):
        if not front or accuracy[place] > accuracy[front[-1]]:
            front.append(place)
    return front


def _named(settings: Sequence[Setting], fronts: list[list[int]]) -> list[int]:
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
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.12, y=0.06)
    axes.legend(loc="lower right")
