"""Lock files: one process at a time, so that no two processes train the same run into one checkpoint."""

import errno
import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from ltbench.errors import HeldError, LtbenchWarning, SaveError

MESSAGE_AFTER = 1.0
"""Seconds of waiting without a message."""
_HOLDER = "held by process "
"""Beginning of a lock file that names its holder."""


@contextmanager
def exclusive(
    path: Path,
    what: str,
    *,
    wait: bool = True,
    message_after: float | None = None,
    hint: str = "make the folder writable, or choose another with $LTBENCH_CACHE",
) -> Iterator[None]:
    """Hold a lock file; waits for the process that has it, and says so.

    The lock is the operating system's, which takes it back from a process that dies. The file stays; while it is held
    it says by whom. On a file system without locks, such as NFS whose server has no lock service, a file beside it that
    only one process can make takes its place; one of a dead process of the same host is removed.

    Args:
        path: the lock file; its folder is made.
        what: the work that it protects, for the message.
        wait: whether to wait; if not, another process that has it is an error.
        message_after: seconds of waiting without a message; None: ``MESSAGE_AFTER``.
        hint: what to do where the file cannot be made, or is held and there is no waiting.

    Raises:
        HeldError: without waiting, if another process has it, which is named.
        LtbenchError: if the file cannot be made.
    """
    lock = _acquired(path, what, wait, MESSAGE_AFTER if message_after is None else message_after, hint)
    try:
        _sign(path)
        yield
    finally:
        lock.release()


def _acquired(path: Path, what: str, wait: bool, message_after: float, hint: str) -> BaseFileLock:
    # One object a path: a second request of the same thread goes through.
    lock: BaseFileLock = FileLock(path, is_singleton=True)
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=message_after)
        except Timeout:
            if not wait:
                raise HeldError(
                    f"{what} is under way in another process", where=f"{path.absolute()}: {_holder(path)}", hint=hint
                ) from None
            message = f"{what} is under way in another process; waiting for it to end"
            warnings.warn(message, LtbenchWarning, stacklevel=4)
            lock.acquire(timeout=-1, poll_interval=0.2)
        except OSError as error:
            if error.errno not in _NO_LOCKS or isinstance(lock, SoftFileLock):
                raise SaveError(f"cannot save: {error.strerror}", where=path.parent.absolute(), hint=hint) from None
            lock = SoftFileLock(_substitute(path), is_singleton=True)
            continue
        return lock


_NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP}
"""What a file system says that has no locks; for ENOSYS, filelock finds a way of its own."""


def _substitute(path: Path) -> Path:
    """The file that stands for a lock where there are none."""
    return path.with_name(f"{path.name}.held")


def _sign(path: Path) -> None:
    """Write the holder into a lock file; only for messages."""
    if not path.is_file():  # reading a pipe would not end
        return
    with suppress(OSError):
        there = path.read_bytes()
        if not there or there.startswith(_HOLDER.encode()):  # filelock keeps words of its own where it must do without
            since = datetime.now(UTC).isoformat(sep=" ", timespec="seconds")
            path.write_text(f"{_HOLDER}{os.getpid()} on {socket.gethostname()} since {since}\n")


def _holder(path: Path) -> str:
    """Who holds a lock file, in words."""
    with suppress(OSError):
        text = path.read_bytes().decode(errors="replace").strip() if path.is_file() else ""
        if text.startswith(_HOLDER) and text.isprintable():
            return text
    return "held by an unknown process"


def is_held(path: Path) -> bool:
    """Whether a process holds a lock file; found out by taking the lock for a moment."""
    if not path.exists():
        return False
    try:
        with FileLock(path, timeout=0):
            return False
    except OSError as error:  # a Timeout is one; so is a lock that is somebody else's to open
        return error.errno not in _NO_LOCKS or _substitute(path).exists()
