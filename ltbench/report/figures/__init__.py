"""Figures from stored results: one file a kind of figure, from the runs of one leaderboard to a matplotlib Figure."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from ltbench.errors import LtbenchError, unknown
from ltbench.files.output import write_bytes
from ltbench.report.figures import (
    class_rank,
    cost,
    experts,
    label_shift,
    mean_prediction,
    mixup,
    pareto_front,
    ranks,
    reliability,
    training,
    tuning,
    tuning_slice,
)
from ltbench.report.figures.material import Material
from ltbench.report.figures.style import pdf, png, styled, svg, with_font

FIGURES: dict[str, Callable[[Material], Figure]] = {
    "reliability": reliability.draw,
    "class-rank": class_rank.draw,
    "experts": experts.draw,
    "mixup": mixup.draw,
    "prior": mean_prediction.draw,
    "shift": label_shift.draw,
    "cost": cost.draw,
    "training": training.draw,
    "tuning": tuning.draw,
    "tuning-slice": tuning_slice.draw,
    "pareto-front": pareto_front.draw,
    "critical-difference": ranks.draw,
}
"""Name -> the function that draws the figure; its docstring is the caption."""
POSTER = ("reliability", "class-rank", "experts", "mixup", "prior")
"""The figures of the poster of Aimar et al. (CVPR 2023)."""


def parse_names(text: str) -> list[str]:
    """The figures that a user asks for: names by commas, "poster" or "all".

    Raises:
        LtbenchError: for another name.
    """
    groups = {"all": tuple(FIGURES), "poster": POSTER}
    words = [word.strip() for word in text.split(",")]
    names = list(dict.fromkeys(name for word in words for name in groups.get(word, (word,))))
    for name in names:
        if name not in FIGURES:
            raise unknown("figure", name, [*FIGURES, *groups], where="--figures")
    return names


def draw(name: str, material: Material) -> Figure:
    """One figure.

    Raises:
        LtbenchError: if the runs lack what it shows; it says what, and which command makes it.
    """
    with styled():
        return FIGURES[name](material)


def write(names: Sequence[str], material: Material, folder: Path) -> Iterator[Path | str]:
    """Draw figures and save each as PDF, SVG and PNG: gives the files as they come, and a sentence for one left out."""
    for name in names:
        try:
            figure = draw(name, material)
        except LtbenchError as error:
            yield f"figure {name}: {error}"
            continue
        for suffix, made in (("pdf", pdf(figure)), ("svg", with_font(svg(figure))), ("png", png(figure))):
            path = folder / f"{name}.{suffix}"
            write_bytes(path, lambda stream, made=made: stream.write(made))  # type: ignore[misc]
            yield path
