"""Accuracy from the largest class to the smallest."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from ltbench.report.figures.material import Material, summary
from ltbench.report.figures.style import DOUBLE, error_bars, key, look, title
from ltbench.results.records import DataRecord, Metrics

MOST_POINTS = 20
"""With more classes a point is the mean of several neighbours: one class is too noisy to be read off."""


def draw(material: Material) -> Figure:
    """Class accuracy against the rank of the class by training images; mean and standard deviation over seeds.

    Raises:
        LtbenchError: if there is no finished run.
    """
    settings = material.chosen(7)
    data = settings[0].runs[0].data
    figure = Figure(figsize=(DOUBLE, 2.7))
    axes = figure.subplots()
    chunks = neighbours(len(data.counts))
    centres = np.array([chunk.mean() + 1 for chunk in chunks])
    step = 0.1 * len(chunks[0])
    for number, setting in enumerate(settings):
        points = summary(list(_by_rank(setting.tests, data, chunks)))
        shift = (number - (len(settings) - 1) / 2) * step
        line = {**look(number), "linewidth": 0.7, "elinewidth": 0.7}
        error_bars(axes, centres + shift, points["mean"], points["sd"], label=setting.label, **line)
    _shade(axes, data)
    several = f", means of {len(chunks[0])} classes" if len(chunks[0]) > 1 else ""
    axes.set(
        xlabel=f"class rank by training images{several}",
        ylabel="class accuracy (%)",
        xlim=(0.5, len(data.counts) + 0.5),
    )
    axes.xaxis.set_major_locator(MaxNLocator("auto" if len(chunks[0]) > 1 else 20, integer=True))
    axes.grid(axis="x", visible=False)
    key(figure, axes, 4)
    title(figure, material.title(settings, measure="mean ± SD"))
    return figure


def neighbours(classes: int) -> list[NDArray[np.int64]]:
    """Ranks from 0 that share a point; at most ``MOST_POINTS`` points."""
    size = -(-classes // MOST_POINTS)
    return [np.arange(start, min(start + size, classes)) for start in range(0, classes, size)]


def ranked(data: DataRecord) -> NDArray[np.int64]:
    """Class labels from the most training images to the fewest."""
    return np.argsort(-np.array(data.counts), kind="stable")


def _by_rank(tests: Sequence[Metrics], data: DataRecord, chunks: list[NDArray[np.int64]]) -> NDArray[np.float64]:
    """(runs, chunks) mean accuracy of the classes of a chunk that have test images; NaN where none has."""
    order = ranked(data)
    correct = np.array([test.correct for test in tests], dtype=float)[:, order]
    total = np.array([test.total for test in tests], dtype=float)[:, order]
    there = total > 0
    accuracy = 100 * np.divide(correct, total, out=np.zeros_like(total), where=there)
    sums, classes = (np.stack([one[:, chunk].sum(1) for chunk in chunks], 1) for one in (accuracy, there))
    means: NDArray[np.float64] = np.divide(sums, classes, out=np.full_like(sums, np.nan), where=classes > 0)
    return means


def _shade(axes: Axes, data: DataRecord) -> None:
    """A band for each group of classes that has any, with its name above."""
    start = 0.5
    for (group, classes), shade in zip(data.groups.items(), ("0.86", "0.93", "1.0"), strict=True):
        end = start + len(classes)
        if classes:
            axes.axvspan(start, end, color=shade, linewidth=0, zorder=0)
            axes.text(
                (start + end) / 2,
                1.01,
                group,
                transform=axes.get_xaxis_transform(),
                ha="center",
                va="bottom",
                fontsize=7,
            )
        start = end
