"""Leaderboards as Markdown, LaTeX, and plain or coloured text."""

import io
import re
from collections.abc import Callable, Iterable
from dataclasses import replace

from rich.box import Box
from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text
from tabulate import tabulate

from ltbench.printable import printable_name
from ltbench.report.table import Bold, Command, Folded, Lack, Table
from ltbench.report.terminal import Terminal

Block = Table | str | Folded
"""A table, a paragraph between tables, or what is folded."""
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
_NO_BREAK = "\N{NO-BREAK SPACE}"


def markdown(parts: Iterable[Block]) -> str:
    """Tables with headings, for GitHub."""
    return "\n".join(map(_markdown_block, parts))


def _markdown_block(part: Block) -> str:
    if isinstance(part, Folded):
        inside = "\n".join(map(_markdown_block, part.blocks()))
        return f"<details>\n<summary>{part.summary}</summary>\n\n{inside}\n</details>\n" if inside else ""
    return _markdown(part) if isinstance(part, Table) else f"{markdown_paragraph(part)}\n"


def _markdown(table: Table) -> str:
    rows = [[_markdown_label(table, place), *map(_markdown_figure, row[1:])] for place, row in enumerate(table.rows)]
    header = [escaped_markdown(table.header[0]), *map(markdown_paragraph, table.header[1:])]
    text = tabulate(rows, header, tablefmt="pipe", colalign=_align(table), disable_numparse=True)
    above = "".join(
        f"```\n{one}\n```\n\n" if isinstance(one, Command) else f"{markdown_paragraph(one)}\n\n" for one in table.above
    )
    caption = f"\n{markdown_paragraph(table.caption)}\n" if table.caption else ""
    return f"{'#' * (table.level + 2)} {escaped_markdown(table.title)}\n\n{above}{text}\n{caption}"


def _markdown_label(table: Table, place: int) -> str:
    label = table.rows[place][0]
    further = f" {table.further[place]}" if table.further and table.further[place] else ""
    indent = "&nbsp;" * 3 if place in table.subordinate else ""  # as characters they would be stripped
    return indent + _bold(escaped_markdown(label), label, "**{}**") + further


def _markdown_figure(cell: str) -> str:
    return (
        _bold(markdown_paragraph(cell), cell, "**{}**")
        .replace(" ± ", f"{_NO_BREAK}±{_NO_BREAK}")
        .replace("≈ ", f"≈{_NO_BREAK}")
    )


def escaped_markdown(text: str) -> str:
    """A name from outside as Markdown shows it: no tag, link, code, formula, emphasis or cell of its own."""
    text = re.sub(r"([\\`*\[\]<>|$~#!])", r"\\\1", printable_name(text))
    return _escaped_underscores_and_entities(text)


def markdown_paragraph(text: str) -> str:
    """A paragraph of ours with names from outside in it: what could begin a tag, a link, code and so on is escaped.

    Brackets around intervals and signs between numbers stay as they are.
    """
    text = re.sub(r"([\\`*|$]|~(?=~)|<(?=[A-Za-z/!?])|\](?=[(\[:])|(?<![^\n])[#>=+-](?=\s|[#>=+-]))", r"\\\1", text)
    return _escaped_underscores_and_entities(text)


def _escaped_underscores_and_entities(text: str) -> str:
    text = re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", text)  # within a word it is no emphasis
    return re.sub(r"&(?=#?\w+;)", "&amp;", text)


def latex(parts: Iterable[Block]) -> str:
    r"""Floats over both columns of a page, with booktabs; what is said between tables stands in comments.

    The preamble needs ``\usepackage{booktabs}``; papers are cited by the keys of ``ltbench report --format bibtex``.
    The first lines say so.
    """
    used: set[str] = set()
    return "\n".join([_LATEX_NEEDS, *(_latex_block(part, used) for part in parts)])


_LATEX_NEEDS = r"""% Needs \usepackage{booktabs}. Papers: ltbench report --format bibtex --output refs.bib, with the
% same --results; then \bibliographystyle{plain} and \bibliography{refs}.
"""


def _latex_block(part: Block, used: set[str]) -> str:
    if isinstance(part, Folded):
        return ""
    if isinstance(part, str):
        return f"{_latex_comment(part)}\n"
    fitting, left_out = _latex_fitted(part)
    chooses = "; --columns chooses" if part.level == 1 else ""
    missing = f"Left out to fit the page: {', '.join(left_out)}{chooses}."
    return (f"{_latex_comment(missing)}\n" if left_out else "") + _latex(fitting, used)


