"""Images that a table embeds, as files of their own in the cache."""

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import IO

from ltbench.files.atomic import write_bytes


def unpack(paths: Sequence[Path], contents: Iterable[bytes]) -> None:
    """Write images to files that are not there yet; where all are, their contents are not asked for.

    Args:
        paths: of the files.
        contents: of each file, in this order; made as they are needed, since all may be more than memory holds.

    Raises:
        ValueError: if there are more or fewer contents.
        SaveError: if a file cannot be written.
    """
    if all(map(_is_there, paths)):
        return
    for path, content in zip(paths, contents, strict=True):
        if not _is_there(path):
            # To wait for the disk takes longer than all else; what a power failure may leave is an empty file.
            write_bytes(path, partial(_write, content), lasting=False)


def _write(content: bytes, stream: IO[bytes]) -> None:
    stream.write(content)


def _is_there(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:
        return False
