"""Read small files of the user, with a bound on their size."""

import errno
import os
import stat
from pathlib import Path

from ltbench.errors import LtbenchError

LARGEST = 2**25
"""Largest size in bytes of a file of settings, counts or names."""


def read_small(path: Path, *, largest: int = LARGEST) -> bytes:
    """The content of a file.

    Raises:
        LtbenchError: if it is missing, unreadable or too large.
    """
    try:
        about = path.stat()
        if stat.S_ISDIR(about.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not (stat.S_ISREG(about.st_mode) or _is_open(path)):
            raise LtbenchError("cannot read the file: it is a device or a pipe", where=path, hint="save it as a file")
        with path.open("rb") as stream:
            content = stream.read(largest + 1)
        if len(content) > largest:
            raise LtbenchError(f"cannot read the file: it has over {largest:,} bytes", where=path)
        return content
    except OSError as error:
        hint = "name a file" if error.errno == errno.EISDIR else "check its name, its folder and its permissions"
        raise LtbenchError(f"cannot read the file: {error.strerror}", where=path, hint=hint) from None
    except ValueError as error:  # a zero byte in the name
        raise LtbenchError(f"cannot read the file: {error}", where=ascii(str(path))) from None


def _is_open(path: Path) -> bool:
    """Whether a path stands for what the shell has opened for us, as ``<(...)`` and ``/dev/stdin`` do."""
    return path.parent == Path("/dev/fd") or path == Path("/dev/stdin")


def read_text(path: Path) -> str:
    """The content of a small UTF-8 text file, without the byte order mark that some programs begin it with.

    Raises:
        LtbenchError: also if it is not UTF-8.
    """
    try:
        return read_small(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise LtbenchError(f"not a text file in UTF-8: {error.reason} at byte {error.start}", where=path) from None
