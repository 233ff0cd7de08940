"""How figures look: for a column of a paper, in colours that the colour-blind tell apart, with dashes for grey print.

Colours: Okabe and Ito, "Color universal design", 2008, without their yellow, which is too faint for lines on white.
"""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

SINGLE, DOUBLE = 3.3, 6.9
"""Widths in inches: one column of a paper, and both."""
BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, BLACK = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#000000",
)
GREY = "0.55"
"""The colour of lines that are for reference only."""
_LOOKS = (
    (BLUE, "-", "o"),
    (VERMILLION, "--", "s"),
    (GREEN, "-.", "^"),
    (PURPLE, (0, (1, 1)), "D"),
    (ORANGE, (0, (5, 1, 1, 1, 1, 1)), "v"),
    (SKY, (0, (3, 2)), "P"),
    (BLACK, (0, (1, 2)), "X"),
)
_RC = {
    "axes.grid": True,
    "axes.labelsize": 8,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 8,
    "errorbar.capsize": 1.5,
    "figure.constrained_layout.h_pad": 0.03,
    "figure.constrained_layout.w_pad": 0.03,
    "figure.constrained_layout.use": True,
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.5,
    "hatch.linewidth": 0.5,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "legend.handlelength": 2.6,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.5,
    "svg.hashsalt": "ltbench",
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
}


@contextmanager
def styled() -> Iterator[None]:
    """Within it figures are drawn and saved in our style, whatever the user's own settings."""
    with matplotlib.style.context(["default", _RC]):
        yield


def look(number: int) -> dict[str, Any]:
    """Colour, dashes and marker of the n-th line; they repeat after seven."""
    color, dashes, marker = _LOOKS[number % len(_LOOKS)]
    return {"color": color, "linestyle": dashes, "marker": marker}


def key(figure: Figure, axes: Axes, columns: int) -> None:
    """The legend of a figure, above its panels, from the lines of one of them."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=min(columns, len(labels)))


def plain_log(axis: Axis) -> None:
    """Write plain numbers on a logarithmic axis: 1, 10, and 1.5, 2, 3, ... where there is room."""
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7) if high / low < 100 else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


def broken(label: str, width: int) -> str:
    """A long label on several lines, broken after a comma or an underscore."""
    lines = [""]
    for part in re.findall(r"[^_,]+(?:_|, ?)?", label):
        if lines[-1] and len(lines[-1] + part.rstrip()) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(line.rstrip() for line in lines)


def svg(figure: Figure) -> bytes:
    """The figure as SVG: the same bytes each time."""
    return _saved(figure, "svg", {"Date": None})


def png(figure: Figure) -> bytes:
    """The figure as PNG, 300 dots an inch: the same bytes each time."""
    return _saved(figure, "png", {"Software": None})


def _saved(figure: Figure, kind: str, metadata: dict[str, Any]) -> bytes:
    stream = io.BytesIO()
    with styled():
        figure.savefig(stream, format=kind, dpi=300, metadata=metadata)
    return stream.getvalue()
