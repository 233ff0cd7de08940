"""Progress bars of runs under way, and of work on large files."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn

from ltbench.cli.console import console
from ltbench.data.prepare.download import Watch
from ltbench.report.terminal import Terminal
from ltbench.runs.launchers.local import RunWatch


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


def run_bars(bars: Progress, name: Callable[[int], str]) -> RunWatch:
    """A listener that shows a bar for each run under way.

    Args:
        bars: to add them to.
        name: gives the name of a run by its position in the list.
    """
    tasks: dict[int, TaskID] = {}

    def listen(position: int, fraction: float, words: str) -> None:
        if words and position not in tasks:
            tasks[position] = bars.add_task("", total=1.0)
        if words:
            bars.update(tasks[position], completed=fraction, description=f"{name(position)}: {words}")
        elif position in tasks:
            bars.remove_task(tasks.pop(position))

    return listen


@contextmanager
def file_bars() -> Iterator[Watch]:
    """A listener that shows a bar for each piece of work on large files, such as a download."""
    with progress_bars() as bars:
        tasks: dict[str, TaskID] = {}

        def listen(words: str, done: int, of: int) -> None:
            if words not in tasks:
                tasks[words] = bars.add_task(words)
            bars.update(tasks[words], completed=done, total=of or None)

        yield listen
