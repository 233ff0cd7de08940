"""Unpack untrusted archives: nothing leaves the folder, sizes are bounded, and an interrupted unpacking resumes.

The ``data`` filter of tarfile is not enough here: it makes absolute paths relative, lets links through, and knows no
bound on sizes. Whatever an official archive does not contain is refused by name instead.
"""

import lzma
import os
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from ltbench.data.prepare.download import disk_fault
from ltbench.errors import LtbenchError
from ltbench.progress import ProgressListener, ProgressUpdate, silent

MAX_UNPACKED = 2**30
"""Largest number of unpacked bytes of an archive of unknown size, such as one of lists."""
BLOCK = 4096
"""Bytes that every file counts at least; an archive of empty files would have no bound otherwise."""
_MAX_NAME, _MAX_PATH = 255, 4096
"""Limits of file systems, in bytes."""
_MAX_HEADER = 2**20
"""Largest size in bytes of a header that extends another (PAX, GNU long names), which tarfile reads whole."""
_EXTENDING = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)
_DAMAGED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    RuntimeError,  # a zip that is encrypted, or of an unknown compression; headers that extend each other without end
    ValueError,  # and the rest: numbers and names in headers that are none, which tarfile does not expect
    LookupError,
    TypeError,
    OverflowError,
    struct.error,
)
"""Exceptions of tarfile and zipfile for damaged archives."""


class _Member(tarfile.TarInfo):
    """A tar header that is refused before a size that it claims is read into memory, or moved by."""

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        if self.size < 0 or (self.type in _EXTENDING and self.size > _MAX_HEADER):
            raise tarfile.ReadError(f"a header claims {self.size:,} bytes")
        member: tarfile.TarInfo = super()._proc_member(tar)  # type: ignore[misc]  # meant to be overridden
        if member.size < 0:  # as a PAX header may say
            raise tarfile.ReadError(f"a header claims {member.size:,} bytes")
        return member


def unpack(
    archive: Path, into: Path, listener: ProgressListener = silent, *, nested: bool = False, limit: int = MAX_UNPACKED
) -> int:
    """Unpack a tar file, compressed or not, or a zip file. A file that is there with the right size is left alone.

    Only plain files and folders are unpacked. Any other member, one whose path leaves the folder, a duplicate, and one
    beyond the bound on the sum of sizes raise an error. Members before it have been unpacked.

    Args:
        archive: the archive.
        into: the target folder; made if missing.
        listener: hears of the progress, in bytes of the archive.
        nested: the archive holds one tar file for each class, as ILSVRC 2012's training images do: each of them is
            unpacked into a folder of its name.
        limit: largest sum of sizes in bytes, each file counted with at least `BLOCK`.

    Returns:
        The number of files that were written.

    Raises:
        LtbenchError: for a damaged archive, a member that is refused (which), or what cannot be read or written.
    """
    written, left, seen = 0, limit, set()
    try:
        total = archive.stat().st_size
        into.mkdir(parents=True, exist_ok=True)
        with archive.open("rb") as stream:
            for name, size, content in _files(stream, archive, into, nested):
                left -= max(size, BLOCK)
                if left < 0:
                    raise _refused(archive, name, f"it is more than the {limit:,} bytes that are expected at most")
                path = PurePosixPath(name)
                if path in seen:
                    raise _refused(archive, name, "it is there twice")
                seen.add(path)
                try:
                    written += _write(content, into / path, size)
                except (FileExistsError, IsADirectoryError, NotADirectoryError):
                    raise _refused(archive, name, "a file and a folder have one name") from None
                listener(ProgressUpdate(f"unpacking {archive.name}", stream.tell(), total))
    except _DAMAGED as error:
        reason = str(error).partition("\n")[0].rstrip(":")  # tarfile lists what each way of compression says
        raise LtbenchError(
            f"the archive {archive.name} is damaged or incomplete: {reason or type(error).__name__}",
            where=archive.absolute(),
            hint="fetch it again",
        ) from None
    except OSError as error:
        raise disk_fault(f"cannot unpack {archive.name}", error, into) from None
    return written


def _files(stream: IO[bytes], archive: Path, into: Path, nested: bool) -> Iterator[tuple[str, int, IO[bytes]]]:
    """Path, size and content of each file of an archive, checked."""
    if archive.suffix == ".zip":
        yield from _zip_files(stream, archive, into)
        return
    with tarfile.open(fileobj=stream, tarinfo=_Member) as outer:
        for name, size, content in _tar_files(outer, archive, into):
            if not nested:
                yield name, size, content
                continue
            folder = PurePosixPath(name).stem
            if folder in ("", ".", ".."):  # of a file called ".", "..tar" or "...tar"
                raise _refused(archive, name, "its path leaves the folder")
            with tarfile.open(fileobj=content, tarinfo=_Member) as inner:
                for image, its_size, its_content in _tar_files(inner, archive, into, folder):
                    yield f"{folder}/{image}", its_size, its_content


def _tar_files(
    tar: tarfile.TarFile, archive: Path, into: Path, folder: str = "."
) -> Iterator[tuple[str, int, IO[bytes]]]:
    for member in tar:
        if not (member.isreg() or member.isdir()):
            raise _refused(archive, member.name, "it is a link or a device")
        if member.issparse():
            raise _refused(archive, member.name, "it is a sparse file")
        _check_path(archive, member.name, into, folder, is_file=member.isreg())
        content = tar.extractfile(member)
        if content is not None:
            yield member.name, member.size, content
        tar.members = []  # type: ignore[attr-defined]  # it would remember two million of them


def _zip_files(stream: IO[bytes], archive: Path, into: Path) -> Iterator[tuple[str, int, IO[bytes]]]:
    with zipfile.ZipFile(stream) as packed:
        for member in packed.infolist():
            if not member.filename:  # of which zipfile cannot tell whether it is a folder
                raise _refused(archive, "", "it has no name")
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _refused(archive, member.filename, "it is a link or a device")
            _check_path(archive, member.filename, into, is_file=not member.is_dir())
            if not member.is_dir():
                with packed.open(member) as content:
                    yield member.filename, member.file_size, content


def _check_path(archive: Path, name: str, into: Path, folder: str = ".", *, is_file: bool) -> None:
    """Refuse a member whose path, in a folder of ``into``, leaves ``into``, or is none."""
    path = PurePosixPath(name)
    if is_file and not path.parts:
        raise _refused(archive, name, "its path leaves the folder" if name else "it has no name")
    encoded = os.fsencode(name)
    if len(encoded) > _MAX_PATH or any(len(part) > _MAX_NAME for part in encoded.split(b"/")):
        raise _refused(archive, name[:80], f"its name has {len(encoded)} bytes")
    if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name or "\0" in name:
        raise _refused(archive, name, "its path leaves the folder")
    if not (into / folder / path).resolve().is_relative_to(into.resolve()):
        raise _refused(archive, name, "a link that lies in the folder leads out of it")


def _refused(archive: Path, member: str, why: str) -> LtbenchError:
    return LtbenchError(
        f"{archive.name} holds {member!r}, which is refused: {why}",
        where=archive.absolute(),
        hint="this is not the official archive; fetch it again from the project's own page",
    )


def _write(content: IO[bytes], file: Path, size: int) -> bool:
    """Write a file unless it is there already; a part of one, from an interruption, has another size."""
    if file.is_file() and file.stat().st_size == size:
        return False
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as stream:
        try:
            shutil.copyfileobj(content, stream, 2**20)
        except _DAMAGED:
            file.unlink()  # which may have the right size
            raise
    if file.stat().st_size != size:
        raise EOFError(f"{file.name} is cut off")
    return True
