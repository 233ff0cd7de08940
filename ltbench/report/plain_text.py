"""Reports as plain or coloured text."""

import io
from collections.abc import Iterable

from rich.box import Box
from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from ltbench.report.table import Block, Bold, Command, Folded, Table
from ltbench.report.terminal import Terminal

_LABEL = 28
"""Number of characters of a label on one line of a narrow terminal."""
_FOLDED = 18
"""Number of characters to which each column of words is folded, if need be, in a table with several of them."""
_TIE = "on bright_black"
"""The tint of rows that tie with the best."""
_RULED = Box("    \n    \n ── \n    \n ── \n    \n    \n    \n")
"""A rule below the header and where a section ends."""
_INDENT = 2
"""Number of characters before the label of a row that belongs to the one above it."""
_PADDING = 3
"""Number of characters between two columns of the box; one less beside the first and the last together."""


def text(parts: Iterable[Block], width: int | None = None, *, coloured: bool = False) -> str:
    """Tables as plain or coloured text; without colours, a star marks what would be bold.

    Args:
        parts: to show.
        width: of the terminal; columns that do not fit are left out, which is said. None: as wide as need be.
        coloured: with the terminal's codes for bold and dim.
    """
    parts = list(parts)
    width = width or needed_width(parts)
    file = io.StringIO()
    console = Terminal(file=file, width=width, force_terminal=coloured, color_system="standard" if coloured else None)
    show(console, parts, bold="bold" if coloured else None)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"


def needed_width(parts: Iterable[Block]) -> int:
    """Number of characters of a line in which every table fits."""
    return max([80, *(_width(part) for part in parts if isinstance(part, Table))])


def show(console: Console, parts: Iterable[Block], *, bold: str | None = "bold") -> None:
    """Print tables on a console of rich's, as wide as that is.

    Args:
        console: to print on.
        parts: to show.
        bold: the style of cells that stand out; None marks them by a star.
    """
    hidden = False
    for part in parts:
        if isinstance(part, Folded):
            hidden = True
        elif isinstance(part, str):
            console.print(Text(part), end="\n\n")
        else:
            fitting, left_out = _fitted(part, console.width)
            console.print(Text(part.title, style="bold"))
            for line in part.above:
                # A command stands in one line, to be copied.
                console.print(
                    Text(f"  {line}" if isinstance(line, Command) else line), soft_wrap=isinstance(line, Command)
                )
            console.print(_rich(fitting, bold), end="")
            missing = f"Left out to fit the width: {', '.join(left_out)}." if left_out else ""
            caption = " ".join(filter(None, (part.caption, missing)))
            console.print(Padding(Text(caption, style="dim"), (0, 0, 1, 1)) if caption else "")
    if hidden:
        more = "More: --explain adds the paired tests, what follows for a choice, and what the columns mean."
        console.print(Text(more, style="dim"))


def _rich(table: Table, bold: str | None) -> RichTable:
    labels = [_text_label(table, place) for place in range(len(table.rows))]
    shown = RichTable(box=_RULED, show_edge=False, pad_edge=True)
    least = None if table.words else min(_LABEL, max(map(len, labels)))
    shown.add_column(table.header[0], min_width=least, overflow="fold")
    for name in table.header[1:]:
        shown.add_column(name, justify="left" if name in table.words else "right", no_wrap=name not in table.words)
    for place, (label, row) in enumerate(zip(labels, table.rows, strict=True)):
        tint = _TIE if bold and place in table.band else None
        indent = (0, 0, 0, _INDENT * (place in table.subordinate))
        cells = [_rich_cell(cell, bold) for cell in (type(row[0])(label), *row[1:])]
        shown.add_row(Padding(cells[0], indent), *cells[1:], style=tint, end_section=table.rule == place + 1)
    return shown


def _text_label(table: Table, place: int) -> str:
    further = f" {table.further[place]}" if table.further and table.further[place] else ""
    return f"{table.rows[place][0]}{further}"


def _rich_cell(cell: str, bold: str | None) -> Text:
    if not isinstance(cell, Bold):
        return Text(cell)
    return Text(cell, style=bold) if bold else Text(f"* {cell}")


def _fitted(table: Table, width: int) -> tuple[Table, list[str]]:
    """The table without the columns that are one too many for the width, and their names."""
    return table.without_expendable(lambda one: _width(one, folded=True) > width)


def _width(table: Table, *, folded: bool = False) -> int:
    """Number of characters of a table's lines, its words folded or not; as rich has it, which takes far longer."""
    widths = [max(map(_cell_width, column)) for column in zip(table.header, *table.rows, strict=True)]
    head = cell_len(table.header[0])
    widths[0] = max([head, *(_label_width(table, place) for place in range(len(table.rows)))])
    if folded:
        limits = {table.header[0]: _FOLDED if table.words else max(_LABEL, head), **dict.fromkeys(table.words, _FOLDED)}
        widths = [min(width, limits.get(name, width)) for name, width in zip(table.header, widths, strict=True)]
    return sum(widths) + _PADDING * len(widths) - 1


def _label_width(table: Table, place: int) -> int:
    return _INDENT * (place in table.subordinate) + cell_len(_text_label(table, place))


def _cell_width(cell: str) -> int:
    return cell_len(cell) + len("* ") * isinstance(cell, Bold)
