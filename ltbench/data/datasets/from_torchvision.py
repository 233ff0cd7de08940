"""torchvision:NAME: the data sets of torchvision.datasets for classification, as ``torchvision.toml`` declares them."""

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ltbench.config import read_toml
from ltbench.config.validation import Frozen
from ltbench.data import long_tail
from ltbench.data.datasets import idx
from ltbench.data.datasets.base import Source
from ltbench.data.datasets.torchvision_parts import ImagesAndLabels, class_names, decoded, files_of, parameters
from ltbench.data.images import LabelledImages, RawData
from ltbench.errors import LtbenchError, LtbenchWarning, first_line, unknown

PREFIX = "torchvision:"
_NOT_OFFERED = "not_offered"
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
    download: bool = True
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


_PAGE = "the documentation of torchvision.datasets."


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
            parts = {part: idx.read(*pair) for part, pair in found.items()}
            self._check_sizes({part: len(labels) for part, (_, labels) in parts.items()})
            return _in_memory(parts, class_names(self._class(), self.declared.train.get("split")))
        opened = {part: self._open(root, part, download=False) for part in self.declared.parts}
        self._check_sizes({part: len(one) for part, one in opened.items()})
        try:
            listed = {part: files_of(one) for part, one in opened.items()}
            names = class_names(opened["train"])
            if all(one is not None for one in listed.values()):
                paths = {part: one for part, one in listed.items() if one is not None}
                return _from_files(root, paths, names, image_size)
            size = image_size if self.any_size else None
            return _in_memory({part: decoded(one, size) for part, one in opened.items()}, names)
        except _FAULTS as error:
            raise self._damaged(folder, error) from None

    def prepare(self, folder: Path) -> str:
        """Download what torchvision downloads, and unpack it."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LtbenchError(f"the folder cannot be made: {error.strerror}", where=folder.absolute()) from None
        opened = {part: self._open(folder.absolute(), part, download=True) for part in self.declared.parts}
        self._check_sizes({part: len(one) for part, one in opened.items()})
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
        accepted = parameters(cls)
        keywords: dict[str, Any] = dict(self.declared.parts[part])
        if "download" in accepted:
            keywords["download"] = download
        if "loader" in accepted:
            keywords["loader"] = str
        try:
            return cls(str(root), **keywords)
        except _FAULTS as error:
            if download:
                failed = "the download failed" if self.declared.download else "torchvision does not download it"
                raise LtbenchError(
                    f"{self.name}: {failed}: {first_line(error)}",
                    where=root,
                    hint=f"fetch it by hand, so that there is {self.declared.found_by} in the folder; "
                    f"{_PAGE}{self._torchvision_name} says from where",
                ) from None
            raise self._damaged(root, error, part) from None

    def _missing(self, folder: Path) -> LtbenchError:
        looked = self.declared.found_by
        if self.declared.idx:
            looked += f" and {self.declared.idx[0]}-images-idx3-ubyte.gz"
        other = self._other_labels(folder)
        get = f"{self.command('prepare', folder)} downloads it"
        if not self.declared.download:
            get = f"torchvision does not download it: {_PAGE}{self._torchvision_name} says from where to fetch it"
        return LtbenchError(
            f"{self.name}: {f'the files there are those of {other}' if other else 'no data found'}",
            where=f"{folder.absolute()} (looked for {looked})",
            hint=f"{get}; or point --data-dir at a folder that has it",
        )

    def _damaged(self, folder: Path, error: Exception, part: str = "") -> LtbenchError:
        told = re.search(r"pip install ([\w.-]+)", str(error))  # torchvision raises a RuntimeError of some packages
        if isinstance(error, ImportError) or told is not None:
            package = getattr(error, "name", None) or (told[1] if told is not None else "it")
            what = f"{self.name} takes a package: {first_line(error)}"
            return LtbenchError(what, where=folder.absolute(), hint=f"pip install {package}")
        what = f"its {part} images are" if part else "it is"
        get = self.command("prepare", folder)
        hint = f"fetch it again, so that {self.declared.found_by} is whole"
        if self.declared.download:
            hint = f"run: {get}; if that does not help, delete the damaged files in {self.declared.found_by} first"
        return LtbenchError(
            f"{self.name}: {what} missing, damaged or incomplete: {first_line(error)}",
            where=folder.absolute(),
            hint=hint,
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
                idx.first_file(folder / self.declared.found_by if own else folder, f"{start}-{kind}-ubyte")
                for kind in ("images-idx3", "labels-idx1")
            )
            if images is None or labels is None:
                return None
            found[part] = (images, labels)
        return found

    def _other_labels(self, folder: Path) -> str | None:
        """The data set whose test labels lie in the folder itself if it is another one of MNIST's format, in words."""
        start = self.declared.idx[1] if self.declared.idx is not None else None
        file = idx.first_file(folder, f"{start}-labels-idx1-ubyte") if start is not None else None
        alike = {name: one.first_labels for name, one in declared().items() if one.idx == self.declared.idx}
        if file is None or not any(alike.values()):
            return None
        labels = tuple(idx.array(file, idx.LABELS)[:10].tolist())
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


def _in_memory(parts: Mapping[str, ImagesAndLabels], names: Sequence[str]) -> RawData:
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
    tests = long_tail.hold_out(whole.labels, 0, long_tail.TEST_FRACTION, stream="test split")
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
        tests = long_tail.hold_out(whole.labels, 0, long_tail.TEST_FRACTION, copies, stream="test split")
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
