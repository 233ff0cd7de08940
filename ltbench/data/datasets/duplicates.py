"""Byte-identical files: which images are copies of one another."""

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ltbench.files.atomic import write_bytes
from ltbench.files.paths import cache_dir

_END = 4096
"""Bytes at the end of files that are compared before whole files are. Files of one camera begin alike."""


def stamp(files: Iterable[Path], *about: object) -> str:
    """A name for the state of some files: a hash of their paths, sizes and times.

    Args:
        files: the files; a missing one raises its OSError.
        about: anything else that the name depends on.
    """
    digest = hashlib.blake2b("".join(map(str, about)).encode(), digest_size=16)
    for file in files:
        status = file.stat()
        own = f"{file.absolute()}\0{status.st_size}\0{status.st_mtime_ns}\n"
        digest.update(own.encode(errors="surrogateescape"))  # the data folder may be called anything
    return digest.hexdigest()


def find_duplicates(files: Sequence[Path]) -> NDArray[np.int64]:
    """Find the files that have the same bytes.

    Only files of one size are read, and whole only if they end alike; the answer is kept in the cache.

    Returns:
        (N,) for each file the position of the first one that has the same bytes, its own if there is none before it.
    """
    cached = cache_dir() / "duplicates" / f"{stamp(files)}.npy"
    if cached.exists():
        stored: NDArray[np.int64] = np.load(cached, allow_pickle=False)
        return stored
    first = np.arange(len(files))
    for alike in _alike(range(len(files)), lambda i: files[i].stat().st_size):
        for ending in _alike(alike, lambda i: _digest(files[i], _END)):
            for same in _alike(ending, lambda i: _digest(files[i])):
                first[same] = same[0]
    write_bytes(cached, lambda stream: np.save(stream, first, allow_pickle=False))
    return first


def _alike(some: Sequence[int], key: Callable[[int], Hashable]) -> list[list[int]]:
    """The groups of two or more that share a key; None is shared with nobody."""
    groups = defaultdict(list)
    with ThreadPoolExecutor() as pool:
        for i, own in zip(some, pool.map(key, some), strict=True):
            groups[own].append(i)
    return [group for shared, group in groups.items() if shared is not None and len(group) > 1]


def _digest(file: Path, length: int | None = None) -> bytes | None:
    """Digest of a file or of its end; None if it is empty or cannot be read, which decoding will report."""
    try:
        with file.open("rb") as stream:
            if length is None:
                return hashlib.file_digest(stream, hashlib.blake2b).digest()
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - length))
            return stream.read() or None
    except OSError:
        return None
