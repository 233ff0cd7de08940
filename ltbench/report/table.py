"""What a report consists of before it is rendered: tables, and paragraphs of some kinds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace


class Command(str):
    """A paragraph that is a command, to be copied."""

    __slots__ = ()


class Lack(str):
    """A paragraph on what a table lacks."""

    __slots__ = ()


class Notes(str):
    """A paragraph of numbered notes that the cells of a table refer to, one a line."""

    __slots__ = ()


class Bold(str):
    """The text of a cell that stands out."""

    __slots__ = ()


@dataclass(frozen=True)
class Table:
    """Rows of text under a header; the first column is a label, the others are figures but for ``words``."""

    title: str
    header: list[str]
    rows: list[list[str]]
    caption: str = ""
    level: int = 1
    """1 for a leaderboard, 2 for what belongs to it."""
    expendable: Sequence[str] = field(default=())
    """Columns that a narrow terminal leaves out, in this order."""
    legend: str = ""
    """What the figures are, in formats that do not say so below all tables."""
    above: Sequence[str] = field(default=())
    """Paragraphs between title and rows."""
    band: frozenset[int] = frozenset()
    """The rows that tie with the best."""
    rule: int | None = None
    """Number of rows above a rule; None for no rule."""
    keys: Sequence[str] = field(default=())
    """Of each row the BibTeX key of its paper, empty for none; none at all where there are no papers."""
    subordinate: frozenset[int] = frozenset()
    """Rows that belong to the one above them."""
    further: Sequence[str] = field(default=())
    """Of each row what stands behind its label where there is room, e.g. "+13 settings"; none at all: nothing."""
    words: Sequence[str] = field(default=())
    """Further columns that hold words, which are aligned to the left."""

    @property
    def alignment(self) -> list[str]:
        """Of each column "left" or "right"."""
        return ["left", *("left" if name in self.words else "right" for name in self.header[1:])]

    def without_expendable(self, too_wide: Callable[["Table"], bool]) -> tuple["Table", list[str]]:
        """The table without the columns that are one too many, and their names.

        Args:
            too_wide: says whether a table needs more room than there is.
        """
        table, left_out = self, []
        waiting = [name for name in self.expendable if name in self.header]
        while waiting and too_wide(table):
            left_out.append(waiting.pop(0))
            place = table.header.index(left_out[-1])
            rows = [row[:place] + row[place + 1 :] for row in table.rows]
            table = replace(table, header=table.header[:place] + table.header[place + 1 :], rows=rows)
        return table, left_out


@dataclass(frozen=True)
class Folded:
    """What a reader opens when needed: tables and paragraphs under a heading."""

    summary: str
    blocks: Callable[[], Sequence["Table | str"]]
    """Makes them: a terminal does not show them, and in a report of many tables they take long."""


Block = Table | str | Folded
"""A table, a paragraph between tables, or what is folded."""
