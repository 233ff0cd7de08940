"""A file that one process at a time may hold, so that nobody trains the same run twice into one checkpoint."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ltbench.errors import LtbenchError, LtbenchWarning

PATIENCE = 1.0
"""Seconds of waiting that are not worth a word."""


@contextmanager
def exclusive(path: Path, what: str) -> Iterator[None]:
    """Hold a lock file; waits for the process that has it, and says so.

    The lock is the operating system's, which takes it back from a process that dies. The empty file stays.

    Args:
        path: of the file; its folder is made.
        what: it stands for, for the note.

    Raises:
        LtbenchError: if the file cannot be made.
    """
    lock = FileLock(path, is_singleton=True)  # one object a path: a second request of the same thread goes through
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=PATIENCE)
    except Timeout:
        message = f"{what} is under way in another process; waiting for it to end"
        warnings.warn(message, LtbenchWarning, stacklevel=3)
        lock.acquire(timeout=-1, poll_interval=0.2)
    except OSError as error:
        raise LtbenchError(
            f"cannot save: {error.strerror}",
            where=path.parent.absolute(),
            hint="make the folder writable, or choose another with $LTBENCH_CACHE",
        ) from None
    try:
        yield
    finally:
        lock.release()


def held(path: Path) -> bool:
    """Whether somebody holds a lock file; taken for a moment to find out, which those who wait for it do not notice."""
    if not path.exists():
        return False
    try:
        with FileLock(path, timeout=0):
            return False
    except OSError:  # a Timeout is one; so is a lock that is somebody else's to open
        return True
