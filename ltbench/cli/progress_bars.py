"""How far runs and work on large files are: bars on a terminal, lines now and then where output is redirected."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType

from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column

from ltbench.cli.console import print_text
from ltbench.cli.output import echo_stderr
from ltbench.progress import LOADING, ProgressListener, ProgressUpdate
from ltbench.report.terminal import Terminal

BETWEEN_LINES = 30.0
"""Seconds between two reports where standard error is no terminal."""
LONG = 3.0
"""Seconds of work on a file before the first of these."""


def time_left(seconds: float) -> str:
    """A time as minutes and seconds, e.g. "0:40"; hours or days where there are some."""
    whole = timedelta(seconds=round(seconds))
    minutes, rest = divmod(whole.seconds, 60)
    if whole.days:
        return f"{whole.days} d {minutes // 60} h"
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"


@dataclass
class _Run:
    """A run under way."""

    message: str = ""
    shown: float = 0.0
    """The part of what it does now that is done."""
    loss: float | None = None
    fraction: float = 0.0
    """The part of its training that is done."""
    began_at: float | None = None
    """The part that was done when this command took it up; None: it does not train yet."""
    since: float = 0.0
    """When that was, in seconds of the monotonic clock."""

    @property
    def trained(self) -> float:
        """The part of its training that was done here."""
        return 0.0 if self.began_at is None else self.fraction - self.began_at

    @property
    def left(self) -> float | None:
        """Seconds that it still takes at its speed so far; None at its beginning."""
        return (time.monotonic() - self.since) * (1 - self.fraction) / self.trained if self.trained > 0 else None


class RunProgress:
    """Progress of a list of runs. As a context, it shows a row a run on a terminal, else a line every 30 s.

    Args:
        count: number of runs.
        name: gives the name of a run by its position in the list.
        kind: what one is called, e.g. "run" or "trial".
    """

    def __init__(self, count: int, name: Callable[[int], str], kind: str = "run") -> None:
        self.count, self.name, self.kind = count, name, kind
        self.best = ""
        """A few words on the best one so far."""
        self._runs: dict[int, _Run] = {}
        self._ended, self._trained, self._skipped = 0, 0.0, 0
        self._began = 0.0
        """When the first of them began to train, in seconds of the monotonic clock."""
        self._lock, self._over = threading.RLock(), threading.Event()
        self._bars: Progress | None = _run_bars() if sys.stderr.isatty() else None
        self._rows: dict[int, TaskID] = {}
        self._total: TaskID | None = None

    def __enter__(self) -> "RunProgress":
        if self._bars is None:
            threading.Thread(target=self._report_now_and_then, daemon=True).start()
        else:
            if self.count > 1:
                self._total = self._bars.add_task("", total=1.0, what="", loss="", left="")
                self._draw_total()
            self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        if self._bars is not None:
            self._bars.stop()

    def skip(self, count: int) -> None:
        """Note that some have ended before this command."""
        self._ended = self._skipped = count
        self._draw_total()

    def listener(self, update: ProgressUpdate) -> None:
        """Take an update; a run has ended when its update has no message."""
        with self._lock:
            if update.message:
                self._note(update)
            elif update.run in self._runs:
                self._ended += 1
                self._trained += self._runs.pop(update.run).trained
                if self._bars is not None:
                    self._bars.remove_task(self._rows.pop(update.run))
            self._draw_total()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Show no bars for a while, so that others may print."""
        with self._lock:
            if self._bars is not None:
                self._bars.stop()
            yield
            if self._bars is not None:
                self._bars.start()

    def print_result(self, text: str) -> None:
        """Print rich's markup for one that has ended to standard output, above the bars."""
        with self.paused():
            print_text(text)
            self._draw_total()

    def lines(self) -> list[str]:
        """A line for every run under way."""
        with self._lock:
            return [self._line(position, run) for position, run in sorted(self._runs.items())]

    def _note(self, update: ProgressUpdate) -> None:
        run = self._runs.setdefault(update.run, _Run())
        run.message = update.message.removeprefix("train, ")  # the only stage of most methods
        run.shown, run.loss = update.fraction, update.loss
        trains = update.total == 1.0 and update.message != LOADING  # else it counts images or bytes before it trains
        base_has_ended = update.fraction < run.fraction if trains else run.fraction == 1
        if base_has_ended:  # the run that it starts from
            run.began_at, run.fraction = None, 0.0
        if trains:
            run.fraction = update.fraction
            if run.began_at is None:
                run.began_at, run.since = run.fraction, time.monotonic()
                # What is done once before, such as the features of a frozen network, says nothing of the other runs.
                if not self._trained and not any(one.trained for one in self._runs.values()):
                    self._began = run.since
        if self._bars is None:
            return
        if update.run not in self._rows:
            self._rows[update.run] = self._bars.add_task("", total=1.0, what="", loss="", left="")
        self._bars.update(
            self._rows[update.run],
            description=self._numbered(update.run),
            completed=run.shown,
            what=run.message,
            loss="" if run.loss is None else f"loss {run.loss:.2f}",
            left=_left(run.left),
        )

    def _numbered(self, position: int) -> str:
        return f"{position + self._skipped + 1}/{self.count} {self.name(position)}"

    def _left(self) -> float | None:
        """Seconds until all have ended, if each takes as long as those before it; None at the beginning."""
        done = self._trained + sum(run.trained for run in self._runs.values())
        left = max(self.count - self._ended - sum(run.fraction for run in self._runs.values()), 0.0)
        if done <= 0:
            return None
        # One under way may be slower than those before it.
        own = [run.left or 0.0 for run in self._runs.values()]
        return max([(time.monotonic() - self._began) * left / done, *own])

    def _draw_total(self) -> None:
        if self._bars is None or self._total is None:
            return
        done = self._ended + sum(run.fraction for run in self._runs.values())
        self._bars.update(
            self._total,
            description=f"{self._ended} of {self.count} {self.kind}s done",
            completed=done / self.count,
            what=self.best,
            left=_left(self._left()),
        )

    def _line(self, position: int, run: _Run) -> str:
        parts = [f"{self.kind} {self._numbered(position)}", run.message]
        parts += [] if run.loss is None else [f"loss {run.loss:.2f}"]
        whole = self._left() if self.count > 1 else None
        if run.left is not None:
            all_left = "" if whole is None else f" ({time_left(whole)} for all {self.count})"
            parts.append(f"{time_left(run.left)} left{all_left}")
        return ", ".join([*parts, self.best] if self.best else parts)

    def _report_now_and_then(self) -> None:
        while not self._over.wait(BETWEEN_LINES):
            with suppress(OSError, ValueError):  # nobody reads it any more
                for line in self.lines():
                    echo_stderr(line)


