"""Reliability diagrams: is a prediction of 80 % right in 80 % of the cases?"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ltbench.errors import LtbenchError
from ltbench.metrics.calibration_noise import DRAWS, consistency_bars, mce_floor
from ltbench.report.figures.material import Material, Setting
from ltbench.report.figures.style import DOUBLE, GREY, SINGLE, SKY, VERMILLION, broken, key, title

NOISE_FLOOR = "noise floor, 95 %"
_FAINTEST = 0.15


def draw(material: Material) -> Figure:
    """Accuracy by confidence, 15 bins, images of all seeds pooled, with the fraction of images in each bin.

    ECE and MCE are of each seed on its own: mean and standard deviation; the floor is what a perfectly calibrated model
    with the same confidences measures. Guo et al. (ICML 2017), figure 1. Bars of the noise floor: within them lies the
    accuracy of a calibrated model in 95 of 100 cases, given the images that a seed has in the bin (Bröcker and Smith,
    Weather and Forecasting 2007); all seeds are tested on the same images. Bins of few images are faded.

    Raises:
        LtbenchError: if there is no finished run, or no row whose seeds have the same bins.
    """
    alike = [one for one in material.ranked() if len({len(test.bins.count) for test in one.tests}) == 1]
    if not alike:
        raise LtbenchError(
            "the seeds of each row have reliability tables of different numbers of bins",
            hint="ltbench run --rerun makes them anew",
        )
    settings = material.chosen(among=alike)
    figure = Figure(figsize=(SINGLE if len(settings) == 1 else DOUBLE, 3.1))
    panels = figure.subplots(
        2, len(settings), sharex=True, sharey="row", squeeze=False, gridspec_kw={"height_ratios": [3, 1]}
    )
    for setting, upper, lower in zip(settings, *panels, strict=True):
        _diagram(setting, upper, narrow=len(settings) > 3)
        bins = pooled(setting)
        fraction = 100 * bins["count"] / bins["count"].sum()
        lower.bar(bins["centre"], fraction, width=100 / len(bins), color=GREY, edgecolor="white", linewidth=0.4)
        lower.set(xticks=[0, 50, 100], xlim=(0, 100))
    panels[0, 0].set(ylabel="accuracy (%)", ylim=(0, 100))
    panels[1, 0].set(ylabel="images (%)", ylim=(0, 100), yticks=[0, 50, 100])
    pools = any(len(setting.runs) > 1 for setting in settings)
    figure.supxlabel(f"confidence (%){'; images of all seeds pooled' if pools else ''}", fontsize="medium")
    key(figure, panels[0, 0], 4)
    for handle in figure.legends[0].get_patches():  # of the first bin, which may be faded
        handle.set_alpha(1.0)
    images = max(sum(setting.tests[0].bins.count) for setting in settings)
    title(figure, f"{material.title(settings)} × {images:,} images")
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


def _diagram(setting: Setting, axes: Axes, *, narrow: bool) -> None:
    bins = pooled(setting)
    width = 100 / len(bins)
    images = bins["count"].to_numpy() / len(setting.tests)
    opaque = opacity(images)
    accuracy = axes.bar(
        bins["centre"], bins["accuracy"], width, color=SKY, edgecolor="white", linewidth=0.4, label="accuracy"
    )
    gap = axes.bar(
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
    for bars in (accuracy, gap):
        for bar, alpha in zip(bars, opaque, strict=True):
            bar.set_alpha(alpha)
    low, high = (100 * ends for ends in consistency_bars(images, _share(bins)))
    colors = [to_rgba("black", alpha) for alpha in opaque]
    axes.vlines(bins["centre"], low, high, color=colors, linewidth=1.0)
    axes.plot([], [], color="black", linewidth=1.0, label=NOISE_FLOOR)
    axes.plot([0, 100], [0, 100], color="black", linestyle=":", linewidth=0.8, label="calibrated")
    known = not np.isnan(setting.row["ece_floor"])
    floors = setting.row["ece_floor"], mean_mce_floor(setting) if known else np.nan
    between = "\n" if narrow else " "
    errors = [
        f"{name.upper()} {_with_spread(setting, name)}{f'{between}(floor {floor:.1f})' if known else ''}"
        for name, floor in zip(("ece", "mce"), floors, strict=True)
    ]
    axes.set_title("\n".join([broken(setting.label, 20), *errors]), fontsize=7)


def opacity(images: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of the bars of bins with so many images: as sure as their accuracy, full where its standard error is 10 points.

    The largest standard error of the accuracy of n images is 50 / sqrt(n) points.
    """
    return np.clip(np.sqrt(images) / 5, _FAINTEST, 1.0)


def mean_mce_floor(setting: Setting) -> float:
    """The MCE that a perfectly calibrated model with the same confidences measures, mean over seeds, percent."""
    tables = [(np.array(test.bins.count, float), np.array(test.bins.confidence)) for test in setting.tests]
    draws = max(1, min(DRAWS, _ALL_DRAWS // max(1, len(tables))))
    return float(np.mean([mce_floor(*table, draws, key=seed) for seed, table in enumerate(tables)]))


_ALL_DRAWS = 10_000
"""Largest number of draws over all seeds: with hundreds of seeds, a few draws of each make a precise mean."""


def _share(bins: pd.DataFrame) -> NDArray[np.float64]:
    """Mean confidence, 0 to 1; of an empty bin 0, for which no bar is drawn."""
    return np.nan_to_num(bins["confidence"].to_numpy(dtype=float) / 100)


def _with_spread(setting: Setting, name: str) -> str:
    mean, deviation = setting.row[name], setting.row[f"{name}_sd"]
    return f"{mean:.1f}" if np.isnan(deviation) else f"{mean:.1f} ± {deviation:.1f}"
