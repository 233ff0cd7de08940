"""Download large files over HTTP: an interrupted download resumes, and the result is checked."""

import errno
import hashlib
import http.client
import shutil
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import BinaryIO

from ltbench.errors import LtbenchError
from ltbench.progress import ProgressListener, ProgressUpdate, silent

CHUNK = 2**20
TIMEOUT = 60.0
"""Seconds of silence after which a connection counts as lost."""
ATTEMPTS = 5
"""Number of attempts in a row that may bring no further bytes."""
PAUSE = 2.0
"""Seconds before the next attempt; the pause grows by as much with each attempt in vain."""
LONGEST_PAUSE = 300.0
"""Longest pause that a server may ask for, in seconds."""
_COME_BACK = {408, 429}
"""Status codes of a busy server, besides 500 and more."""
_OWN_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST}


def fetch(url: str, file: Path, *, md5: str, listener: ProgressListener = silent) -> None:
    """Download a file beside its final place, as ``<name>.part``, and put it there once it has been checked.

    Args:
        url: the address.
        file: the target; an existing file is left alone.
        md5: expected MD5 sum, hexadecimal.
        listener: hears of the progress, in bytes.

    Raises:
        LtbenchError: if it cannot be had whole; what has arrived stays, for the next time. If its MD5 sum is wrong;
            then it is deleted.
    """
    if file.exists():
        return
    part = file.with_name(file.name + ".part")
    furthest, in_vain = _size(part), 0
    while True:
        asked_for = 0.0
        try:
            if _resume(url, part, listener):
                break
            reason: object = "the connection was lost"
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, urllib.error.HTTPError):
                if error.code < 500 and error.code not in _COME_BACK:
                    raise LtbenchError(
                        f"cannot download {file.name}: {error}", where=url, hint=_by_hand(file)
                    ) from None
                asked_for = _asked_for(error)
            if isinstance(error, OSError) and error.errno in _OWN_DISK:
                raise disk_fault(f"cannot save {file.name}", error, part) from None
            reason = getattr(error, "reason", None) or error
        have = _size(part)
        in_vain = in_vain + 1 if have <= furthest else 0
        furthest = max(furthest, have)
        if in_vain == ATTEMPTS:
            raise LtbenchError(
                f"the download of {file.name} stopped after {have:,} bytes: {reason}",
                where=url,
                hint=f"the same command resumes there; or {_by_hand(file)}",
            )
        time.sleep(max(PAUSE * (1 + in_vain), asked_for))
    check(part, md5, listener, otherwise="it was deleted; run the same command again")
    part.replace(file)


def check(file: Path, md5: str, listener: ProgressListener = silent, *, otherwise: str) -> None:
    """Compare a file with its published MD5 sum.

    Args:
        file: the file; a ``.part`` that fails is deleted.
        md5: expected MD5 sum, hexadecimal.
        listener: hears of the progress, in bytes.
        otherwise: what to do if they differ.

    Raises:
        LtbenchError: if they do, or the file cannot be read.
    """
    total, done, found = _size(file), 0, hashlib.md5(usedforsecurity=False)
    try:
        with file.open("rb") as stream:
            while chunk := stream.read(CHUNK):
                found.update(chunk)
                done += len(chunk)
                listener(ProgressUpdate(f"checking {file.name.removesuffix('.part')}", done, total))
    except OSError as error:
        raise disk_fault(f"cannot read {file.name}", error, file) from None
    if found.hexdigest() != md5:
        if file.suffix == ".part":
            file.unlink()
        raise LtbenchError(
            f"{file.name.removesuffix('.part')} is damaged or incomplete: its MD5 sum is {found.hexdigest()}, "
            f"not the published {md5}",
            where=file.absolute(),
            hint=otherwise,
        )


def require_space(folder: Path, size: int, what: str) -> None:
    """Refuse to begin what the disk has no room for.

    Raises:
        LtbenchError: if there is less room than ``size``, in bytes.
    """
    there = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(there).free
    if free < size:
        raise LtbenchError(
            f"{what} takes {in_gb(size)}, but {in_gb(free)} are free",
            where=folder.absolute(),
            hint="make room, or choose a folder on another disk with --data-dir",
        )


def disk_fault(what: str, error: OSError, where: Path) -> LtbenchError:
    """The error for a file that cannot be read or written, or a disk that is full."""
    return LtbenchError(
        f"{what}: {error.strerror or error}",
        where=error.filename or where.absolute(),
        hint="make room, or the folder readable and writable; the same command then resumes there",
    )


def in_gb(size: int) -> str:
    """Bytes in words."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e8 else f"{size / 1e6:,.1f} MB"


def _by_hand(file: Path) -> str:
    return f"fetch it by other means and put it at {file.absolute()}"


def _asked_for(error: urllib.error.HTTPError) -> float:
    """The pause in seconds that a busy server asks for; 0 if it does not, or gives a date."""
    wanted = error.headers.get("Retry-After", "")
    return min(float(wanted), LONGEST_PAUSE) if wanted.isdecimal() else 0.0


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _resume(url: str, part: Path, listener: ProgressListener) -> bool:
    """Download the missing bytes and append them; whether the file is complete now."""
    part.parent.mkdir(parents=True, exist_ok=True)
    have = _size(part)
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            anew = answer.status != 206 or not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")
            have = 0 if anew else have  # a server that knows no ranges sends all of it again
            length = answer.length  # None where the server does not tell it, or tells nonsense
            total = have + length if length else 0
            require_space(part.parent, total - have, f"the rest of {part.stem}")
            with part.open("wb" if anew else "ab") as stream:
                have = _copy(answer, stream, have, total, f"downloading {part.stem}", listener)
            return have == total or not length
    except urllib.error.HTTPError as error:
        if error.code != 416:  # nothing is left to send: all of it is there, or more than all of it
            raise
        if error.headers.get("Content-Range", "") == f"bytes */{have}":
            return True
        part.unlink()
        return False


def _copy(answer: BinaryIO, stream: BinaryIO, have: int, total: int, words: str, listener: ProgressListener) -> int:
    while chunk := answer.read(CHUNK):
        stream.write(chunk)
        have += len(chunk)
        listener(ProgressUpdate(words, have, total))
    return have
