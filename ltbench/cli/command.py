"""What all commands have in common: arguments that are refused, the streams, and how a fault is told."""

import codecs
import errno
import math
import os
import sys
import traceback
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

import typer
from typer.core import TyperCommand

from ltbench import paths
from ltbench.errors import LtbenchError, out_of_memory

TRACEBACK = "LTBENCH_TRACEBACK"
"""Environment variable: with any value, an error that ltbench did not expect shows its traceback."""


class Command(TyperCommand):
    """A command that refuses empty values and numbers that are not finite, and that code of others cannot end."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words of the command line.

        Raises:
            typer.BadParameter: also for an empty value, which as a path would mean the current folder, and for NaN and
                infinity.
        """
        given, _, _ = self.make_parser(ctx).parse_args(args=list(args))
        for param in self.params:
            if "" in _several(given.get(str(param.name))):
                raise _refusal(ctx, param.opts, "it is empty; leave it out, or write . if you mean this folder")
        rest = super().parse_args(ctx, args)
        for param in self.params:
            for value in _several(ctx.params.get(str(param.name))):
                if isinstance(value, float) and not math.isfinite(value):
                    raise _refusal(ctx, param.opts, f"{value} is no finite number")
        return list(rest)

    def invoke(self, ctx: Any) -> Any:
        """Carry it out.

        Raises:
            LtbenchError: also where code that ltbench calls, a method file's perhaps, wants to end the process.
        """
        try:
            return super().invoke(ctx)
        except SystemExit as ended:
            last = traceback.extract_tb(ended.__traceback__)[-1]
            raise LtbenchError(
                f"code that ltbench calls wants to end the process: sys.exit({ended.code!r})",
                where=f"{last.filename}, line {last.lineno}",
                hint="raise an error there instead",
            ) from None


def _refusal(ctx: Any, names: list[str], words: str) -> typer.BadParameter:
    return typer.BadParameter(words, ctx=ctx, param_hint=f"'{'/'.join(names)}'")


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
    """Let output fail for no character and no closed stream.

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
    """Refuse to work in a folder that has been removed, where PyTorch ends the process.

    Raises:
        LtbenchError: if so.
    """
    try:
        Path.cwd()
    except OSError:
        hint = "change to a folder that is there"
        raise LtbenchError("the current folder is not there any more", hint=hint) from None


def flush_output() -> None:
    """Write what is left of standard output.

    Raises:
        OSError: if it cannot be written; it is discarded then, so that the interpreter does not try again.
    """
    try:
        sys.stdout.flush()
    except OSError:
        with suppress(OSError, ValueError):
            _discard(sys.stdout.fileno())
        raise


def explained(error: BaseException) -> tuple[str, int]:
    """An error in words for the user, and the exit code: 2 for bad input or surroundings, 1 for a fault of ltbench."""
    if isinstance(error, MemoryError) or (isinstance(error, Exception) and "can't allocate memory" in str(error)):
        error = out_of_memory(error)  # the latter are PyTorch's words
    if isinstance(error, OSError):
        error = _of_system(error)
    if isinstance(error, LtbenchError):
        return str(error), 2
    last = traceback.extract_tb(error.__traceback__)[-1]
    kept = _keep_traceback(error)
    hint = f"report it with {kept}, which has the traceback" if kept else f"set {TRACEBACK}=1 for the traceback"
    fault = LtbenchError(
        f"an error that it did not expect, and probably a fault of its own: {type(error).__name__}: {error}",
        where=f"{last.filename}, line {last.lineno}",
        hint=hint,
    )
    return str(fault), 1


def _of_system(error: OSError) -> LtbenchError:
    """What the operating system refuses."""
    where = " -> ".join(
        os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)
    )
    hints = {
        errno.ENOSPC: "free some disk space",
        errno.EDQUOT: "free some disk space",
        errno.EMFILE: "allow more open files: ulimit -n",
        errno.EACCES: "change its permissions, or name another file or folder",
    }
    reason = error.strerror or str(error) or type(error).__name__
    hint = hints.get(error.errno or 0, "see whether it is there and can be read and written")
    return LtbenchError(f"the system refuses: {reason}", where=where or None, hint=hint)


def _keep_traceback(error: BaseException) -> Path | None:
    """Save the traceback in the cache; None where that cannot be."""
    from ltbench.files.atomic import write_text

    path = paths.cache_dir() / "traceback.txt"
    try:
        words = " ".join(map(repr, sys.argv[1:]))
        write_text(path, f"ltbench {words}\n\n{''.join(traceback.format_exception(error))}", lasting=False)
    except (LtbenchError, ValueError):
        return None
    return path


def _discard(number: int) -> None:
    """Make a file descriptor that of the null device."""
    null = os.open(os.devnull, os.O_WRONLY)
    if null != number:
        os.dup2(null, number)
        os.close(null)


def _several(value: Any) -> Iterable[Any]:
    return value if isinstance(value, list | tuple) else (value,)
