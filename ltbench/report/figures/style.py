"""How figures look: for a column of a paper, in colours that the colour-blind tell apart, with dashes for grey print.

Colours: Okabe and Ito, "Color universal design", 2008, without their yellow, which is too faint for lines on white.
"""

import base64
import html
import io
import re
import textwrap
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib.style
import numpy as np
from fontTools import subset, ttLib
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from numpy.typing import ArrayLike

from ltbench.errors import LtbenchWarning

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
_TEXT = re.compile("<text[^>]*>(.*?)</text>", re.DOTALL)
_TITLE_SIZE, _LETTERS_PER_INCH = 6.5, 19
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
    "font.family": ["DejaVu Sans"],
    "font.size": 8,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.5,
    "hatch.linewidth": 0.5,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "legend.handlelength": 2.6,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.5,
    "pdf.fonttype": 42,  # TrueType, which journals ask for: text can be searched and edited
    "svg.fonttype": "none",  # text as text
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


def title(figure: Figure, text: str) -> None:
    """Write what a figure shows above it, and above its legend, in lines that fit: broken between its parts."""
    width = int(_LETTERS_PER_INCH * figure.get_figwidth())
    parts = text.replace(" ", "\N{NO-BREAK SPACE}").replace("\N{NO-BREAK SPACE}·\N{NO-BREAK SPACE}", " · ")
    lines = "\n".join(line.removesuffix(" ·").removeprefix("· ") for line in textwrap.wrap(parts, width)).replace(
        "\N{NO-BREAK SPACE}", " "
    )
    if figure.legends:
        figure.legends[0].set_title(lines, prop=FontProperties(size=_TITLE_SIZE))
        figure.legends[0].get_title().set_multialignment("center")
    else:
        figure.suptitle(lines, fontsize=_TITLE_SIZE)


def error_bars(
    axes: Axes,
    x: ArrayLike,
    y: ArrayLike,
    lengths: ArrayLike,
    *,
    low: float = 0.0,
    high: float = 100.0,
    along_x: bool = False,
    **style: Any,
) -> ErrorbarContainer:
    """Points with bars to both sides, which end where no value can be.

    Args:
        axes: to draw in.
        x: of the points.
        y: of the points.
        lengths: of the bars, to one side; NaN for none.
        low: the least possible value.
        high: the largest one.
        along_x: whether the bars are those of x.
        style: as ``Axes.errorbar`` takes it.
    """
    values, half = np.asarray(x if along_x else y, dtype=float), np.asarray(lengths, dtype=float)
    ends = [np.minimum(half, np.maximum(room, 0)) for room in (values - low, high - values)]
    bars: dict[str, Any] = {"xerr" if along_x else "yerr": ends}
    return axes.errorbar(x, y, **bars, **style)


def plain_log(axis: Axis) -> None:
    """Write plain numbers on a logarithmic axis: 1, 10, and 1.5, 2, 3, ... where there is room."""
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7) if high / low < 100 else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


def broken(label: str, width: int) -> str:
    """A long label on several lines, broken after a comma or an underscore and before a bracket."""
    lines = [""]
    for part in re.findall(r"[^_,(]*(?:_|, ?)|[^_,(]+|\([^_,(]*", label):
        if lines[-1] and len(lines[-1] + part.rstrip()) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(line.rstrip() for line in lines)


def svg(figure: Figure) -> bytes:
    """The figure as SVG, its text as text: the same bytes each time."""
    return _saved(figure, "svg", {"Date": None})


def with_font(picture: bytes) -> bytes:
    """An SVG file of ``svg`` with the letters that it uses embedded, so that it looks the same everywhere."""
    text = picture.decode()
    letters = {letter for found in _TEXT.findall(text) for letter in html.unescape(re.sub("<[^>]*>", "", found))}
    font = ttLib.TTFont(findfont("DejaVu Sans"), recalcTimestamp=False)
    options = subset.Options(layout_features=[], hinting=False, name_IDs=[], notdef_outline=True)
    options.drop_tables += ["FFTM"]  # dates of FontForge, which fontTools warns of
    subsetter = subset.Subsetter(options)
    subsetter.populate(text="".join(letters))
    subsetter.subset(font)
    stream = io.BytesIO()
    font.save(stream)
    data = base64.b64encode(stream.getvalue()).decode()
    face = f"@font-face {{font-family: 'DejaVu Sans'; src: url(data:font/ttf;base64,{data}) format('truetype')}}"
    return text.replace('<style type="text/css">', f'<style type="text/css">{face}\n', 1).encode()


def pdf(figure: Figure) -> bytes:
    """The figure as PDF, with its fonts: the same bytes each time."""
    return _saved(figure, "pdf", {"CreationDate": None, "Creator": None, "Producer": None})


def png(figure: Figure) -> bytes:
    """The figure as PNG, 300 dots an inch: the same bytes each time."""
    return _saved(figure, "png", {"Software": None})


def _saved(figure: Figure, kind: str, metadata: dict[str, Any]) -> bytes:
    stream = io.BytesIO()
    with styled(), warnings.catch_warnings(record=True) as caught:
        warnings.filterwarnings("always", "Glyph .* missing from font")
        figure.savefig(stream, format=kind, dpi=300, metadata=metadata)
    missing = set()
    for one in caught:
        if found := re.match(r"Glyph (\d+) .*missing from font", str(one.message)):
            missing.add(chr(int(found[1])))
        else:
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
    if missing:
        message = f"the font of figures lacks {' '.join(sorted(missing))}, in whose place it has boxes"
        warnings.warn(message, LtbenchWarning, stacklevel=3)
    return stream.getvalue()
