"""The standard streams and the current folder, made safe before a command begins."""

import codecs
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from ltbench.errors import LtbenchError

_IN_ASCII = {"─": "-", "━": "=", "│": "|", "±": "+-", "≈": "~", "×": "x", "→": "->", "…": "...", "–": "-", "█": "#"}


def _replace_unencodable(error: UnicodeError) -> tuple[str, int]:
    """The characters that an encoding lacks: the signs of tables by others like them, letters by escapes."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    plain = [_IN_ASCII.get(one) or one.encode("ascii", "backslashreplace").decode() for one in lacking]
    return "".join(plain), error.end


codecs.register_error("ltbench", _replace_unencodable)


def prepare_streams() -> None:
    """Let output not fail for a character or a closed stream.

    What an encoding lacks is printed as an escape, or as a sign like it. A closed standard output is replaced by the
    null device, under its own number: the next file that is opened would get it otherwise, and what libraries print.
    """
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream: TextIO | None = getattr(sys, name)
        if stream is None:
            with suppress(OSError):
                _discard(number)
                setattr(sys, name, os.fdopen(number, "w", encoding="utf-8", errors="ltbench", closefd=False))
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="ltbench")


def check_folder() -> None:
    """Refuse to work in a folder that has been removed, in which PyTorch would end the process.

    Raises:
        LtbenchError: if so.
    """
    try:
        Path.cwd()
    except OSError:
        hint = "change to a folder that exists"
        raise LtbenchError("the current folder has been removed", hint=hint) from None


def flush_output() -> None:
    """Flush standard output.

    Raises:
        OSError: if it cannot be written; it is discarded then, so that the interpreter does not try again.
    """
    try:
        sys.stdout.flush()
    except OSError:
        with suppress(OSError, ValueError):
            _discard(sys.stdout.fileno())
        raise


def _discard(number: int) -> None:
    """Redirect a file descriptor to the null device."""
    null = os.open(os.devnull, os.O_WRONLY)
    if null != number:
        os.dup2(null, number)
        os.close(null)
