"""The order of a report: the tables of each leaderboard, then notes, and advice at the end."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from ltbench.errors import unknown
from ltbench.report.advice import advise
from ltbench.report.collection import Collection
from ltbench.report.label_shift import shift_tables
from ltbench.report.leaderboard import Leaderboard
from ltbench.report.leaderboard_table import DIFFERENCES_NOTE, NOTE, Table, differences_table, leaderboard_table
from ltbench.report.left_out import counted
from ltbench.report.render import Block
from ltbench.report.reported import HEADER, cells, notes, reported
from ltbench.report.split_reasons import split_reasons


def _reported(leaderboard: Leaderboard, stored: Collection) -> list[Block]:
    found = reported([leaderboard], stored)
    if not len(found):
        return []
    title = f"Reported and measured: {leaderboard.title}"
    return [Table(title, list(HEADER), cells(found), level=2, expendable=["Note"]), "\n".join(notes(found))]


PARTS: Mapping[str, Callable[[Leaderboard, Collection], Sequence[Block]]] = {
    "leaderboard": lambda leaderboard, _: [leaderboard_table(leaderboard)],
    "differences": lambda leaderboard, _: [differences_table(leaderboard)],
    "advice": lambda leaderboard, stored: [f"{leaderboard.title}: {advise(leaderboard, stored)}"],
    "shift": shift_tables,
    "reported": _reported,
}
USUAL = ("leaderboard", "differences", "advice")
_NOTES = {"leaderboard": NOTE, "differences": DIFFERENCES_NOTE}


def parse_parts(text: str | None) -> list[str]:
    """The parts that a list by commas names, in their order; "all" for all.

    Raises:
        LtbenchError: for one that is not there.
    """
    asked = USUAL if text is None else tuple(PARTS) if text == "all" else tuple(text.split(","))
    for name in asked:
        if name not in PARTS:
            raise unknown("part", name, PARTS, where="--parts")
    return [name for name in PARTS if name in asked]


def contents(
    leaderboards: Sequence[Leaderboard],
    stored: Collection,
    names: Sequence[str] = USUAL,
    read: Collection | None = None,
) -> Iterator[Block]:
    """Tables and paragraphs of a report, in order.

    Args:
        leaderboards: the leaderboards.
        stored: what they are made of.
        names: the parts that are wanted, of ``PARTS``.
        read: all that was read, if ``stored`` is a part of it.
    """
    for leaderboard in leaderboards:
        for name in names:
            if name != "advice":
                yield from PARTS[name](leaderboard, stored)
    yield from (_NOTES[name] for name in names if name in _NOTES)
    yield from split_reasons(leaderboards)
    yield counted(read or stored)
    if "advice" in names:  # at the end, where a terminal shows it, and that of the largest table last
        for leaderboard in sorted(leaderboards, key=lambda leaderboard: len(leaderboard.rows)):
            yield from PARTS["advice"](leaderboard, stored)
