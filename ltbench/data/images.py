"""Images: decoded ones in memory, or files that are decoded when they are needed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ltbench.errors import LtbenchError


@dataclass(frozen=True)
class LabelledImages:
    """Decoded images of one size."""

    images: NDArray[np.uint8]
    """(N, channels, height, width)."""
    labels: NDArray[np.int64]
    """(N,)."""

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> "LabelledImages":
        """Some of the images."""
        return LabelledImages(np.ascontiguousarray(self.images[index]), self.labels[index])


@dataclass(frozen=True)
class ImageFiles:
    """Images that stay files and are decoded each time that they are needed."""

    root: Path
    """The folder that the names are relative to."""
    names: NDArray[np.str_]
    """(N,) relative paths, with forward slashes."""
    labels: NDArray[np.int64]
    """(N,)."""

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> "ImageFiles":
        """Some of the images."""
        return ImageFiles(self.root, self.names[index], self.labels[index])


Images = LabelledImages | ImageFiles
"""Images of a data set: small ones decoded, large ones as files, which are streamed."""


@dataclass(frozen=True)
class RawData:
    """A data set before any imbalance is imposed."""

    train: Images
    test: Images
    classes: tuple[str, ...]
    test_names: tuple[str, ...] = ()
    """Names of the test images: files, or positions in the official data; () where they are in the official order."""
    validation: Images | None = None
    """The official validation set, which a run with --validation uses instead of a part of the training images."""
    duplicates: NDArray[np.int64] | None = None
    """(N,) a number for every training image that all byte-identical copies have in common; None: no duplicates, or
    not searched for. A validation part that is held out takes all copies of an image or none."""
    train_names: tuple[str, ...] = ()
    """Names of the training images, as ``test_names``."""
    validation_names: tuple[str, ...] = ()
    """Names of the official validation images, as ``test_names``."""
    drawn: bool = False
    """Whether the training images are a long-tailed draw already, as those of an export are."""


def image_read_error(image: Path, error: OSError) -> LtbenchError:
    """The error for an image file that is missing or may not be read."""
    return LtbenchError(
        f"an image cannot be read: {error.strerror}",
        where=image,
        hint="put it back and make it readable; ltbench data verify NAME --data-dir DIR lists all missing files",
    )


def named(images: Images, names: Sequence[str]) -> ImageFiles:
    """Images by name: as given, as their files are called, or by position."""
    if isinstance(images, ImageFiles) and not names:
        return images
    return ImageFiles(Path(), np.array(names or [str(place) for place in range(len(images))]), images.labels)
