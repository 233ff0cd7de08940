"""A list of an official split: which image has which label, however the paths are written.

A list is a text file with a line ``path label`` for each image, or a JSON file with annotations as in COCO. Copies of a
list write the same path in several ways (``train/n01440764/a.JPEG``, ``n01440764/a.JPEG``). A path is therefore split
into the set of images that its first folder stands for, the folder of the class, and the file.
"""

import hashlib
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ltbench.errors import LtbenchError

_HINT = "correct the list, or delete it and fetch it again"


@dataclass(frozen=True)
class SplitList:
    """The images of one official part, in the order of its list."""

    file: Path
    image_sets: tuple[str, ...]
    """(N,) the set of images that each belongs to, e.g. train."""
    folders: tuple[str, ...]
    """(N,) folders of the classes as written; "" where images of all classes lie in one folder."""
    images: tuple[str, ...]
    """(N,) file names."""
    labels: NDArray[np.int64]
    """(N,)."""

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: NDArray[np.int64]) -> "SplitList":
        """Some of the images."""
        image_sets, folders, images = (
            tuple(column[i] for i in index) for column in (self.image_sets, self.folders, self.images)
        )
        return SplitList(self.file, image_sets, folders, images, self.labels[index])


def read(file: Path, roots: Mapping[str, str], otherwise: str) -> SplitList:
    """Read a list, text or JSON.

    Args:
        file: ``*.txt`` or ``*.json``.
        roots: first folder of a path -> the set of images that it stands for.
        otherwise: the set of images of a path that begins with none of them.

    Raises:
        LtbenchError: for a file that cannot be read, or a line that is not a path and a label (which).
    """
    image_sets, folders, images, labels = [], [], [], []
    for line, path, label in _annotations(file) if file.suffix == ".json" else _lines(file):
        names = [name for name in path.split("/") if name not in ("", ".")]
        if not names or path[0] == "/" or ".." in names or "\\" in path or not path.isprintable():
            raise LtbenchError(
                f"{path[:80]!r} is not a path inside a folder of images", where=_position(file, line), hint=_HINT
            )
        if not 0 <= label < 2**31:
            raise LtbenchError(f"{label} is not a label", where=_position(file, line), hint=_HINT)
        rooted = names[0] in roots and len(names) > 1
        image_sets.append(roots[names[0]] if rooted else otherwise)
        folders.append(sys.intern("/".join(names[rooted:-1])))  # a few thousand, of half a million images
        images.append(names[-1])
        labels.append(label)
    return SplitList(file, tuple(image_sets), tuple(folders), tuple(images), np.array(labels, dtype=np.int64))


def blob_id(content: bytes) -> str:
    """Git's object name of a file of this content: the SHA-1 of "blob <size>", a zero byte and the content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def identity(found: SplitList, official: str, official_paths: Iterable[str]) -> tuple[bool, str]:
    """Whether a list is the official one, and in which respect its file differs.

    Args:
        found: the list.
        official: git's object name of the official file's content.
        official_paths: (N,) the paths of ``found`` as the official list writes them.
    """
    content = found.file.read_bytes()
    if blob_id(content) == official:
        return True, "the official list"
    if blob_id(content.replace(b"\r\n", b"\n")) == official:
        return True, "the official list, with the line ends of Windows"
    text = "\n".join(f"{path} {label}" for path, label in zip(official_paths, found.labels.tolist(), strict=True))
    if official in (blob_id(text.encode()), blob_id(f"{text}\n".encode())):
        return True, "the official list, its paths written in another way"
    return False, f"not the official list: git calls its content {blob_id(content)}, the official one's {official}"


def _lines(file: Path) -> Iterator[tuple[int, str, int]]:
    """Line number, path and label."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise LtbenchError(f"the list cannot be read: {error}", where=file.absolute(), hint=_HINT) from None
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            path, label = line.rsplit(maxsplit=1)
            yield number, path.strip(), int(label)
        except ValueError:
            if line.strip():
                words = f"{line.strip()[:80]!r} is not a path and a label"
                raise LtbenchError(words, where=_position(file, number), hint=_HINT) from None


def _annotations(file: Path) -> Iterator[tuple[int, str, int]]:
    """The images of a JSON file as iNaturalist publishes it: a category's id is its label."""
    try:
        stored = json.loads(file.read_bytes())
        labels = {one["image_id"]: int(one["category_id"]) for one in stored["annotations"]}
        named = [(0, str(one["file_name"]), labels[one["id"]]) for one in stored["images"]]
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise LtbenchError(
            f"the annotations cannot be read: {type(error).__name__}: {error}",
            where=file.absolute(),
            hint=_HINT,
        ) from None
    return iter(named)


def _position(file: Path, line: int) -> str:
    return f"{file.absolute()}, line {line}" if line else str(file.absolute())
