"""Errors as messages: what is wrong, where, what to do, and the exit code."""

import errno
import os
import sys
import traceback
from pathlib import Path

from ltbench.errors import LtbenchError, out_of_memory
from ltbench.files import paths

TRACEBACK = "LTBENCH_TRACEBACK"
"""Environment variable: with any value, an error that ltbench did not expect shows its traceback."""


def error_message(error: BaseException) -> tuple[str, int]:
    """The message for an error, and the exit code: 2 for bad input or a bad environment, 1 for a fault of ltbench."""
    if isinstance(error, MemoryError) or (isinstance(error, Exception) and "can't allocate memory" in str(error)):
        error = out_of_memory(error)  # the latter are PyTorch's words
    if isinstance(error, OSError):
        error = _system_error(error)
    if isinstance(error, LtbenchError):
        return str(error), 2
    last = traceback.extract_tb(error.__traceback__)[-1]
    kept = _keep_traceback(error)
    hint = f"report it with {kept}, which has the traceback" if kept else f"set {TRACEBACK}=1 for the traceback"
    fault = LtbenchError(
        f"an unexpected error, probably a bug in ltbench: {type(error).__name__}: {error}",
        where=f"{last.filename}, line {last.lineno}",
        hint=hint,
    )
    return str(fault), 1


def _system_error(error: OSError) -> LtbenchError:
    """The error for what the operating system refuses."""
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
    hint = hints.get(error.errno or 0, "check that it exists and can be read and written")
    return LtbenchError(f"the operating system refuses: {reason}", where=where or None, hint=hint)


def _keep_traceback(error: BaseException) -> Path | None:
    """Save the traceback in the cache folder; None where it cannot be written."""
    from ltbench.files.atomic import write_text

    path = paths.cache_dir() / "traceback.txt"
    try:
        words = " ".join(map(repr, sys.argv[1:]))
        write_text(path, f"ltbench {words}\n\n{''.join(traceback.format_exception(error))}", lasting=False)
    except (LtbenchError, ValueError):
        return None
    return path
