"""The report as a picture: what a terminal would show, as SVG."""

import io
import re
from collections.abc import Iterable

from ltbench.report.plain_text import needed_width, show
from ltbench.report.table import Block
from ltbench.report.terminal import Terminal


def svg(parts: Iterable[Block], title: str = "ltbench report") -> str:
    """A self-contained SVG, wide enough for the widest table."""
    parts = list(parts)
    console = Terminal(
        record=True,
        file=io.StringIO(),
        width=needed_width(parts),
        force_terminal=True,
        color_system="truecolor",
    )
    show(console, parts)
    picture = console.export_svg(title=title)
    return re.sub(r"@font-face \{.*?\}", "", picture, flags=re.DOTALL)  # they would be fetched from the network