def _told_in_lines() -> ProgressListener:
    """A listener that writes a line for each piece of work that takes long, and one every 30 s."""
    told: dict[str, float] = {}

    def listener(update: ProgressUpdate) -> None:
        now = time.monotonic()
        if now - told.setdefault(update.message, now - BETWEEN_LINES + LONG) >= BETWEEN_LINES:
            done = f": {update.done / update.total:.0%}" if update.total else ""
            echo_stderr(f"{update.message}{done}")
            told[update.message] = now

    return listener


def _left(seconds: float | None) -> str:
    return "" if seconds is None else f"{time_left(seconds)} left"


def _run_bars() -> Progress:
    def text(field: str, width: int | None = None, justify: str = "left") -> ProgressColumn:
        column = Column(no_wrap=True, overflow="ellipsis", max_width=width, justify=justify)  # type: ignore[arg-type]
        return TextColumn(f"{{task.{field}}}", table_column=column, markup=False)

    return _bars(
        text("description", 30),
        text("fields[what]", 30),
        BarColumn(bar_width=10),
        TaskProgressColumn(table_column=Column(justify="right", no_wrap=True)),
        text("fields[loss]"),
        text("fields[left]", justify="right"),
    )


def _bars(*columns: ProgressColumn) -> Progress:
    """Bars on standard error; none where that is no terminal."""
    return Progress(
        *columns,
        console=Terminal(stderr=True),
        transient=True,
        redirect_stdout=False,  # results go to standard output, which this would send to standard error
        disable=not sys.stderr.isatty(),
    )


@contextmanager
def file_bars() -> Iterator[ProgressListener]:
    """A listener that shows a bar for each piece of work on large files, such as a download.

    Where standard error is no terminal, it tells a line once a piece of work takes long, and one every 30 s.
    """
    if not sys.stderr.isatty():
        yield _told_in_lines()
        return
    columns = (TextColumn("{task.description:<28}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with _bars(*columns) as bars:
        tasks: dict[str, TaskID] = {}

        def listener(update: ProgressUpdate) -> None:
            if update.message not in tasks:
                tasks[update.message] = bars.add_task(update.message)
            bars.update(tasks[update.message], completed=update.done, total=update.total or None)

        yield listener
