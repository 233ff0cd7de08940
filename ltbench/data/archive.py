"""Archives of strangers: unpacked so that nothing leaves the folder, and again where it was interrupted."""

import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from ltbench.data.download import Watch, disk_fault, silent
from ltbench.errors import LtbenchError

_DAMAGED = (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, RuntimeError)
"""What tarfile and zipfile raise; RuntimeError is for a zip that is encrypted."""


def unpack(archive: Path, into: Path, watch: Watch = silent, *, nested: bool = False) -> int:
    """Unpack a tar file, compressed or not, or a zip file. A file that is there with the right size is left alone.

    Only plain files and folders are taken. A member that is anything else, or whose path would leave the folder,
    ends it: what came before has been unpacked, that member has not.

    Args:
        archive: what to unpack.
        into: the folder; made if it is not there.
        watch: told about the progress, in bytes of the archive.
        nested: the archive holds one tar file for each class, as ILSVRC 2012's training images do: each of them is
            unpacked into a folder of its name.

    Returns:
        How many files were written.

    Raises:
        LtbenchError: for a damaged archive, a member that is refused (which), or what cannot be read or written.
    """
    written = 0
    try:
        total = archive.stat().st_size
        into.mkdir(parents=True, exist_ok=True)
        with archive.open("rb") as stream:
            for name, size, content in _files(stream, archive, into, nested):
                written += _write(content, into / name, size)
                watch(f"unpacking {archive.name}", stream.tell(), total)
    except _DAMAGED as error:
        raise LtbenchError(
            f"the archive {archive.name} is damaged or incomplete: {str(error) or type(error).__name__}",
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
    with tarfile.open(fileobj=stream) as outer:
        for name, size, content in _tar_files(outer, archive, into):
            if not nested:
                yield name, size, content
                continue
            folder = PurePosixPath(name).stem
            if folder in ("", ".", ".."):  # of a file called ".", "..tar" or "...tar"
                raise _refused(archive, name, "its path leaves the folder")
            with tarfile.open(fileobj=content) as inner:
                for image, its_size, its_content in _tar_files(inner, archive, into, folder):
                    yield f"{folder}/{image}", its_size, its_content


def _tar_files(
    tar: tarfile.TarFile, archive: Path, into: Path, folder: str = "."
) -> Iterator[tuple[str, int, IO[bytes]]]:
    for member in tar:
        if not (member.isreg() or member.isdir()):
            raise _refused(archive, member.name, "it is a link or a device")
        _check_path(archive, member.name, into, folder)
        content = tar.extractfile(member)
        if content is not None:
            yield member.name, member.size, content
        tar.members = []  # type: ignore[attr-defined]  # it would remember two million of them


def _zip_files(stream: IO[bytes], archive: Path, into: Path) -> Iterator[tuple[str, int, IO[bytes]]]:
    with zipfile.ZipFile(stream) as packed:
        for member in packed.infolist():
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _refused(archive, member.filename, "it is a link or a device")
            _check_path(archive, member.filename, into)
            if not member.is_dir():
                with packed.open(member) as content:
                    yield member.filename, member.file_size, content


def _check_path(archive: Path, name: str, into: Path, folder: str = ".") -> None:
    """Refuse a member whose path, in a folder of ``into``, leaves ``into``."""
    path = PurePosixPath(name)
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
        shutil.copyfileobj(content, stream, 2**20)
    if file.stat().st_size != size:
        raise EOFError(f"{file.name} is cut off")
    return True
