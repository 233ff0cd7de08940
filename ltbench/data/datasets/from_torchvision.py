"""torchvision:NAME: the data sets of torchvision.datasets for classification, as ``torchvision.toml`` declares them."""

import gzip
import inspect
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from pydantic import Field

from ltbench.config import read_toml
from ltbench.config.validation import Frozen
from ltbench.data import long_tail
from ltbench.data.datasets.base import Source
from ltbench.data.images import LabelledImages, RawData
from ltbench.errors import LtbenchError, LtbenchWarning, unknown

PREFIX = "torchvision:"
TEST_SHARE = 0.2
"""Share of each class that is the test set where there is none."""
_NOT_OFFERED = "not_offered"
_IDX_IMAGES, _IDX_LABELS = 2051, 2049
"""The first four bytes of a file of images, or of labels, as a number."""
_FAULTS = (OSError, RuntimeError, ValueError, EOFError, ImportError, LookupError, TypeError)
"""Exceptions of torchvision for data that are missing or damaged, or for a package that it lacks."""


class Declared(Frozen):
    """What ``torchvision.toml`` says of a data set; its first lines explain the keys."""

    cls: str | None = None
    about: str
    train: dict[str, bool | int | str]
    test: dict[str, bool | int | str] | None = None
    validation: dict[str, bool | int | str] | None = None
    images: dict[str, int] = Field(default_factory=dict)
    image_size: int = 64
    any_size: bool = True
    imbalance_ratio: float | None = None
    recipe: str = "folder"
    backbone: str = "cifar_resnet32"
    found_by: str
    idx: tuple[str, str] | None = None
    first_labels: tuple[int, ...] | None = None

    @property
    def parts(self) -> dict[str, dict[str, bool | int | str]]:
        """The keywords of torchvision's class for each part that there is."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        return {part: keywords for part, keywords in parts.items() if keywords is not None}


@cache
def declared() -> dict[str, Declared]:
    """Every data set that is offered, by its name in torchvision."""
    return {name: Declared.model_validate(values) for name, values in _tables().items() if name != _NOT_OFFERED}


def not_offered() -> dict[str, str]:
    """The other classes of torchvision.datasets, and why each is not offered."""
    return dict(_tables()[_NOT_OFFERED])


@cache
def _tables() -> dict[str, Any]:
    return read_toml(Path(str(files("ltbench.data.datasets") / "torchvision.toml")))


def names() -> list[str]:
    """The names of all data sets, e.g. torchvision:FashionMNIST."""
    return [PREFIX + name for name in declared()]


def refuse(name: str, *, where: object) -> LtbenchError:
    """The error for a name that no data set has: why torchvision's class is not offered, or the nearest names.

    Args:
        name: begins with ``torchvision:``.
        where: it was given.
    """
    own = name.removeprefix(PREFIX)
    if (reason := not_offered().get(own)) is not None:
        return LtbenchError(
            f"torchvision's {own} is not offered: {reason}",
            where=where,
            hint=f"ltbench list datasets '{PREFIX}*' names the data sets that are",
        )
    if any(same := [one for one in declared() if one.casefold() == own.casefold()]):
        return LtbenchError(f"unknown data set '{name}'", where=where, hint=f"did you mean {PREFIX}{same[0]}?")
    return unknown("data set", name, names(), where=where)


@cache
def source(name: str) -> "TorchvisionSource":
    """The data set of a name, e.g. torchvision:FashionMNIST."""
    own = declared()[name.removeprefix(PREFIX)]
    fifth = "" if own.test is not None else "; a fifth of each class is the test set"
    made: type[TorchvisionSource] = type(
        "TorchvisionSource",
        (TorchvisionSource,),
        {
            "name": name,
            "summary": own.about + fifth,
            "recipe_table": own.recipe,
            "backbone": own.backbone,
            "image_size": own.image_size,
            "any_size": own.any_size,
            "imbalance_ratio": own.imbalance_ratio,
            "held_out_test": own.test is None,
            "declared": own,
        },
    )
    return made()


class TorchvisionSource(Source):
    """A data set of torchvision. Small images are decoded and kept in memory, photographs may stay files.

    Where torchvision has no test images, a fifth of each class is the test set, always the same images. Image files
    are taken in the order of their paths, since torchvision lists some folders in the order of the file system.
    """

    declared: ClassVar[Declared]

    def load(self, folder: Path, image_size: int) -> RawData:
        """Read the parts through torchvision's class, or files in MNIST's format directly.

        Raises:
            LtbenchError: if data are missing or damaged, torchvision lacks the class, or a package is missing.
        """
        if not self.any_size:
            self.fixed_size(image_size)
        if not folder.is_dir() or not self.available(folder):
            raise self._missing(folder)
        root = folder.absolute()
        if (found := self._idx_files(root)) is not None:
            parts = {part: _read_idx(*pair) for part, pair in found.items()}
            self._check_sizes({part: len(labels) for part, (_, labels) in parts.items()})
            return _in_memory(parts, _class_names(self._class(), self.declared.train.get("split")))
        opened = {part: self._open(root, part, download=False) for part in self.declared.parts}
        self._check_sizes({part: len(one) for part, one in opened.items()})
        try:
            listed = {part: _files_of(one) for part, one in opened.items()}
            names = _class_names(opened["train"])
            if all(one is not None for one in listed.values()):
                paths = {part: one for part, one in listed.items() if one is not None}
                return _from_files(root, paths, names, image_size)
            size = image_size if self.any_size else None
            return _in_memory({part: _decoded(one, size) for part, one in opened.items()}, names)
        except _FAULTS as error:
            raise self._damaged(folder, error) from None

    def prepare(self, folder: Path) -> str:
        """Download what torchvision downloads, and unpack it."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LtbenchError(f"the folder cannot be made: {error.strerror}", where=folder.absolute()) from None
        for part in self.declared.parts:
            self._open(folder.absolute(), part, download=True)
        return f"{self.name} is in {folder.absolute()}"

    def available(self, folder: Path) -> bool:
        """Whether its first file or folder is there."""
        return (folder / self.declared.found_by).exists() or self._idx_files(folder) is not None

    @property
    def _torchvision_name(self) -> str:
        return self.declared.cls or self.name.removeprefix(PREFIX)

    def _class(self) -> type:
        import torchvision

        found: type | None = getattr(torchvision.datasets, self._torchvision_name, None)
        if found is None:
            raise LtbenchError(
                f"torchvision {torchvision.__version__} has no {self._torchvision_name}",
                where="--dataset",
                hint="update torchvision",
            )
        return found

    def _open(self, root: Path, part: str, *, download: bool) -> Any:
        """One part as torchvision's data set; where it can, it hands out paths instead of images."""
        cls = self._class()
        accepted = _parameters(cls)
        keywords: dict[str, Any] = dict(self.declared.parts[part])
        if "download" in accepted:
            keywords["download"] = download
        if "loader" in accepted:
            keywords["loader"] = str
        try:
            return cls(str(root), **keywords)
        except _FAULTS as error:
            if download:
                failed = "the download failed" if "download" in accepted else "torchvision does not download it"
                raise LtbenchError(
                    f"{self.name}: {failed}: {_first_line(error)}",
                    where=root,
                    hint=f"fetch it by hand, so that there is {self.declared.found_by} in the folder; the "
                    f"documentation of torchvision.datasets.{self._torchvision_name} says from where",
                ) from None
            raise self._damaged(root, error) from None

    def _missing(self, folder: Path) -> LtbenchError:
        looked = self.declared.found_by
        if self.declared.idx:
            looked += f" and {self.declared.idx[0]}-images-idx3-ubyte.gz"
        other = self._other_labels(folder)
        return LtbenchError(
            f"{self.name}: {f'the files there are those of {other}' if other else 'no data found'}",
            where=f"{folder.absolute()} (looked for {looked})",
            hint=f"{self.command('prepare', folder)} downloads it; or point --data-dir at a folder that has it",
        )

    def _damaged(self, folder: Path, error: Exception) -> LtbenchError:
        if isinstance(error, ImportError):
            what, hint = f"{self.name} takes a package: {error}", f"pip install {error.name or 'it'}"
            return LtbenchError(what, where=folder.absolute(), hint=hint)
        return LtbenchError(
            f"{self.name} is damaged or incomplete: {_first_line(error)}",
            where=folder.absolute(),
            hint=f"delete {self.declared.found_by} there and run: {self.command('prepare', folder)}",
        )

    def _idx_files(self, folder: Path) -> dict[str, tuple[Path, Path]] | None:
        """Images and labels of train and test in MNIST's format; None if not all four are there.

        The files of MNIST, Fashion-MNIST and KMNIST have the same names and sizes: outside a folder of its own name a
        data set is known by its first test labels.
        """
        if self.declared.idx is None:
            return None
        own = (folder / self.declared.found_by).is_dir()
        if not own and self._other_labels(folder):
            return None
        found = {}
        for part, start in zip(("train", "test"), self.declared.idx, strict=True):
            images, labels = (
                _first_file(folder / self.declared.found_by if own else folder, f"{start}-{kind}-ubyte")
                for kind in ("images-idx3", "labels-idx1")
            )
            if images is None or labels is None:
                return None
            found[part] = (images, labels)
        return found

    def _other_labels(self, folder: Path) -> str | None:
        """The data set whose test labels lie in the folder itself if it is another one of MNIST's format, in words."""
        start = self.declared.idx[1] if self.declared.idx is not None else None
        file = _first_file(folder, f"{start}-labels-idx1-ubyte") if start is not None else None
        alike = {name: one.first_labels for name, one in declared().items() if one.idx == self.declared.idx}
        if file is None or not any(alike.values()):
            return None
        labels = tuple(_idx_array(file, _IDX_LABELS)[:10].tolist())
        known = next((name for name, first in alike.items() if first == labels), None)
        if known is None:
            return "another data set" if self.declared.first_labels is not None else None
        return None if PREFIX + known == self.name else PREFIX + known

    def _check_sizes(self, sizes: Mapping[str, int]) -> None:
        """Warn of a part that has not as many images as are published."""
        for part, size in sizes.items():
            if (published := self.declared.images.get(part, size)) != size:
                message = f"{self.name}: {size:,} {part} images are there, {published:,} are published"
                warnings.warn(message, LtbenchWarning, stacklevel=3)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _parameters(cls: type) -> set[str]:
    """What a class takes, and the class that it hands further keywords on to, as EMNIST does."""
    own = inspect.signature(cls).parameters
    handed_on = any(one.kind is one.VAR_KEYWORD for one in own.values())
    return {*own, *(_parameters(cls.__mro__[1]) if handed_on and cls.__mro__[1] is not object else ())}


