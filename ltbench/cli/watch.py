"""ltbench watch."""

import math
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from ltbench.cli.options import ResultFolders
from ltbench.errors import LtbenchError
from ltbench.files.paths import DEFAULT_RESULTS


def watch(
    results: ResultFolders = None,
    once: Annotated[
        bool, typer.Option("--once", help="Print the current state and exit, the default where output is no terminal")
    ] = False,
    jobs: Annotated[Path, typer.Option(help="Folder of job folders, of runs that a scheduler carries out")] = Path(
        "jobs"
    ),
    interval: Annotated[float, typer.Option(min=0.1, help="Seconds between updates")] = 1.0,
) -> None:
    """Show runs under way and ended, live.

    Runs are waiting in a scheduler's queue, running, interrupted, failed or finished. Ctrl-C ends the view, not the
    runs.
    """
    if not math.isfinite(interval):
        raise LtbenchError(f"{interval} is no number of seconds", where="--interval", hint="give a finite number")
    with suppress(KeyboardInterrupt):
        from datetime import UTC, datetime

        from ltbench.files import paths
        from ltbench.report.terminal import Terminal
        from ltbench.runs.monitor import watch as view
        from ltbench.runs.monitor.jobs import RunIndex

        console = Terminal()
        index = RunIndex(paths.cache_dir(), results or [DEFAULT_RESULTS], jobs)
        if once or not sys.stdout.isatty():
            console.print(view.render(index.look(), datetime.now(UTC), console.width))
        else:
            view.follow(index, console, interval)
