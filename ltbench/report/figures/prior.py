"""The class frequencies that experts predict, and those that they were trained on."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ltbench.errors import LtbenchError
from ltbench.report.figures.class_rank import ranked
from ltbench.report.figures.material import Material, Setting, summary
from ltbench.report.figures.style import BLACK, DOUBLE, GREY, SINGLE, broken, look, plain_log


def draw(material: Material) -> Figure:
    """Mean predicted distribution on the test set of each expert and the ensemble, by class rank; mean over seeds.

    Up to three methods that have experts, side by side, each with its best setting.

    Raises:
        LtbenchError: if no method with experts was run.
    """
    several: dict[str, Setting] = {}
    for setting in material.finished():
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
    return figure


def _panel(setting: Setting, axes: Axes) -> None:
    order = ranked(setting.runs[0].data)
    classes = len(order)
    rank = np.arange(1, classes + 1)
    every = max(1, classes // 10)
    axes.plot(rank, 100 * setting.prior[order], color=GREY, linestyle="-", linewidth=2, label="training prior")
    axes.axhline(100 / classes, color=GREY, linestyle=":", label="uniform")
    for number in range(setting.experts):
        points = summary([np.array(test.expert_mean_probability[number])[order] for test in setting.tests])
        axes.plot(rank, 100 * points["mean"], label=f"expert {number + 1}", markevery=every, **look(number))
    points = summary([np.array(test.mean_probability)[order] for test in setting.tests])
    axes.plot(rank, 100 * points["mean"], label="ensemble", color=BLACK, linewidth=1.6)
    axes.set(xlabel="class rank by training images", yscale="log")
    plain_log(axes.yaxis)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_title(broken(setting.label, 40), fontsize=7)
