"""The command line: one file per command or group of commands, which parses, calls and prints.

Heavy imports stand inside the commands, so that ``--help`` is fast.
"""

import gc
import os
import signal
import sys
import warnings
from collections.abc import Callable
from functools import cache
from typing import Annotated, Any

import typer
from typer.main import get_command

from ltbench import __version__
from ltbench.cli import (
    bench,
    check,
    data,
    deploy,
    doctor,
    estimate,
    evaluate,
    external,
    listing,
    report,
    run,
    show,
    task,
    tune,
    watch,
)
from ltbench.cli.command import Command
from ltbench.cli.error_message import TRACEBACK, error_message
from ltbench.cli.output import echo_stderr
from ltbench.cli.streams import check_folder, flush_output, prepare_streams
from ltbench.errors import LtbenchError, LtbenchNotice, LtbenchWarning

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
data_app = typer.Typer(help="Download, check, list and export data sets.", no_args_is_help=True)
app.add_typer(data_app, name="data")

for command in (
    run.run,
    tune.tune,
    estimate.estimate,
    evaluate.evaluate,
    external.score,
    external.import_checkpoint,
    deploy.predict,
    deploy.export,
    report.report,
    show.show,
    watch.watch,
    doctor.doctor,
    bench.bench,
    check.check,
):
    app.command(cls=Command)(command)
app.command(cls=Command, hidden=True)(task.task)
app.command("list", cls=Command)(listing.list_names)
data_app.command(cls=Command)(data.prepare)
data_app.command(cls=Command)(data.verify)
data_app.command(cls=Command)(data.order)
data_app.command(cls=Command)(data.export)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"ltbench {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Compare methods for long-tailed recognition: one interface, one recipe, honest numbers."""


@cache
def click_command() -> Any:
    """The command that typer makes of all signatures, which takes longer than many a command: once a process."""
    return get_command(app)


def main() -> None:
    """Run the ``ltbench`` command; an error is one message, without a traceback unless LTBENCH_TRACEBACK is set.

    Exit codes: 0; 1 where a run has failed, or ltbench itself; 2 for bad input or a bad environment; 130 after Ctrl-C.
    """
    gc.set_threshold(10_000)  # importing torch makes so many objects that the usual 700 cost half a second
    prepare_streams()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    warnings.showwarning = _show_warning(warnings.showwarning)
    try:
        _call()
    except SystemExit as ended:
        if ended.code == 130:  # typer's for a KeyboardInterrupt
            echo_stderr(
                "ltbench: interrupted; the same command resumes from the last checkpoint (without --rerun), "
                "or most downloads where they stopped"
            )
        raise


def _call() -> None:
    """Carry out the command of the command line; always ends with SystemExit."""
    try:
        try:
            check_folder()
            click_command()()
        finally:
            flush_output()
    except BrokenPipeError:  # the reader has seen enough, e.g. head
        sys.exit(1)
    except LtbenchError as error:
        echo_stderr(f"ltbench: {error}")
        sys.exit(2)
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:  # code of others may raise anything
        message, code = error_message(error)
        if code == 1 and os.environ.get(TRACEBACK):
            raise
        echo_stderr(f"ltbench: {message}")
        sys.exit(code)


def _show_warning(others: Callable[..., None]) -> Callable[..., None]:
    said: set[str] = set()  # by several processes, perhaps

    def show_one(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
        if not issubclass(category, LtbenchWarning | LtbenchNotice):
            others(message, category, *rest, **more)
        elif str(message) not in said:
            said.add(str(message))
            echo_stderr(f"ltbench: note: {message}")

    return show_one
