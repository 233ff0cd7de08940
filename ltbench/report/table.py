"""What a report consists of before it is rendered: tables, and paragraphs of some kinds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field


class Command(str):
    """A paragraph that is a command, to be copied."""

    __slots__ = ()


class Lack(str):
    """A paragraph on what a table lacks."""

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


@dataclass(frozen=True)
class Folded:
    """What a reader opens when needed: tables and paragraphs under a heading."""

    summary: str
    blocks: Callable[[], Sequence["Table | str"]]
    """Makes them: a terminal does not show them, and in a report of many tables they take long."""
