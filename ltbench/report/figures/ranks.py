"""Average ranks over seeds with the critical difference."""

import numpy as np
from matplotlib.figure import Figure

from ltbench.errors import LtbenchError
from ltbench.report.figures.material import Material, shown_name
from ltbench.report.figures.style import BLUE, DOUBLE, GREY, error_bars, title


def draw(material: Material) -> Figure:
    """Average rank of every setting with a bar as wide as the critical difference: bars that are apart, differ.

    Nemenyi's test at 5 %, as Demsar (JMLR 2006) has it; blocks are the table's seeds, and a setting that lacks some is
    left out, which the figure says. Grey: apart from the best. Bars end at the first and the last rank; two that
    overlap do so between these.

    Raises:
        LtbenchError: if too few settings share too few seeds for a critical difference.
    """
    material.finished()
    leaderboard = material.leaderboard
    if leaderboard is None or leaderboard.critical_difference is None:
        raise LtbenchError(
            "average ranks need several settings that were run with the same seeds",
            hint="ltbench run --method all --seeds 0-4",
        )
    rows = leaderboard.rows.dropna(subset=["rank"]).sort_values("rank", kind="stable")
    ranks, difference = rows["rank"].to_numpy(float), leaderboard.critical_difference
    figure = Figure(figsize=(DOUBLE, 0.8 + 0.145 * len(rows)))
    axes = figure.subplots()
    places, apart = np.arange(len(rows)), ranks - ranks[0] >= difference
    for part, color in ((~apart, BLUE), (apart, GREY)):
        half = np.full(part.sum(), difference / 2)
        limits = {"low": 1.0, "high": float(len(rows))}
        error_bars(axes, ranks[part], places[part], half, along_x=True, **limits, fmt="o", color=color, elinewidth=1.0)
    axes.axvspan(max(ranks[0] - difference / 2, 1), ranks[0] + difference / 2, color="0.93", linewidth=0, zorder=0)
    axes.set_yticks(
        places, [f"{shown_name(label)}   {rank:.1f}" for label, rank in zip(rows["label"], ranks, strict=True)]
    )
    axes.set(xlim=(0.8, len(rows) + 0.2), ylim=(len(rows) - 0.4, -0.6))
    axes.set_xticks([1, *range(5, len(rows) + 1, 5)] if len(rows) > 6 else range(1, len(rows) + 1))
    axes.grid(axis="y", visible=False)
    left_out = len(leaderboard.rows) - len(rows)
    without = f"; without {left_out} that lack{'s' * (left_out == 1)} some of these" if left_out else ""
    axes.set_xlabel(f"average rank over {leaderboard.blocks} seeds{without}; critical difference {difference:.1f}")
    title(figure, material.title(material.ranked(), seeds=leaderboard.blocks))
    return figure
