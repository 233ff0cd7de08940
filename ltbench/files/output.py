"""Write to ``--output``: a file appears whole or not at all; a pipe or a device is written to directly."""

import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO

from ltbench.errors import LtbenchError
from ltbench.files import atomic


def write_bytes(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Let ``write`` fill the file, pipe or device that the user has named.

    A symbolic link stays, and what it leads to is written. A regular file is replaced in one step and keeps its mode.
    A FIFO, a device or an open descriptor such as /dev/stdout is opened and written to.

    Args:
        path: a file, new or not, or something else that can be written to.
        write: writes the content into a stream.

    Raises:
        LtbenchError: if it cannot be written; a file that was there is untouched then.
    """
    try:
        target = _target(path)
        if target is None:
            _write_into(path, write)
            return
        mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else None
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links; a name that is none
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise LtbenchError(f"cannot save: {reason}", where=path.absolute(), hint="choose another file") from None
    atomic.remove_abandoned_of(target)
    atomic.write_bytes(target, write)
    if mode is not None:
        target.chmod(mode)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, names of files that are not UTF-8 as escapes; see ``write_bytes``."""
    write_bytes(path, lambda stream: stream.write(text.encode(errors="backslashreplace")))


def is_regular(path: Path) -> bool:
    """Whether what the user has named is a file, there or not yet, and no pipe, device or open descriptor."""
    return _target(path) is not None


def _target(path: Path) -> Path | None:
    """The regular file, there or not yet, that a path leads to; None where it leads to something else."""
    if _descriptor(path):
        return None
    try:
        kind = path.stat().st_mode
    except FileNotFoundError:  # new, or a link to what is not there yet
        return path.resolve()
    if stat.S_ISDIR(kind):
        raise IsADirectoryError(None, "Is a directory")
    return path.resolve(strict=True) if stat.S_ISREG(kind) else None


def _descriptor(path: Path) -> bool:
    """Whether it names a descriptor that this process has open: behind it may be a file that must not be replaced."""
    place = path.absolute()
    for _ in range(40):  # links that the system follows
        if place.parent.name == "fd" and place.parts[1:2] in (("dev",), ("proc",)):
            return True
        try:
            link = place.readlink()
        except OSError:
            return False
        place = Path(os.path.normpath(place.parent / link))
    return False


def _write_into(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    sys.stdout.flush()  # what was printed before comes first
    with path.open("ab" if path.is_file() else "wb") as stream:
        write(stream)
