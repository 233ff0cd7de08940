"""Files in MNIST's format (IDX), packed by gzip or not."""

import gzip
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ltbench.errors import LtbenchError, first_line

IMAGES, LABELS = 2051, 2049
"""The first four bytes of a file of images, or of labels, as a number."""


def first_file(folder: Path, name: str) -> Path | None:
    """A file in a folder, packed or not."""
    return next((file for end in ("", ".gz") if (file := folder / (name + end)).is_file()), None)


def read(images: Path, labels: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images (N, 1, H, W) and labels (N,) of two files in MNIST's format.

    Raises:
        LtbenchError: naming the file that is damaged, or if they are of different lengths.
    """
    pixels, numbers = array(images, IMAGES), array(labels, LABELS)
    if len(pixels) != len(numbers):
        what = f"{len(pixels):,} images, but {len(numbers):,} labels"
        raise LtbenchError(what, where=f"{images}, {labels}", hint="fetch both files again")
    return pixels[:, None], numbers.astype(np.int64)


def array(file: Path, magic: int) -> NDArray[np.uint8]:
    """The numbers of a file: its magic number and its lengths, big-endian, then a byte each.

    Args:
        file: to read.
        magic: ``IMAGES`` or ``LABELS``.

    Raises:
        LtbenchError: if it is damaged, or of another kind.
    """
    try:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as stream:
            content = stream.read()
    except (OSError, EOFError) as error:
        what = f"the file is damaged or cannot be read: {first_line(error)}"
        raise LtbenchError(what, where=file, hint="fetch it again") from None
    header = np.frombuffer(content[: 4 * (1 + magic % 256)], ">u4").tolist() if len(content) >= 4 else []
    shape = header[1:]
    if not header or header[0] != magic or len(content) != 4 * len(header) + math.prod(shape):
        kind = "images" if magic == IMAGES else "labels"
        raise LtbenchError(f"not a whole file of {kind} in MNIST's format", where=file, hint="fetch it again")
    return np.frombuffer(content, np.uint8, offset=4 * len(header)).reshape(shape)