_LATEX = {
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}",
    "<": r"\ensuremath{<}",
    ">": r"\ensuremath{>}",
    "±": r"$\pm$",
    "≈": r"$\approx$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "†": r"$\dagger$",
    "−": "$-$",
    "←": r"$\leftarrow$",
    "→": r"$\rightarrow$",
    "·": r"$\cdot$",
    "–": "--",
}
_TEXT_WIDTH = 490.0
"""Points that both columns of a page of the field's conferences have."""
_SMALL, _SMALL_BOLD, _SEPARATION = 4.25, 4.9, 6.0
"""Points of a digit in footnote size, of a bold one, and between two columns."""
_LATEX_MEANS = (
    "Percent, mean ± standard deviation over n seeds; bold: significantly better than every other row of its column."
)


def escaped_latex(text: str) -> str:
    """Text as LaTeX prints it."""
    return "".join(_LATEX.get(character, character) for character in printable_name(text))


def _latex_comment(text: str) -> str:
    return "\n".join(f"% {escaped_latex(line)}" for line in text.splitlines())


def _latex(table: Table, used: set[str]) -> str:
    rows = [_latex_row(_latex_cells(table, place)) for place in range(len(table.rows))]
    if table.rule is not None:
        rows.insert(table.rule, r"\midrule")
    means = _LATEX_MEANS if table.level == 1 else ""
    said = [
        f"{table.title}.",
        means,
        *(one for one in table.above if not isinstance(one, Command | Lack)),
        table.caption,
    ]
    return "\n".join(
        [
            *(f"% {printable_name(one)}" for one in table.above if isinstance(one, Command | Lack)),
            r"\begin{table*}[t]",
            r"\centering",
            r"\footnotesize",
            rf"\setlength{{\tabcolsep}}{{{_SEPARATION / 2:g}pt}}",
            rf"\caption{{{escaped_latex(' '.join(filter(None, said)))}}}",
            rf"\label{{{_latex_label(table.title, used)}}}",
            rf"\begin{{tabular}}{{{''.join(one[0] for one in _align(table))}}}",
            r"\toprule",
            _latex_row(list(map(escaped_latex, table.header))),
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table*}",
            "",
        ]
    )


def _latex_cells(table: Table, place: int) -> list[str]:
    cells = [_bold(escaped_latex(cell), cell, r"\textbf{{{}}}") for cell in table.rows[place]]
    if place in table.subordinate:
        cells[0] = rf"\quad {cells[0]}"
    if table.keys and table.keys[place]:
        cells[0] += rf"~\cite{{{table.keys[place]}}}"
    return cells


def _latex_label(title: str, used: set[str]) -> str:
    """A label that no other table has, e.g. "tab:cifar100-lt-ir-100-resnet-32"."""
    words = re.sub(r"[^a-z0-9]+", "-", " ".join(title.lower().split(" · ")[:3])).strip("-") or "results"
    names = (f"tab:{words}{suffix}" for suffix in ("", *(f"-{number}" for number in range(2, len(used) + 3))))
    found = next(name for name in names if name not in used)
    used.add(found)
    return found


def _latex_fitted(table: Table) -> tuple[Table, list[str]]:
    """The table without the columns that are too many for a page, and their names."""

    def points(one: Table) -> float:
        widths = [max(map(cell_points, column)) for column in zip(one.header, *one.rows, strict=True)]
        return sum(widths) + 5 * _SMALL * bool(one.keys) + _SEPARATION * len(widths)

    def cell_points(cell: str) -> float:
        return (_SMALL_BOLD if isinstance(cell, Bold) else _SMALL) * len(cell)

    return _without_expendable(table, lambda one: points(one) > _TEXT_WIDTH)


def _latex_row(cells: list[str]) -> str:
    # After the end of a row, a bracket or a star would be taken for its argument.
    return f" {'{}' if cells[0][:1] in ('[', '*') else ''}{' & '.join(cells)} \\\\"


def _align(table: Table) -> list[str]:
    return ["left", *("left" if name in table.words else "right" for name in table.header[1:])]


def _bold(text: str, cell: str, mark: str) -> str:
    return mark.format(text) if isinstance(cell, Bold) else text


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
    return _without_expendable(table, lambda one: _width(one, folded=True) > width)


def _without_expendable(table: Table, too_wide: Callable[[Table], bool]) -> tuple[Table, list[str]]:
    left_out: list[str] = []
    waiting = [name for name in table.expendable if name in table.header]
    while waiting and too_wide(table):
        left_out.append(waiting.pop(0))
        place = table.header.index(left_out[-1])
        rows = [row[:place] + row[place + 1 :] for row in table.rows]
        table = replace(table, header=table.header[:place] + table.header[place + 1 :], rows=rows)
    return table, left_out


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
