"""Files that appear whole or not at all."""

import os
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO

from ltbench.errors import LtbenchError

_ONE_AT_A_TIME = threading.Lock()


def write_bytes(path: Path, write: Callable[[IO[bytes]], object], *, lasting: bool = True) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then put it in place in one step.

    Args:
        path: of the file; its folder is made.
        write: what it is filled by.
        lasting: whether it must outlive a power failure, which takes waiting for the disk.

    Raises:
        LtbenchError: if the folder cannot be written or the disk is full; what was at ``path`` is untouched.
    """
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as stream:
            write(stream)
            stream.flush()
            if lasting:
                os.fsync(stream.fileno())
        Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(path)
        temporary = ""
    except (OSError, RuntimeError) as error:
        fault = error if isinstance(error, OSError) else error.__context__  # torch.save wraps it in a RuntimeError
        reason = fault.strerror if isinstance(fault, OSError) else str(error).splitlines()[0]
        raise LtbenchError(
            f"cannot save: {reason}",
            where=path.absolute(),
            hint="make the folder writable, free some disk space, or choose another folder",
        ) from error
    finally:
        if temporary:
            Path(temporary).unlink(missing_ok=True)


def write_text(path: Path, text: str, *, lasting: bool = True) -> None:
    """Write a UTF-8 text file in one step; see ``write_bytes``."""
    write_bytes(path, lambda stream: stream.write(text.encode()), lasting=lasting)


def _umask() -> int:
    with _ONE_AT_A_TIME:  # it can only be read by setting it, which is for the whole process
        mask = os.umask(0)
        os.umask(mask)
    return mask
