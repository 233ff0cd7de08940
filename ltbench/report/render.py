"""Leaderboards as Markdown, LaTeX, plain or coloured text, CSV and JSON."""

import io
import json
import math
import re
from collections.abc import Callable, Iterable
from typing import Any

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text
from tabulate import tabulate

from ltbench.files.spreadsheet import csv
from ltbench.printable import printable_name
from ltbench.report.leaderboard import Leaderboard
from ltbench.report.leaderboard_table import Bold, Table
from ltbench.report.terminal import Terminal

Block = Table | str
"""A table, or a paragraph between tables."""
_LABEL = 28
"""Number of characters of a label on one line of a narrow terminal."""


def markdown(parts: Iterable[Block]) -> str:
    """Tables with headings, for GitHub."""
    return "\n".join(part + "\n" if isinstance(part, str) else _markdown(part) for part in parts)


def _markdown(table: Table) -> str:
    rows = [[_bold(escaped_markdown(row[0]), row[0], "**{}**"), *map(_markdown_figure, row[1:])] for row in table.rows]
    header = [escaped_markdown(table.header[0]), *map(markdown_paragraph, table.header[1:])]
    text = tabulate(rows, header, tablefmt="github", colalign=_align(table), disable_numparse=True)
    caption = f"\n{markdown_paragraph(table.caption)}\n" if table.caption else ""
    return f"{'#' * (table.level + 2)} {escaped_markdown(table.title)}\n\n{text}\n{caption}"


def _markdown_figure(cell: str) -> str:
    return _bold(markdown_paragraph(cell), cell, "**{}**")


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
    """Tables with the rules of booktabs; what is said about them stands in comments."""
    return "\n".join(f"{_latex_comment(part)}\n" if isinstance(part, str) else _latex(part) for part in parts)


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
    "†": r"$\dagger$",
    "−": "$-$",
    "←": r"$\leftarrow$",
    "→": r"$\rightarrow$",
}


def escaped_latex(text: str) -> str:
    """Text as LaTeX prints it."""
    return "".join(_LATEX.get(character, character) for character in printable_name(text))


def _latex_comment(text: str) -> str:
    return "\n".join(f"% {escaped_latex(line)}" for line in text.splitlines())


def _latex(table: Table) -> str:
    lines = [
        rf"\begin{{tabular}}{{l{'r' * (len(table.header) - 1)}}}",
        r"\toprule",
        _latex_row(list(map(escaped_latex, table.header))),
        r"\midrule",
        *(_latex_row([_bold(escaped_latex(cell), cell, r"\textbf{{{}}}") for cell in row]) for row in table.rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    caption = f"{_latex_comment(table.caption)}\n" if table.caption else ""
    return f"{_latex_comment(table.title)}\n" + "\n".join(lines) + f"\n{caption}"


def _latex_row(cells: list[str]) -> str:
    # After the end of a row, a bracket or a star would be taken for its argument.
    return f" {'{}' if cells[0][:1] in ('[', '*') else ''}{' & '.join(cells)} \\\\"


def _align(table: Table) -> list[str]:
    return ["left", *["right"] * (len(table.header) - 1)]


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
    for part in parts:
        if isinstance(part, str):
            console.print(Text(part), end="\n\n")
        else:
            fitting, left_out = _fitted(part, console.width)
            console.print(Text(part.title, style="bold"))
            console.print(_rich(fitting, bold), end="")
            missing = f"Left out to fit the width: {', '.join(left_out)}." if left_out else ""
            caption = " ".join(filter(None, (part.caption, missing)))
            console.print(Padding(Text(caption, style="dim"), (0, 0, 1, 1)) if caption else "")


def _rich(table: Table, bold: str | None) -> RichTable:
    shown = RichTable(box=SIMPLE_HEAD, show_edge=False, pad_edge=True)
    shown.add_column(table.header[0], min_width=min(_LABEL, max(len(row[0]) for row in table.rows)), overflow="fold")
    for name in table.header[1:]:
        shown.add_column(name, justify="right", no_wrap=True)
    for row in table.rows:
        shown.add_row(*(_rich_cell(cell, bold) for cell in row))
    return shown


def _rich_cell(cell: str, bold: str | None) -> Text:
    if not isinstance(cell, Bold):
        return Text(cell)
    return Text(cell, style=bold) if bold else Text(f"* {cell}")


def _fitted(table: Table, width: int) -> tuple[Table, list[str]]:
    """The table without the columns that are one too many for the width, and their names."""
    left_out: list[str] = []
    waiting = [name for name in table.expendable if name in table.header]
    while waiting and _width(table, _LABEL) > width:
        left_out.append(waiting.pop(0))
        place = table.header.index(left_out[-1])
        rows = [row[:place] + row[place + 1 :] for row in table.rows]
        table = Table(table.title, table.header[:place] + table.header[place + 1 :], rows, table.caption, table.level)
    return table, left_out


def _width(table: Table, label: int | None = None) -> int:
    """Number of characters of a table's lines, its labels folded at so many."""
    console = Terminal(file=io.StringIO(), width=10_000)
    whole = Measurement.get(console, console.options, _rich(table, None)).maximum
    longest = max(len(row[0]) for row in table.rows)
    return whole - max(0, longest - (label or longest))


def records(leaderboards: Iterable[Leaderboard]) -> list[dict[str, Any]]:
    """Every column of every row, for machines; what is not known is None.

    ``first`` is whether a row leads its table, ``bold`` names the metrics in which it is significantly better than
    every other row, ``table_seeds`` are the seeds on which the table compares.
    """
    return [
        {
            "leaderboard": leaderboard.title,
            "ranked_by": leaderboard.metric,
            **{str(name): _json_value(value) for name, value in row.items()},
            "first": leaderboard.leads and row["setting"] == leaderboard.reference,
            "bold": ",".join(metric for metric, setting in leaderboard.bold.items() if setting == row["setting"]),
            "table_seeds": ",".join(map(str, leaderboard.seeds)),
            "common_seeds": leaderboard.blocks,
            "critical_difference": leaderboard.critical_difference,
            "friedman_p": leaderboard.friedman,
        }
        for leaderboard in leaderboards
        for row in leaderboard.rows.to_dict("records")
    ]


def _json_value(value: Any) -> Any:
    """A value that JSON has a word for."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value.item() if hasattr(value, "item") else value


def as_json(leaderboards: Iterable[Leaderboard]) -> str:
    """The records as JSON."""
    return json.dumps(records(leaderboards), indent=1, allow_nan=False) + "\n"


def as_csv(leaderboards: Iterable[Leaderboard]) -> str:
    """The records as CSV, several run ids in a cell by spaces; see ``ltbench.files.spreadsheet.csv`` for texts."""
    return csv(pd.DataFrame([{**row, "run_ids": " ".join(row["run_ids"])} for row in records(leaderboards)]))


DATA: dict[str, Callable[[Iterable[Leaderboard]], str]] = {"json": as_json, "csv": as_csv}
"""Formats for machines."""
