"""The class frequencies that experts predict, and those that they were trained on."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ltbench.errors import LtbenchError
from ltbench.report.figures.class_rank import neighbours, ranked
from ltbench.report.figures.material import Material, Setting
from ltbench.report.figures.style import BLACK, DOUBLE, GREY, SINGLE, broken, look, plain_log, title


def draw(material: Material) -> Figure:
    """Mean predicted distribution on the test set of each expert and the ensemble, by class rank; mean over seeds.

    Up to three methods that have experts, side by side, each with its best setting.

    Raises:
        LtbenchError: if no method with experts was run.
    """
    several: dict[str, Setting] = {}
    for setting in material.ranked():
        if setting.experts > 1:
            several.setdefault(setting.method, setting)
    if not several:
        raise LtbenchError("no run of a method with several experts is stored", hint="ltbench run --method balpoe")
    settings = material.chosen(3, several.values())
    figure = Figure(figsize=(SINGLE if len(settings) == 1 else DOUBLE, 2.7))
    panels = figure.subplots(1, len(settings), sharex=True, sharey=True, squeeze=False)[0]
    for axes, setting in zip(panels, settings, strict=True):
        _panel(setting, axes)
    panels[0].set_ylabel("mean prediction (%)")
    most = max(panels, key=lambda axes: len(axes.lines))
    handles, labels = most.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3)
    title(figure, material.title(settings, measure="mean"))
    return figure


def _panel(setting: Setting, axes: Axes) -> None:
    order = ranked(setting.runs[0].data)
    points = neighbours(len(order))
    place = [ranks.mean() + 1 for ranks in points]

    def line(distributions: Sequence[Sequence[float]], label: str, **style: Any) -> None:
        means = np.mean(distributions, axis=0)[order]
        axes.plot(place, [100 * means[ranks].mean() for ranks in points], label=label, **style)

    tests = setting.tests
    line([setting.prior.tolist()], "training prior", color=GREY, linewidth=2)
    axes.axhline(100 / len(order), color=GREY, linestyle=":", label="uniform")
    for number in range(setting.experts):
        line([test.expert_mean_probability[number] for test in tests], f"expert {number + 1}", **look(number))
    line([test.mean_probability for test in tests], "ensemble", color=BLACK, linewidth=1.6)
    several = f", means of {len(points[0])}" if len(points[0]) > 1 else " by training images"
    axes.set(xlabel=f"class rank{several}", yscale="log")
    plain_log(axes.yaxis)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_title(broken(setting.label, 40), fontsize=7)
