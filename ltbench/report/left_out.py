"""Results that a report does not show, named and counted: nothing is dropped silently."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ltbench.printable import printable_name
from ltbench.report.collection import Collection, same_runs


@dataclass(frozen=True)
class LeftOut:
    """A result file that no table has a row of."""

    kind: str
    message: str


def left_out(stored: Collection) -> list[LeftOut]:
    """Files that cannot be read, and runs that are not done, have not looked at the test set, or are there twice.

    Two files of one run that contradict each other are both left out.
    """
    found = [LeftOut("folders not readable", problem) for problem in stored.unreadable]
    found += [LeftOut("not readable", problem) for problem in stored.problems]
    found += [LeftOut("in conflict with another of the same run", conflict) for conflict in stored.conflicts]
    first = {other: same[0] for same in map(sorted, same_runs(stored.results)) for other in same[1:]}
    for run_id, result in sorted(stored.results.items()):
        if result.status == "done" and result.test is not None and run_id not in first:
            continue
        place = f"{printable_name(str(stored.paths[run_id]))}: "
        if result.status != "done":
            found.append(LeftOut(result.status, f"{place}{result.status}: {result.reason}"))
        elif result.test is None:
            found.append(LeftOut(_NOT_TESTED, f"{place}has no figures on the test set"))
        else:
            found.append(LeftOut("of the settings and seed of another", f"{place}the same run as {first[run_id]}"))
    return found


_NOT_TESTED = "not tested"
_OF_SEARCHES = {
    _NOT_TESTED: "have no figures on the test set, e.g. trials of a search",
    "pruned": "are pruned trials of a search",
}
"""Kinds of which a search has dozens, in the words for many of them."""
_SHOWN = 3
"""Largest number of each of these that have a line each."""


def messages(found: Sequence[LeftOut]) -> list[str]:
    """The messages, those of many trials of searches as one.

    Args:
        found: what ``left_out`` gives.
    """
    numbers = Counter(one.kind for one in found)
    many = [kind for kind in _OF_SEARCHES if numbers[kind] > _SHOWN]
    shown = [one.message for one in found if one.kind not in many]
    for kind in many:
        first = next(one.message for one in found if one.kind == kind).partition(": ")[0]
        shown.append(f"{numbers[kind]} runs {_OF_SEARCHES[kind]}; the first: {first}")
    return shown


def counted(stored: Collection, found: Sequence[LeftOut] | None = None) -> str:
    """For example "93 result files; left out: 2 not readable, 1 failed.".

    Args:
        stored: what was read.
        found: what ``left_out`` says of it, where that is known.
    """
    counts = Counter(one.kind for one in (left_out(stored) if found is None else found))
    twice = stored.files - len(stored.results) - len(stored.problems) - len(stored.conflicts)
    words = [f"{number} {kind}" for kind, number in counts.items()]
    words += [f"{twice} of runs that stand there twice"] if twice else []
    files = f"{stored.files} result file{'s' * (stored.files != 1)}"
    return f"{files}; left out: {', '.join(words) or 'none'}."
