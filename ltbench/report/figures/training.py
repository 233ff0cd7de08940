"""Training curves."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ltbench.errors import LtbenchError
from ltbench.report.collection import Collection
from ltbench.report.figures.material import Material, Setting, summary
from ltbench.report.figures.style import BLUE, DOUBLE, GREY, SINGLE, broken, plain_log, title

MOST_COLUMNS, MOST_PANELS = 4, 12


def draw(material: Material) -> Figure:
    """Loss and learning rate against the epoch, stages one after the other; mean over seeds, loss with its deviation.

    A panel a method: every method has a loss of its own, and their heights are not to be compared.

    Raises:
        LtbenchError: if no run has a curve.
    """
    curves = {setting: _curves(setting, material.stored) for setting in material.ranked()}
    able = [setting for setting, (loss, _) in curves.items() if loss.size]
    if not able:
        raise LtbenchError(
            "no stored run has a training curve", hint="ltbench run stores one where something is trained"
        )
    settings = material.chosen(MOST_PANELS, able)
    columns = min(len(settings), MOST_COLUMNS)
    blocks = -(-len(settings) // columns)
    figure = Figure(figsize=(SINGLE if columns == 1 else DOUBLE, 0.4 + 2.3 * blocks))
    grid = figure.subplots(2 * blocks, columns, sharex=True, squeeze=False, height_ratios=[2.2, 1] * blocks)
    for axes in grid.flat[: 2 * columns * blocks]:
        axes.set_visible(False)
    rates = []
    for number, setting in enumerate(settings):
        block, column = divmod(number, columns)
        upper, lower = grid[2 * block, column], grid[2 * block + 1, column]
        _panel(setting.label, *curves[setting], upper, lower)
        rates.append(lower)
        below = number + columns >= len(settings)
        lower.tick_params(labelbottom=below)
        lower.set_xlabel("epoch" if below else "")
        if column == 0:
            upper.set_ylabel("training loss")
            lower.set_ylabel("learning rate")
    highest = max(lower.get_ylim()[1] for lower in rates)
    for lower in rates:
        lower.set_ylim(0, highest)
    title(figure, material.title(settings, measure="mean ± SD"))
    return figure


def _curves(setting: Setting, stored: Collection) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Loss and learning rate, (runs, epochs) each: the epochs that all runs have, none where nothing is trained."""
    curves = [
        np.array([(point.loss, point.lr) for point in stored.curve(run.run_id)]).reshape(-1, 2) for run in setting.runs
    ]
    epochs = min(map(len, curves))
    both = np.stack([curve[:epochs] for curve in curves])
    return both[:, :, 0], both[:, :, 1]


def _panel(label: str, losses: NDArray[np.float64], rates: NDArray[np.float64], upper: Axes, lower: Axes) -> None:
    """The loss of a method above its learning rate."""
    epochs = np.arange(1, losses.shape[1] + 1)
    loss, rate = summary(list(losses)), summary(list(rates))
    ends = loss["mean"] - loss["sd"], loss["mean"] + loss["sd"]
    upper.plot(epochs, loss["mean"], color=BLUE, linewidth=1.0)
    upper.fill_between(epochs, *ends, color=BLUE, alpha=0.25, linewidth=0)
    lower.plot(epochs, rate["mean"], color=GREY, linewidth=1.0)
    for axes in (upper, lower):
        axes.set_visible(True)
    if loss["mean"].min() > 0:
        upper.set_yscale("log")
        plain_log(upper.yaxis)
    else:  # some losses fall below zero
        upper.set_yscale("symlog", linthresh=0.1)
    upper.set_title(broken(label, 30), fontsize=7)