def _first_file(folder: Path, name: str) -> Path | None:
    """A file in a folder, packed or not."""
    return next((file for end in ("", ".gz") if (file := folder / (name + end)).is_file()), None)


def _read_idx(images: Path, labels: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images (N, 1, H, W) and labels (N,) of two files in MNIST's format.

    Raises:
        LtbenchError: naming the file that is damaged, or if they are of different lengths.
    """
    pixels, numbers = _idx_array(images, _IDX_IMAGES), _idx_array(labels, _IDX_LABELS)
    if len(pixels) != len(numbers):
        what = f"{len(pixels):,} images, but {len(numbers):,} labels"
        raise LtbenchError(what, where=f"{images}, {labels}", hint="fetch both files again")
    return pixels[:, None], numbers.astype(np.int64)


def _idx_array(file: Path, magic: int) -> NDArray[np.uint8]:
    """The numbers of a file: its magic number and its lengths, big-endian, then a byte each."""
    try:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as stream:
            content = stream.read()
    except (OSError, EOFError) as error:
        what = f"the file is damaged or cannot be read: {_first_line(error)}"
        raise LtbenchError(what, where=file, hint="fetch it again") from None
    header = np.frombuffer(content[: 4 * (1 + magic % 256)], ">u4").tolist() if len(content) >= 4 else []
    shape = header[1:]
    if not header or header[0] != magic or len(content) != 4 * len(header) + math.prod(shape):
        kind = "images" if magic == _IDX_IMAGES else "labels"
        raise LtbenchError(f"not a whole file of {kind} in MNIST's format", where=file, hint="fetch it again")
    return np.frombuffer(content, np.uint8, offset=4 * len(header)).reshape(shape)


Part = tuple[NDArray[np.uint8], NDArray[np.int64]]
"""Images (N, channels, H, W) and labels (N,)."""


def _in_memory(parts: Mapping[str, Part], names: Sequence[str]) -> RawData:
    """A data set of decoded images.

    Args:
        parts: train, and what else there is; without test a fifth of train is the test set.
        names: of the classes by label; of those that have no image, and beyond the last name, numbers.
    """
    classes, renumber = _classes([labels for _, labels in parts.values()], names)
    images = {part: LabelledImages(pixels, renumber(labels)) for part, (pixels, labels) in parts.items()}
    if "test" in images:
        return RawData(images["train"], images["test"], classes, validation=images.get("validation"))
    whole = images["train"]
    tests = long_tail.hold_out(whole.labels, 0, TEST_SHARE, stream="test split")
    train, test = (tuple(map(str, np.flatnonzero(part))) for part in (~tests, tests))
    return RawData(whole.take(~tests), whole.take(tests), classes, test, train_names=train)


def _from_files(
    root: Path, parts: Mapping[str, tuple[list[Path], NDArray[np.int64]]], names: Sequence[str], image_size: int
) -> RawData:
    """A data set of image files, decoded as those of a user's folder are."""
    from ltbench.data.datasets.duplicates import find_duplicates
    from ltbench.data.datasets.folder_listing import ClassFiles, Listing
    from ltbench.data.datasets.image_folder import FolderParts, load

    classes, renumber = _classes([labels for _, labels in parts.values()], names)
    found = {}
    for part, (paths, labels) in parts.items():
        order = sorted(range(len(paths)), key=lambda i: paths[i].as_posix())
        found[part] = ClassFiles([paths[i] for i in order], renumber(labels[order]))
    duplicates = {}
    if "test" not in found:
        whole = found["train"]
        copies = find_duplicates(whole.files)
        tests = long_tail.hold_out(whole.labels, 0, TEST_SHARE, copies, stream="test split")
        for part, own in (("train", ~tests), ("test", tests)):
            found[part] = ClassFiles([whole.files[i] for i in np.flatnonzero(own)], whole.labels[own])
            duplicates[part] = copies[own]
    return load(FolderParts(Listing(root, classes, found), found, duplicates), image_size)


def _classes(
    labels: Sequence[NDArray[np.int64]], names: Sequence[str]
) -> tuple[tuple[str, ...], Callable[[NDArray[np.int64]], NDArray[np.int64]]]:
    """The classes that have images, and what renumbers labels so that no number is left out."""
    used = np.unique(np.concatenate(labels))
    shown = [names[label] if label < len(names) else str(label) for label in used.tolist()]
    return tuple(shown), lambda own: np.searchsorted(used, own).astype(np.int64)


def _class_names(part: Any, split: object = None) -> list[str]:
    """Names of the classes of torchvision's data set, by label; none where it has none.

    Args:
        part: the data set, or its class where the files are read without it.
        split: which of several classifications, as EMNIST has them.
    """
    splits: dict[object, list[str]] = getattr(part, "classes_split_dict", {})
    if split in splits:
        return list(splits[split])
    for attribute in ("classes", "all_categories", "categories"):
        if found := getattr(part, attribute, None):
            return [str(name[0] if isinstance(name, tuple) else name).strip("/") for name in found]
    numbered: dict[str, int] = getattr(part, "class_to_idx", None) or {}
    return [str(name).strip("/") for name in sorted(numbered, key=lambda name: numbered[name])]


def _files_of(part: Any) -> tuple[list[Path], NDArray[np.int64]] | None:
    """The files and labels of torchvision's data set; None where it does not tell them."""
    listed: Any = None
    if getattr(part, "loader", None) is str:
        listed = [part[i] for i in range(len(part))]
    elif hasattr(part, "_images") and hasattr(part, "_labels"):  # OxfordIIITPet
        listed = list(zip(part._images, part._labels, strict=True))
    elif hasattr(part, "_samples"):  # GTSRB
        listed = part._samples
    elif not hasattr(part, "data") and len(part) and getattr(part[0][0], "filename", None):
        # Caltech101 and others: opened by Pillow and not yet read
        listed = [(image.filename, label) for image, label in (part[i] for i in range(len(part)))]
    if not listed or not isinstance(listed[0][0], str | Path):
        return None
    return [Path(path) for path, _ in listed], np.array([int(label) for _, label in listed], dtype=np.int64)


def _decoded(part: Any, image_size: int | None) -> Part:
    """The images of torchvision's data set, whole arrays where it has them.

    Args:
        part: torchvision's data set.
        image_size: side that they are scaled to; None: they stay as they are.
    """
    data, labels = getattr(part, "data", None), getattr(part, "targets", getattr(part, "labels", None))
    if image_size is None and data is not None and labels is not None:
        pixels, numbers = np.asarray(data), np.asarray(labels)
        if numbers.ndim == 2:  # QMNIST: the class is the first of eight numbers
            numbers = numbers[:, 0]
        if pixels.ndim == 3:
            pixels = pixels[:, None]
        elif pixels.shape[1] not in (1, 3):  # channels last
            pixels = pixels.transpose(0, 3, 1, 2)
        return np.ascontiguousarray(pixels.astype(np.uint8, copy=False)), numbers.astype(np.int64)
    images: NDArray[np.uint8] | None = None
    numbers = np.empty(len(part), dtype=np.int64)
    for i in range(len(part)):
        image, label = part[i]
        if label is None:
            raise ValueError(f"image {i} has no label")
        one = _array(image, image_size)
        if images is None:
            images = np.empty((len(part), *one.shape), dtype=np.uint8)
        images[i], numbers[i] = one, int(label)
    if images is None:
        raise ValueError("it has no images")
    return images, numbers


def _array(image: Image.Image, image_size: int | None) -> NDArray[np.uint8]:
    """An image as (channels, H, W): grey as one channel, all else as RGB; scaled, and its centre cut out."""
    image = image.convert("L" if image.mode in ("1", "L") else "RGB")
    if image_size is not None and image.size != (image_size, image_size):
        image = ImageOps.fit(image, (image_size, image_size), Image.Resampling.BILINEAR)
    pixels = np.asarray(image, dtype=np.uint8)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
