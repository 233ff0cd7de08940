"""What a report consists of: for each leaderboard its tables, and at the end what explains them."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from ltbench.errors import unknown
from ltbench.report.advice import advise
from ltbench.report.board import Board
from ltbench.report.collection import Collection
from ltbench.report.left_out import counted
from ltbench.report.reasons import split_reasons
from ltbench.report.render import Part
from ltbench.report.reported import HEADER, cells, notes, reported
from ltbench.report.shift import shift_tables
from ltbench.report.table import DIFFERENCES_NOTE, NOTE, Table, differences, leaderboard


def _reported(board: Board, stored: Collection) -> list[Part]:
    found = reported([board], stored)
    if not len(found):
        return []
    title = f"Reported and measured: {board.title}"
    return [Table(title, list(HEADER), cells(found), level=2, expendable=["Note"]), "\n".join(notes(found))]


PARTS: Mapping[str, Callable[[Board, Collection], Sequence[Part]]] = {
    "leaderboard": lambda board, _: [leaderboard(board)],
    "differences": lambda board, _: [differences(board)],
    "advice": lambda board, stored: [f"{board.title}: {advise(board, stored)}"],
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
    boards: Sequence[Board], stored: Collection, names: Sequence[str] = USUAL, read: Collection | None = None
) -> Iterator[Part]:
    """Tables and paragraphs of a report, in order.

    Args:
        boards: the leaderboards.
        stored: what they are made of.
        names: the parts that are wanted, of ``PARTS``.
        read: all that was read, if ``stored`` is a part of it.
    """
    for board in boards:
        for name in names:
            if name != "advice":
                yield from PARTS[name](board, stored)
    yield from (_NOTES[name] for name in names if name in _NOTES)
    yield from split_reasons(boards)
    yield counted(read or stored)
    if "advice" in names:  # at the end, where a terminal shows it, and that of the largest table last
        for board in sorted(boards, key=lambda board: len(board.rows)):
            yield from PARTS["advice"](board, stored)
