"""ltbench watch."""

import math
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from ltbench.cli.options import ResultFolders
from ltbench.errors import LtbenchError


def watch(
    results: ResultFolders = None,
    once: Annotated[
        bool, typer.Option("--once", help="Print what there is now and end, as always where the output is no terminal")
    ] = False,
    interval: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks")] = 1.0,
) -> None:
    """Show runs that are under way in another terminal, stopped, failed and done; Ctrl-C ends it, not the runs."""
    if not math.isfinite(interval):
        raise LtbenchError(f"{interval} is no number of seconds", where="--interval", hint="give a finite number")
    with suppress(KeyboardInterrupt):
        from datetime import UTC, datetime

        from ltbench import paths
        from ltbench.report.terminal import Terminal
        from ltbench.runs.monitor import watch as view
        from ltbench.runs.monitor.jobs import RunIndex

        console = Terminal()
        lookout = RunIndex(paths.cache_dir(), results or [Path("results")])
        if once or not sys.stdout.isatty():
            console.print(view.render(lookout.look(), datetime.now(UTC), console.width))
        else:
            view.follow(lookout, console, interval)
