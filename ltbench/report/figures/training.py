"""Training curves."""

import numpy as np
from matplotlib.figure import Figure

from ltbench.errors import LtbenchError
from ltbench.report.figures.material import Material, Setting, summary
from ltbench.report.figures.style import SINGLE, key, look


def draw(material: Material) -> Figure:
    """Loss and learning rate against the epoch, stages one after the other; mean over seeds, loss with its deviation.

    Every method has a loss of its own: their heights are not to be compared.

    Raises:
        LtbenchError: if no run has a curve.
    """
    able = [setting for setting in material.ranked() if _length(setting)]
    if not able:
        raise LtbenchError(
            "no stored run has a training curve", hint="ltbench run stores one where something is trained"
        )
    settings = material.chosen(among=able)
    figure = Figure(figsize=(SINGLE, 4.0))
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[2.2, 1])
    smallest = np.inf
    for number, setting in enumerate(settings):
        epochs = np.arange(1, _length(setting) + 1)
        loss = summary([[point.loss for point in run.curve[: len(epochs)]] for run in setting.runs])
        rate = summary([[point.lr for point in run.curve[: len(epochs)]] for run in setting.runs])
        style = {**look(number), "markevery": max(1, len(epochs) // 6), "linewidth": 1.0}
        upper.plot(epochs, loss["mean"], label=setting.label, **style)
        upper.fill_between(
            epochs, loss["mean"] - loss["sd"], loss["mean"] + loss["sd"], color=style["color"], alpha=0.2, linewidth=0
        )
        lower.plot(epochs, rate["mean"], **{**style, "marker": ""})
        smallest = min(smallest, loss["mean"].min())
    if smallest > 0:
        upper.set_yscale("log")
    else:  # some losses fall below zero
        upper.set_yscale("symlog", linthresh=0.1)
    upper.set_ylabel("training loss")
    lower.set(xlabel="epoch", ylabel="learning rate")
    key(figure, upper, 1)
    return figure


def _length(setting: Setting) -> int:
    """Epochs that all runs have; none for a method that trains nothing."""
    return min(len(run.curve) for run in setting.runs)
