"""The command line: parses, calls, prints. Heavy imports wait inside the commands, so that --help is fast."""

import os
import signal
import sys
import warnings
from collections.abc import Callable
from typing import Any

import typer

from ltbench.cli import bench, check, data, doctor, evaluation, listing, models, planning, reporting, training, watching
from ltbench.cli.command import TRACEBACK, Command, check_folder, explained, flush_output, prepare_streams
from ltbench.cli.options import say
from ltbench.errors import LtbenchError, LtbenchWarning

app = typer.Typer(
    help="Compare methods for long-tailed recognition: one interface, one recipe, honest numbers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(help="Download, set up and check data sets.", no_args_is_help=True)
app.add_typer(data_app, name="data")

for command in (
    training.run,
    training.tune,
    planning.estimate,
    evaluation.evaluate,
    evaluation.score,
    models.import_checkpoint,
    models.predict,
    models.export,
    reporting.report,
    reporting.show,
    watching.watch,
    doctor.doctor,
    bench.bench,
    check.check,
):
    app.command(cls=Command)(command)
app.command("list", cls=Command)(listing.list_names)
data_app.command(cls=Command)(data.prepare)
data_app.command(cls=Command)(data.verify)
data_app.command(cls=Command)(evaluation.order)


def main() -> None:
    """The ``ltbench`` command: errors are one message, and a traceback only for who asks for it.

    Exit codes: 0; 1 where a run has failed, or ltbench itself; 2 for bad input or surroundings; 130 after Ctrl-C.
    """
    prepare_streams()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    warnings.showwarning = _show_warning(warnings.showwarning)
    try:
        _call()
    except SystemExit as ended:
        if ended.code == 130:  # typer's for a KeyboardInterrupt
            say(
                "ltbench: stopped; the same command goes on from the last checkpoint (without --rerun), "
                "a download where it stopped"
            )
        raise


def _call() -> None:
    """Carry out the command of the command line; always ends with SystemExit."""
    try:
        try:
            check_folder()
            app()
        finally:
            flush_output()
    except BrokenPipeError:  # of a reader that has seen enough, e.g. head
        sys.exit(1)
    except LtbenchError as error:
        say(f"ltbench: {error}")
        sys.exit(2)
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:  # code of others may raise anything
        words, code = explained(error)
        if code == 1 and os.environ.get(TRACEBACK):
            raise
        say(f"ltbench: {words}")
        sys.exit(code)


def _show_warning(others: Callable[..., None]) -> Callable[..., None]:
    said: set[str] = set()  # by several processes, perhaps

    def show_one(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
        if not issubclass(category, LtbenchWarning):
            others(message, category, *rest, **more)
        elif str(message) not in said:
            said.add(str(message))
            say(f"ltbench: note: {message}")

    return show_one
