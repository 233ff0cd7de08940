"""Reliability diagrams: is a prediction of 80 % right in 80 % of the cases?"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ltbench.metrics.calibration_noise import consistency_bars
from ltbench.report.figures.material import Material, Setting
from ltbench.report.figures.style import DOUBLE, GREY, SKY, VERMILLION, broken, key


def draw(material: Material) -> Figure:
    """Accuracy by confidence, 15 bins, images of all seeds pooled, with the fraction of images in each bin.

    ECE and MCE are of each seed on its own: mean and standard deviation; the floor is the ECE that a perfectly
    calibrated model with the same confidences measures. Guo et al. (ICML 2017), figure 1. Consistency bars: within them
    lies the accuracy of a calibrated model in 95 of 100 cases, given the images that a seed has in the bin (Bröcker and
    Smith, Weather and Forecasting 2007); all seeds are tested on the same images.

    Raises:
        LtbenchError: if there is no finished run.
    """
    settings = material.chosen()
    figure = Figure(figsize=(max(1.38 * len(settings), 2.2) if len(settings) < 5 else DOUBLE, 2.9))
    panels = figure.subplots(
        2, len(settings), sharex=True, sharey="row", squeeze=False, gridspec_kw={"height_ratios": [3, 1]}
    )
    for setting, upper, lower in zip(settings, *panels, strict=True):
        _diagram(setting, upper)
        bins = pooled(setting)
        fraction = 100 * bins["count"] / bins["count"].sum()
        lower.bar(bins["centre"], fraction, width=100 / len(bins), color=GREY, edgecolor="white", linewidth=0.4)
        lower.set(xticks=[0, 50, 100], xlim=(0, 100))
    panels[0, 0].set(ylabel="accuracy (%)", ylim=(0, 100))
    panels[1, 0].set(ylabel="images (%)", ylim=(0, 100), yticks=[0, 50, 100])
    seeds = max(len(setting.runs) for setting in settings)
    figure.supxlabel(f"confidence (%){f'; images of {seeds} seeds pooled' if seeds > 1 else ''}", fontsize="medium")
    key(figure, panels[0, 0], 4)
    return figure


def pooled(setting: Setting) -> pd.DataFrame:
    """The bins of all runs as one table: ``centre``, ``count``, ``accuracy``, ``confidence``; percent, NaN if empty."""
    counts = np.array([test.bins.count for test in setting.tests], dtype=float)
    total = counts.sum(0)
    table = pd.DataFrame({"centre": (np.arange(len(total)) + 0.5) * 100 / len(total), "count": total})
    for name in ("accuracy", "confidence"):
        values = np.array([getattr(test.bins, name) for test in setting.tests])
        table[name] = 100 * (counts * values).sum(0) / table["count"].replace(0, np.nan)
    return table


def _diagram(setting: Setting, axes: Axes) -> None:
    bins = pooled(setting)
    width = 100 / len(bins)
    axes.bar(bins["centre"], bins["accuracy"], width, color=SKY, edgecolor="white", linewidth=0.4, label="accuracy")
    axes.bar(
        bins["centre"],
        bins["confidence"] - bins["accuracy"],
        width,
        bottom=bins["accuracy"],
        label="gap to confidence",
        facecolor="none",
        edgecolor=VERMILLION,
        linewidth=0.7,
        hatch="////",
    )
    low, high = (100 * ends for ends in consistency_bars(bins["count"].to_numpy() / len(setting.tests), _share(bins)))
    axes.vlines(bins["centre"], low, high, color="black", linewidth=1.0, label="consistency, 95 %")
    axes.plot([0, 100], [0, 100], color="black", linestyle=":", linewidth=0.8, label="calibrated")
    floor = "" if np.isnan(setting.row["ece_floor"]) else f" (floor {setting.row['ece_floor']:.1f})"
    errors = f"ECE {_with_spread(setting, 'ece')}{floor}\nMCE {_with_spread(setting, 'mce')}"
    axes.set_title(f"{broken(setting.label, 20)}\n{errors}", fontsize=7)


def _share(bins: pd.DataFrame) -> NDArray[np.float64]:
    """Mean confidence, 0 to 1; of an empty bin 0, for which no bar is drawn."""
    return np.nan_to_num(bins["confidence"].to_numpy(dtype=float) / 100)


def _with_spread(setting: Setting, name: str) -> str:
    mean, deviation = setting.row[name], setting.row[f"{name}_sd"]
    return f"{mean:.1f}" if np.isnan(deviation) else f"{mean:.1f} ± {deviation:.1f}"
