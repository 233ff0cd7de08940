"""The view of ``ltbench watch``: running, interrupted, failed and finished runs in a terminal of any size."""

import time
from collections.abc import Callable, Mapping, Sequence, Sized
from datetime import UTC, datetime
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ltbench.printable import printable_name
from ltbench.runs.monitor.heartbeat import Heartbeat
from ltbench.runs.monitor.jobs import FinishedRun, InterruptedRun, RunIndex, RunOverview, WaitingRun
from ltbench.runs.run_names import RunNames

QUIET = 60.0
"""Seconds without a heartbeat that are worth a word."""
MANY = 20
"""Runs of a kind that are shown where the terminal sets no limit."""
WIDE = 100
"""Columns from which on there is room for more figures."""
ROOMY = 20
"""Lines from which on there is room for empty ones."""
NOTHING = "Nothing is under way, and there are no results yet: ltbench run starts a run, --results names a folder."


def follow(index: RunIndex, console: Console, interval: float) -> None:
    """Show what there is, again and again, until interrupted.

    Args:
        index: of the runs that are looked at.
        console: to show them on.
        interval: seconds between two looks.
    """
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            overview = index.look()
            live.update(render(overview, datetime.now(UTC), console.width, console.height), refresh=True)
            time.sleep(interval)


def render(overview: RunOverview, now: datetime, width: int, height: int | None = None) -> RenderableType:
    """The view at one moment.

    Args:
        overview: what there is.
        now: the moment.
        width: columns of the terminal.
        height: its lines; None where there is no limit.
    """
    waiting: dict[str, Sequence[Any]] = {"waiting": overview.waiting} if overview.waiting else {}
    runs: dict[str, Sequence[Any]] = {
        **waiting,
        "running": overview.running,
        "interrupted": overview.interrupted,
        "failed": overview.failed,
        "done": overview.done,
    }
    there = {kind: some for kind, some in runs.items() if some}
    gap = [] if height is not None and height < ROOMY else [""]
    foot = _problems(overview.problems)
    lines = None if height is None else height - 1 - len(foot) - len(there) * (1 + len(gap))
    shown = {kind: there[kind][:count] for kind, count in _fitting(there, lines).items()}
    names = RunNames([run.config for some in shown.values() for run in some])
    parts: list[RenderableType] = [_head(runs, names.common)]
    for kind, some in shown.items():
        all_of_them = len(some) == len(there[kind])
        title = kind if all_of_them else f"{kind}, {len(some)} latest of {len(there[kind])}"
        parts += [*gap, _TABLES[kind](title, some, names, now, width)]
    return Group(*parts, *([] if there else [NOTHING]), *foot)


def _fitting(runs: Mapping[str, Sized], lines: int | None) -> dict[str, int]:
    """How many of each kind are shown: at least one, the first kinds before the others."""
    fitting = {}
    for number, (kind, some) in enumerate(runs.items()):
        if lines is None:
            fitting[kind] = min(len(some), MANY)
        else:
            fitting[kind] = max(1, min(len(some), lines - (len(runs) - number - 1)))
            lines -= fitting[kind]
    return fitting


def _head(runs: Mapping[str, Sized], common: str) -> Table:
    counts = [Text(f"{len(some)} {kind}", style=_STYLES[kind] if some else "") for kind, some in runs.items()]
    head = Table.grid(padding=(0, 2, 0, 0), expand=True)
    head.add_column(no_wrap=True)
    head.add_column(justify="right")
    head.add_row(Text(", ").join(counts), _line(common, "dim"))
    return head


def _problems(messages: Sequence[str]) -> list[RenderableType]:
    if not messages:
        return []
    text = f"left out: {len(messages)} unreadable file{'s' if len(messages) > 1 else ''}, e.g. {messages[0]}"
    return [_line(" ".join(text.split()), "yellow")]


def _table(title: str, kind: str, *columns: str, words: int = 0) -> Table:
    """A table for a kind of runs: their names, then columns of figures, but for the first few, which are of words."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column(_line(title, f"bold not dim {_STYLES[kind]}"))
    for number, column in enumerate(columns):
        table.add_column(column, no_wrap=number >= words, justify="left" if number < words else "right")
    return table


def _line(text: str, style: str = "") -> Text:
    """Words that are cut where there is no room; a column of them shrinks before those that may not wrap."""
    return Text(printable_name(text), style, no_wrap=True, overflow="ellipsis")


def _running(title: str, runs: Sequence[Heartbeat], names: RunNames, now: datetime, width: int) -> Table:
    wide = ["images/s", "process"] if width >= WIDE else []
    table = _table(title, "running", "", "", "", "left", "loss", *wide, words=2)
    for run in runs:
        quiet = (now - run.seen).total_seconds()
        words = _line(f"silent for {_span(quiet)}", "yellow") if quiet > QUIET else _line(run.words)
        bar = ProgressBar(total=1.0, completed=run.fraction, width=max(10, width // 6))
        figures = [_percent(run.fraction), _span(run.seconds_left(now)), "" if run.loss is None else f"{run.loss:.3f}"]
        if wide:
            figures += ["" if run.images_per_second is None else f"{run.images_per_second:.0f}", str(run.process)]
        table.add_row(_line(names(run.config)), words, bar, *figures)
    return table


def _waiting(title: str, runs: Sequence[WaitingRun], names: RunNames, now: datetime, width: int) -> Table:
    table = _table(title, "waiting", "", "", words=1)
    for run in runs:
        table.add_row(_line(names(run.config)), _line(run.words), _ago(run.at, now))
    return table


def _interrupted(title: str, runs: Sequence[InterruptedRun], names: RunNames, now: datetime, width: int) -> Table:
    table = _table(title, "interrupted", "", "", words=1)
    for run in runs:
        where = "" if run.fraction is None else f"at {_percent(run.fraction)}; "
        how = "the same command resumes" if run.saved else "the same command starts anew"
        table.add_row(_line(names(run.config)), _line(where + how), _ago(run.at, now))
    return table


def _failed(title: str, runs: Sequence[FinishedRun], names: RunNames, now: datetime, width: int) -> Table:
    table = _table(title, "failed", "", "", words=1)
    for run in runs:
        table.add_row(_line(names(run.config)), _line(run.reason or ""), _ago(run.at, now))
    return table


def _done(title: str, runs: Sequence[FinishedRun], names: RunNames, now: datetime, width: int) -> Table:
    table = _table(title, "done", "top-1", "ECE", "trained", "ended")
    for run in runs:
        note = " (pruned)" if run.status == "pruned" else " (validation)" if run.validation else ""
        name = _line(names(run.config) + note)
        figures = ["n/a" if value is None else f"{value:.2f}" for value in (run.top1, run.ece)]
        table.add_row(name, *figures, _span(run.seconds), _ago(run.at, now))
    return table


_TABLES: dict[str, Callable[[str, Any, RunNames, datetime, int], Table]] = {
    "waiting": _waiting,
    "running": _running,
    "interrupted": _interrupted,
    "failed": _failed,
    "done": _done,
}
_STYLES = {"waiting": "blue", "running": "cyan", "interrupted": "yellow", "failed": "red", "done": "green"}


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.0f} %"


def _ago(then: datetime, now: datetime) -> str:
    return f"{_span(max(0.0, (now - then).total_seconds()))} ago"


def _span(seconds: float | None) -> str:
    """A length of time, short."""
    if seconds is None:
        return ""
    for unit, size, limit in (("s", 1, 120), ("min", 60, 7200), ("h", 3600, 172800)):
        if seconds < limit:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86400:.0f} days"
