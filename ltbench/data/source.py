"""What a data set is to the harness: the interface that each file of this room implements."""

import shlex
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ltbench import places
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
    """Images that stay files: decoded when they are needed, from their original pixels, each time anew."""

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
"""What a source gives: small images decoded, large ones as files, which are then streamed."""


@dataclass(frozen=True)
class RawData:
    """A data set before any imbalance is imposed."""

    train: Images
    test: Images
    classes: tuple[str, ...]
    test_names: tuple[str, ...] = ()
    """Of the test images in their order: files, or positions in the official data; () where they are in its order."""
    validation: Images | None = None
    """The official validation set, which a run with --validation uses instead of a part of the training images."""
    duplicates: NDArray[np.int64] | None = None
    """(N,) a number for every training image that its byte-identical copies share; None: there are none, or nobody
    looked. A validation part that is held out takes all copies of an image or none."""
    train_names: tuple[str, ...] = ()
    """Of the training images, as ``test_names``."""
    validation_names: tuple[str, ...] = ()
    """Of the official validation set, as ``test_names``."""


def unreadable(image: Path, error: OSError) -> LtbenchError:
    """The error for an image file that is not there or may not be read."""
    return LtbenchError(
        f"an image cannot be read: {error.strerror}",
        where=image,
        hint="put it in its place, readable; ltbench data verify NAME --data-dir DIR tells all that a data set lacks",
    )


@contextmanager
def reading(folder: Path) -> Iterator[None]:
    """Turn a refusal of the operating system, in --data-dir or in the cache, into the error for it.

    Raises:
        LtbenchError: naming the file or folder.
    """
    try:
        yield
    except PermissionError as error:
        where = Path(error.filename or folder).absolute()
        if where.is_relative_to(places.cache_dir().absolute()):
            hint = "make it readable and writable, or set $LTBENCH_CACHE to another folder"
            raise LtbenchError("permission denied in the cache folder", where=where, hint=hint) from None
        raise LtbenchError(
            "permission denied in the data folder",
            where=where,
            hint=f"make it readable: chmod -R u+rX {shlex.quote(str(folder))}; ltbench data prepare also writes there",
        ) from None


class Source(ABC):
    """A data set by name. Third parties register subclasses under the entry point ``ltbench.datasets``."""

    name: ClassVar[str]
    summary: ClassVar[str]
    recipe_table: ClassVar[str]
    """The table of a recipe file that fits it."""
    backbone: ClassVar[str]
    image_size: ClassVar[int]
    imbalance_ratio: ClassVar[float | None] = None
    """Imposed unless the run asks for another; None: as it is."""
    largest: ClassVar[int | None] = None
    """Images of the largest class where the benchmark fixes it; None: as many as the classes allow."""
    statistics: ClassVar[tuple[tuple[float, ...], tuple[float, ...]] | None] = None
    """Published channel means and standard deviations of pixels in [0, 1]; None: measured on the train part, or
    ImageNet's for files."""

    @abstractmethod
    def load(self, folder: Path, image_size: int) -> RawData:
        """Read the data.

        Args:
            folder: the user's --data-dir.
            image_size: side in pixels.

        Raises:
            LtbenchError: if it is missing or damaged: what was looked for, where, and how to get it.
        """

    def load_keeping_untested(self, folder: Path, image_size: int) -> RawData:
        """Read the data with classes that have no test images, which are trained on all the same.

        Raises:
            LtbenchError: as `load`; or if there cannot be such classes.
        """
        raise LtbenchError(
            f"every class of {self.name} has test images",
            where="--keep-classes-without-test-images",
            hint="leave the option out; it is for folder-lt",
        )

    def prepare(self, folder: Path) -> str:
        """Download or set up what can be; returns what was done, in a sentence."""
        return f"{self.name} needs no preparation"

    def available(self, folder: Path) -> bool:
        """Whether ``load`` would find its files; a quick look.

        Raises:
            PermissionError: if it may not look.
        """
        return True

    def command(self, verb: str, folder: Path) -> str:
        """``ltbench data VERB`` for this data set, to be pasted into a shell."""
        return shlex.join(["ltbench", "data", verb, self.name, "--data-dir", str(folder)])

    def fixed_size(self, image_size: int) -> None:
        """Refuse an image size other than the data set's own.

        Raises:
            LtbenchError: if it differs.
        """
        if image_size != self.image_size:
            raise LtbenchError(
                f"{self.name} has images of {self.image_size} pixels, not {image_size}",
                where="--image-size",
                hint="leave the option out",
            )


def named(images: Images, names: Sequence[str]) -> ImageFiles:
    """Images by name: as given, as their files are called, or by position."""
    if isinstance(images, ImageFiles) and not names:
        return images
    return ImageFiles(Path(), np.array(names or [str(place) for place in range(len(images))]), images.labels)
