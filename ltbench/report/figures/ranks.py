"""Average ranks over seeds with the critical difference."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from ltbench.errors import LtbenchError
from ltbench.report.figures.material import Material
from ltbench.report.figures.style import BLACK, DOUBLE


def draw(material: Material) -> Figure:
    """Average rank of every setting; bars join those that are less than the critical difference apart.

    Demsar (JMLR 2006), figure 1; blocks are the seeds that all settings share.

    Raises:
        LtbenchError: if too few settings share too few seeds for a critical difference.
    """
    board = material.board if material.finished() else None
    difference = board.critical_difference if board else None
    if board is None or difference is None or "rank" not in board.rows:
        raise LtbenchError(
            "average ranks need two settings or more with seeds in common",
            hint="ltbench run --method all --seeds 0-4",
        )
    rows = board.rows.dropna(subset=["rank"]).sort_values("rank", kind="stable")
    ranks, labels = rows["rank"].to_numpy(float), list(rows["label"])
    half = -(-len(ranks) // 2)
    bars = cliques(ranks, difference)
    top = 0.5 + 0.25 * len(bars)
    height = top + half
    figure = Figure(figsize=(DOUBLE, 0.45 + 0.155 * (height + 1.5)))
    axes = figure.subplots()
    low, high = np.floor(ranks.min()), np.ceil(ranks.max())
    reach = 0.75 * max(high - low, 1)
    axes.set(xlim=(low - reach, high + reach), ylim=(height + 0.3, -2.4))
    axes.axis("off")
    axes.plot([low, high], [0, 0], color=BLACK, linewidth=0.8)
    step = max(1, round((high - low) / 12))
    for tick in np.arange(low, high + 0.5, step):
        axes.plot([tick, tick], [0, -0.3], color=BLACK, linewidth=0.8)
        axes.text(tick, -0.45, f"{tick:g}", ha="center", va="bottom", fontsize=7)
    axes.text((low + high) / 2, -1.6, "average rank", ha="center", va="bottom", fontsize=7)
    for place, (rank, label) in enumerate(zip(ranks, labels, strict=True)):
        left = place < half
        y = top + 0.5 + (place if left else len(ranks) - 1 - place)
        edge = low - 0.03 * reach if left else high + 0.03 * reach
        axes.plot([rank, rank, edge], [0, y, y], color=BLACK, linewidth=0.5)
        text = f"{label}  {rank:.1f}" if left else f"{rank:.1f}  {label}"
        axes.text(edge, y, f" {text} ", ha="right" if left else "left", va="center", fontsize=6.5)
    for number, (first, last) in enumerate(bars):
        y = 0.4 + 0.25 * number
        axes.plot([ranks[first] - 0.05, ranks[last] + 0.05], [y, y], color=BLACK, linewidth=2.2, solid_capstyle="butt")
    axes.plot([low - reach, low - reach + difference], [-1, -1], color=BLACK, linewidth=2.2, solid_capstyle="butt")
    axes.text(low - reach, -1.3, f"critical difference {difference:.2f}, {board.blocks} seeds", va="bottom", fontsize=7)
    return figure


def cliques(ranks: Sequence[float] | np.ndarray, difference: float) -> list[tuple[int, int]]:
    """Longest stretches of sorted ranks that span less than the critical difference: first and last place of each."""
    found: list[tuple[int, int]] = []
    for first in range(len(ranks)):
        last = max(place for place in range(first, len(ranks)) if ranks[place] - ranks[first] < difference)
        if last > first and (not found or last > found[-1][1]):
            found.append((first, last))
    return found
