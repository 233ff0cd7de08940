"""Reports as Markdown, for GitHub."""

import re
from collections.abc import Iterable

from tabulate import tabulate

from ltbench.printable import printable_name
from ltbench.report.table import Block, Bold, Command, Folded, Table

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
    text = tabulate(rows, header, tablefmt="pipe", colalign=table.alignment, disable_numparse=True)
    above = "".join(
        f"```\n{one}\n```\n\n" if isinstance(one, Command) else f"{markdown_paragraph(one)}\n\n" for one in table.above
    )
    caption = f"\n{markdown_paragraph(table.caption)}\n" if table.caption else ""
    return f"{'#' * (table.level + 2)} {escaped_markdown(table.title)}\n\n{above}{text}\n{caption}"


def _markdown_label(table: Table, place: int) -> str:
    label = _bold(escaped_markdown(table.rows[place][0]), table.rows[place][0])
    further = f" {table.further[place]}" if table.further and table.further[place] else ""
    indent = "&nbsp;" * 3 if place in table.subordinate else ""  # as characters they would be stripped
    return indent + label + further


def _markdown_figure(cell: str) -> str:
    figure = _bold(markdown_paragraph(cell), cell)
    return figure.replace(" ± ", f"{_NO_BREAK}±{_NO_BREAK}").replace("≈ ", f"≈{_NO_BREAK}")


def _bold(text: str, cell: str) -> str:
    return f"**{text}**" if isinstance(cell, Bold) else text


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
