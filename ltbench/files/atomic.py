"""Files that appear whole or not at all."""

import glob
import os
import re
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, BinaryIO, Literal

from ltbench.errors import SaveError, first_line

try:
    import fcntl
except ImportError:  # not on Windows
    LOCKS = False
else:
    LOCKS = True

_TEMPORARY = re.compile(r"\..+\.[a-z0-9_]{8}\.tmp")
_OLDER_TEMPORARY = re.compile(r"\..+\.(json|pt|npz|npy|toml)\.[a-z0-9_]{8}")
"""Temporary files of versions that held no locks."""
RECENT = 600.0
"""Seconds without a change before a temporary file may count as abandoned although its lock is free: on some file
systems of clusters a lock is known to one machine only, and another one may be writing."""
ABANDONED = 24 * 3600.0
"""Seconds without a change after which a temporary file counts as abandoned, where there are no locks."""


def write_bytes(
    path: Path, write: Callable[[IO[bytes]], object], *, lasting: bool = True, replace: bool = True
) -> bool:
    """Let ``write`` fill a temporary file beside ``path``, then move it into place in one step.

    Args:
        path: the file; its folder is made.
        write: writes the content into a stream.
        lasting: whether the file must survive a power failure, which takes waiting for the disk.
        replace: whether it may replace a file; if not, that is one step with the look for it, locks or none.

    Returns:
        Whether it was written.

    Raises:
        SaveError: if the folder cannot be written or the disk is full; what was at ``path`` is untouched.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _temporary_file(path) as (stream, temporary):
            write(stream)
            stream.flush()
            if lasting:
                os.fsync(stream.fileno())
            if not LOCKS:  # Windows moves no open file
                stream.close()
            if replace:
                temporary.replace(path)
            elif not _linked(temporary, path):
                return False
            if lasting:
                _sync(path.parent)
            return True
    except (OSError, RuntimeError) as error:
        fault = error if isinstance(error, OSError) else error.__context__  # torch.save wraps it in a RuntimeError
        reason = fault.strerror if isinstance(fault, OSError) else first_line(error)
        raise SaveError(
            f"cannot save: {reason}",
            where=path.absolute(),
            hint="make the folder writable, free some disk space, or choose another folder",
        ) from error


def _sync(folder: Path) -> None:
    """Wait until the disk has the names in a folder, where the system has a way to."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _linked(temporary: Path, path: Path) -> bool:
    """Give a file another name, which nothing has yet; whether that was so."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        return temporary.stat().st_nlink > 1  # an answer of NFS may be lost, and the second say that it is done
    except OSError:  # a file system without hard links
        if path.exists():
            return False
        temporary.replace(path)
    return True


def write_text(path: Path, text: str, *, lasting: bool = True, replace: bool = True) -> bool:
    """Write a UTF-8 text file in one step; see ``write_bytes``."""
    return write_bytes(path, lambda stream: stream.write(text.encode()), lasting=lasting, replace=replace)


def remove_abandoned(folder: Path) -> None:
    """Remove the temporary files, in a folder and below, of processes that were killed while they wrote.

    A process holds a lock on its temporary file until the file is in place, and the system releases the locks of a
    process that dies. A file that is being written therefore stays, and so does one that has changed within minutes,
    since another machine may hold a lock that this one cannot see. Where the file system has no locks, and for files of
    older versions, which held none, a day without a change must do.
    """
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            with suppress(OSError):  # it has gone, or is another user's
                if _TEMPORARY.fullmatch(name):
                    _remove_if_abandoned(path, unchanged=RECENT)
                elif _OLDER_TEMPORARY.fullmatch(name) and _untouched(path, ABANDONED):
                    path.unlink()


def remove_abandoned_of(path: Path) -> None:
    """As ``remove_abandoned``, but at once, and only what was to become this file: its folder may be a user's own."""
    for temporary in path.parent.glob(f".{glob.escape(path.name)}.????????.tmp"):
        with suppress(OSError):
            _remove_if_abandoned(temporary, unchanged=0.0)


def _remove_if_abandoned(path: Path, unchanged: float) -> None:
    """Remove a temporary file that nobody is writing.

    Args:
        path: the file.
        unchanged: seconds without a change that it takes beside a free lock.
    """
    if not stat.S_ISREG(path.lstat().st_mode):
        return
    handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW) if LOCKS else None
    try:
        state = "unknown" if handle is None else _claim(handle)
        if _untouched(path, unchanged if state == "claimed" else ABANDONED) and state != "taken":
            path.unlink()  # with the lock held: see _temporary_file
    finally:
        if handle is not None:
            os.close(handle)


def _untouched(path: Path, seconds: float) -> bool:
    return time.time() - path.lstat().st_mtime >= seconds


def _claim(handle: int) -> Literal["claimed", "taken", "unknown"]:
    """Lock an open file, unless another has locked it or its file system has no locks."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return "taken"
    except OSError:
        return "unknown"
    return "claimed"


@contextmanager
def _temporary_file(path: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """A new file beside a path, open and locked, which is removed unless it has been moved into place."""
    while True:
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        with temporary.open("xb") as stream:
            if LOCKS and (_claim(stream.fileno()) == "taken" or not os.fstat(stream.fileno()).st_nlink):
                continue  # remove_abandoned() came before the lock, and removes the file
            try:
                yield stream, temporary
            finally:
                temporary.unlink(missing_ok=True)
            return
