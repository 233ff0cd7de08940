"""Text of a command: standard output, standard error, or a file."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

from ltbench.printable import printable


def echo(text: object) -> None:
    """Print to standard output; control characters are printed as escapes."""
    typer.echo(printable(str(text)))


def echo_stderr(text: str) -> None:
    """Print to standard error; control characters are printed as escapes."""
    typer.echo(printable(text), err=True)


@contextmanager
def getting_ready(command: str) -> Iterator[None]:
    """Say on a terminal what a command begins with: importing PyTorch takes seconds. The line is removed afterwards.

    Args:
        command: e.g. "run".
    """
    terminal = sys.stderr.isatty()
    if terminal:
        sys.stderr.write(f"ltbench {command}: loading PyTorch ...")
        sys.stderr.flush()
    try:
        yield
    finally:
        if terminal:
            sys.stderr.write("\r\x1b[2K")  # erases the line
            sys.stderr.flush()


def write_output(text: str, output: Path | None) -> None:
    """Write text to a file, or to standard output for None."""
    if output is not None:
        from ltbench.files.output import write_text

        write_text(output, text)
    else:
        sys.stdout.write(printable(text) if sys.stdout.isatty() else text)
