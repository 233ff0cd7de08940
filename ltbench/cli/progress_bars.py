"""Progress bars of runs under way, and of work on large files."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn

from ltbench.cli.console import console
from ltbench.progress import ProgressListener, ProgressUpdate
from ltbench.report.terminal import Terminal


def progress_bars() -> Progress:
    """Bars on standard error; none where that is no terminal."""
    parts = (TextColumn("{task.description:<28}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    return Progress(
        *parts,
        console=Terminal(stderr=True),
        transient=True,
        redirect_stdout=False,  # results go to standard output, which this would send to standard error
        disable=not sys.stderr.isatty(),
    )


def print_above(bars: Progress, text: str) -> None:
    """Print rich's markup to standard output, above the bars."""
    bars.stop()
    console.print(text)
    bars.start()


def run_bars(bars: Progress, name: Callable[[int], str]) -> ProgressListener:
    """A listener that shows a bar for each run under way; a run has ended when its update has no message.

    Args:
        bars: to add them to.
        name: gives the name of a run by its position in the list.
    """
    tasks: dict[int, TaskID] = {}

    def listener(update: ProgressUpdate) -> None:
        if update.message and update.run not in tasks:
            tasks[update.run] = bars.add_task("", total=1.0)
        if update.message:
            description = f"{name(update.run)}: {update.message}"
            bars.update(tasks[update.run], completed=update.fraction, description=description)
        elif update.run in tasks:
            bars.remove_task(tasks.pop(update.run))

    return listener


@contextmanager
def file_bars() -> Iterator[ProgressListener]:
    """A listener that shows a bar for each piece of work on large files, such as a download."""
    with progress_bars() as bars:
        tasks: dict[str, TaskID] = {}

        def listener(update: ProgressUpdate) -> None:
            if update.message not in tasks:
                tasks[update.message] = bars.add_task(update.message)
            bars.update(tasks[update.message], completed=update.done, total=update.total or None)

        yield listener
