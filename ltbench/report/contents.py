"""The order of a report: of each leaderboard its tables and advice, then notes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from operator import itemgetter

from ltbench.errors import unknown
from ltbench.report.advice import advise
from ltbench.report.answer import answer, best_of_many, default_ahead, remedies, tuned_apart
from ltbench.report.citations import citation_keys
from ltbench.report.collection import Collection
from ltbench.report.label_shift import shift_tables
from ltbench.report.leaderboard import Leaderboard
from ltbench.report.leaderboard_table import DIFFERENCES_NOTE, NOTE, TableOptions, differences_table, leaderboard_table
from ltbench.report.left_out import LeftOut, counted
from ltbench.report.reported import CAPTION, HEADER, cells, notes, reported
from ltbench.report.split_reasons import split_reasons
from ltbench.report.table import Block, Command, Folded, Lack, Notes, Table


def _reported(leaderboard: Leaderboard, stored: Collection) -> list[Table | str]:
    found = reported([leaderboard], stored)
    if not len(found):
        return []
    rows: list[list[str]] = []
    subordinate = set()
    for ours, group in groupby(zip(found["label"], found["n"], cells(found), strict=True), key=itemgetter(0, 1)):
        rows.append([ours[0], f"n = {ours[1]}", *[""] * (len(HEADER) - 2)])
        for *_, row in group:
            subordinate.add(len(rows))
            rows.append(row)
    table = Table(
        f"Reported and measured: {leaderboard.title}",
        list(HEADER),
        rows,
        caption=CAPTION,
        level=2,
        expendable=["Epochs", "Note", "Gap"],
        subordinate=frozenset(subordinate),
        words=["Metric"],
    )
    return [table, Notes("\n".join(notes(found)))]


def _advice(leaderboard: Leaderboard, stored: Collection) -> list[str]:
    return [advise(leaderboard, stored)]


PARTS: Mapping[str, Callable[[Leaderboard, Collection], Sequence[Table | str]]] = {
    "leaderboard": lambda leaderboard, stored: [leaderboard_table(leaderboard, above=above(leaderboard, stored))],
    "differences": lambda leaderboard, _: [differences_table(leaderboard)],
    "advice": _advice,
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


def above(leaderboard: Leaderboard, stored: Collection) -> list[str]:
    """What stands between the title of a table and its rows: a warning, the answer, and what the table lacks."""
    lines = [leaderboard.trained.warning, answer(leaderboard)]
    for lack in remedies(leaderboard, stored):
        lines += [Lack(lack.sentence), *map(Command, lack.commands)]
    return [line for line in lines if line]


def contents(
    leaderboards: Sequence[Leaderboard],
    stored: Collection,
    names: Sequence[str] = USUAL,
    read: Collection | None = None,
    *,
    missing: Sequence[LeftOut] | None = None,
    view: TableOptions | None = None,
    fold: bool = False,
    fold_notes: bool = False,
) -> Iterator[Block]:
    """Tables and paragraphs of a report, in order.

    Args:
        leaderboards: the leaderboards.
        stored: what they are made of.
        names: the parts that are wanted, of ``PARTS``.
        read: all that was read, if ``stored`` is a part of it.
        missing: what ``left_out`` says of it, where that is known.
        view: columns, order and opened methods of the leaderboards.
        fold: whether all but the leaderboards is folded.
        fold_notes: whether what the columns mean is folded.
    """
    keys = citation_keys(stored)
    for leaderboard in leaderboards:
        for name in names:
            if name == "leaderboard":
                table = leaderboard_table(leaderboard, view, above(leaderboard, stored), keys)
                apart = [one(leaderboard) for one in (best_of_many, default_ahead, tuned_apart)]
                yield replace(table, caption=" ".join(filter(None, [*apart, table.caption])))
            elif fold:
                yield Folded(_SUMMARIES[name], partial(PARTS[name], leaderboard, stored))
            elif name == "advice" and "leaderboard" not in names:
                yield f"{leaderboard.title}: {advise(leaderboard, stored)}"
            else:
                yield from PARTS[name](leaderboard, stored)
    notes = [_NOTES[name] for name in names if name in _NOTES]
    yield from [Folded("What the columns mean", lambda: notes)] if fold_notes and notes else notes
    yield from split_reasons(leaderboards)
    yield counted(read or stored, missing)


_SUMMARIES = {
    "differences": "Differences: intervals and paired tests",
    "advice": "What follows for a choice",
    "shift": "Under label shift",
    "reported": "Reported and measured",
}
