"""The data of a run: a long-tailed training part, validation and test, and their description."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from ltbench.config import RunConfig, canonical_json
from ltbench.data import long_tail
from ltbench.data.datasets import exported
from ltbench.data.datasets.base import Source, explain_permission_errors
from ltbench.data.datasets.label_table import LabelTable
from ltbench.data.images import ImageFiles, Images, LabelledImages, RawData
from ltbench.data.loading import decode_gpu
from ltbench.data.loading.base import Loader
from ltbench.data.loading.from_files import FileLoader
from ltbench.data.loading.in_memory import InMemoryLoader
from ltbench.data.loading.resize_cache import resized
from ltbench.data.long_tail import ShotRule, digests, fingerprint_digests, fingerprint_files
from ltbench.errors import LtbenchError
from ltbench.progress import ProgressListener, silent


@dataclass(frozen=True)
class Dataset:
    """The images of a run and what its result must say about them."""

    classes: tuple[str, ...]
    train: Images
    validation: Images | None
    test: Images
    counts: NDArray[np.int64]
    """(C,) number of images of each class in the whole long-tailed training set, validation part included."""
    shots: ShotRule
    mean: tuple[float, ...]
    std: tuple[float, ...]
    """Channel means and standard deviations of pixels in [0, 1]."""
    image_size: int
    """Side in pixels."""
    cache_resized: int | None = None
    """Shorter side of the images in the resize cache, which are decoded instead of the files; None: the files."""
    decode: Literal["cpu", "gpu"] = "cpu"
    """Device that decodes image files."""
    test_names: tuple[str, ...] = ()
    """Names of the test images; empty where their files or positions name them (``ltbench.data.images.named``)."""

    @property
    def train_counts(self) -> NDArray[np.int64]:
        """(C,) number of images of each class that are trained on."""
        return _counts(self.train.labels, len(self.classes))

    @cached_property
    def fingerprints(self) -> dict[str, str]:
        """Fingerprint of each part, independent of the order and storage of its images."""
        return {
            name: fingerprint_files(part) if isinstance(part, ImageFiles) else fingerprint_digests(self._digests[name])
            for name, part in self._parts.items()
        }

    @property
    def _parts(self) -> dict[str, Images]:
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: part for name, part in parts.items() if part is not None}

    @cached_property
    def _digests(self) -> dict[str, list[bytes]]:
        """The hash of every image in memory, by part."""
        return {
            name: digests(part.images, part.labels)
            for name, part in self._parts.items()
            if not isinstance(part, ImageFiles)
        }

    def order_hash(self, part: Images) -> str:
        """A hash of the images of a part in their order: of their pixels, or of the files' names, sizes and times.

        Args:
            part: train, validation or test images of this data set.
        """
        if isinstance(part, ImageFiles):
            about = [(part.root / name).stat() for name in part.names]
            lines = [f"{name}\0{one.st_size}\0{one.st_mtime_ns}" for name, one in zip(part.names, about, strict=True)]
            return hashlib.blake2b("\n".join(lines).encode(), digest_size=16).hexdigest()
        (name,) = (name for name, one in self._parts.items() if one is part)
        return hashlib.blake2b(b"".join(self._digests[name]), digest_size=16).hexdigest()

    @property
    def fingerprint(self) -> str:
        """Fingerprint of all parts together."""
        return canonical_json(self.fingerprints)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        if isinstance(self.train, ImageFiles):
            return 3, self.image_size, self.image_size
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    def loader(
        self,
        part: Images,
        device: torch.device,
        *,
        labelled: bool = True,
        workers: int | None = None,
        listener: ProgressListener = silent,
    ) -> Loader:
        """Batches of a part: of images in memory, or of files as they are read.

        Args:
            part: train, validation or test images of this data set.
            device: where batches go.
            labelled: if not, every label is -1.
            workers: threads that decode files; see `FileLoader`.
            listener: hears of the progress of the resize cache, which is filled first where the run uses one.

        Raises:
            LtbenchError: if the resize cache cannot be filled, or there is no GPU to decode on.
        """
        if isinstance(part, LabelledImages):
            return InMemoryLoader(part, self.mean, self.std, device, labelled=labelled)
        if self.decode == "gpu":
            decode_gpu.require(device)
        if self.cache_resized is not None:
            part = resized(part, self.cache_resized, listener)
        return FileLoader(
            part,
            self.image_size,
            self.mean,
            self.std,
            device,
            labelled=labelled,
            workers=workers,
            on_device=self.decode == "gpu",
        )


_TOGETHER = 256
"""Images whose pixels are counted at a time."""
Statistics = tuple[tuple[float, ...], tuple[float, ...]]
"""Channel means and standard deviations of pixels in [0, 1]."""


def load(
    source: Source,
    config: RunConfig,
    folder: Path,
    expected: Callable[[int], Statistics | None] | None = None,
) -> Dataset:
    """Load a data set, impose the imbalance that the run asks for and hold out the validation part.

    Args:
        source: the data set.
        config: of the run; without an image size it is the data set's own.
        folder: --data-dir.
        expected: gives what pre-trained weights were trained with, for so many channels, if that is known; None: there
            are no such weights.

    Raises:
        LtbenchError: if data is missing or damaged, or the ratio leaves a class empty (which).
    """
    scaled_later = config.train == "head" and not source.any_size  # by ``ltbench.features``
    image_size = source.image_size if scaled_later else config.image_size or source.image_size
    if config.cache_resized is not None and config.cache_resized < image_size:
        raise LtbenchError(
            f"the resize cache has images of {config.cache_resized} pixels, too small for crops of {image_size}",
            where="--cache-resized",
            hint=f"give at least {image_size}; 256 goes with 224",
        )
    raw = read(source, config, folder, image_size)
    asked = {"--cache-resized": config.cache_resized is not None, "--decode-on-gpu": config.decode == "gpu"}
    if any(asked.values()) and isinstance(raw.train, LabelledImages):
        raise LtbenchError(
            f"the images of {source.name} are decoded once and kept in memory, so the option has no effect",
            where=" and ".join(option for option, given in asked.items() if given),
            hint="leave it out; it is for data sets whose images stay files",
        )
    train, validation, counts = divide(source, raw, config)
    of_weights = expected(_channels(train)) if expected is not None else None
    mean, std = of_weights or source.statistics or _statistics(train)
    how = image_size, config.cache_resized, config.decode
    return Dataset(raw.classes, train, validation, raw.test, counts, ShotRule(), mean, std, *how, raw.test_names)


def read(source: Source, config: RunConfig, folder: Path, image_size: int) -> RawData:
    """The images of a data set before any imbalance is imposed.

    Args:
        source: the data set.
        config: of the run: the table of labels, and whether classes may lack test images.
        folder: --data-dir.
        image_size: side in pixels.

    Raises:
        LtbenchError: if data is missing or damaged.
    """
    keep = config.keep_classes_without_test_images
    if config.label_columns is not None and config.labels is None:
        hint = "add --labels FILE, or leave the option out"
        raise LtbenchError("there is no table to have columns", where="--label-columns", hint=hint)
    with explain_permission_errors(folder):
        if config.labels is None and (export := exported.find(folder, source.name)) is not None:
            return export.load(config, image_size)
        if config.labels is not None:
            labels = LabelTable(config.labels, config.label_columns)
            return source.load_labelled(folder, image_size, labels, keep_untested=keep)
        return (source.load_keeping_untested if keep else source.load)(folder, image_size)


def divide(source: Source, raw: RawData, config: RunConfig) -> tuple[Images, Images | None, NDArray[np.int64]]:
    """The images that a run trains on, and those that it holds out for validation if it does.

    Args:
        source: the data set.
        raw: its images.
        config: configuration of the run: imbalance ratio, data seed, and whether it holds images out.

    Returns:
        Training part, validation part, and (C,) number of images of each class in both together; an official
        validation set does not count.

    Raises:
        LtbenchError: if the ratio leaves a class empty (which), or nothing can be held out.
    """
    kept = drawn(source, raw, config)
    train = raw.train if kept is None else raw.train.take(kept)
    counts = _counts(train.labels, len(raw.classes))
    _refuse_empty(raw.classes, counts, config.imbalance_ratio)
    validation = raw.validation if config.validation else None
    if config.validation and validation is None:
        duplicates = raw.duplicates if kept is None or raw.duplicates is None else raw.duplicates[kept]
        held_out = long_tail.hold_out(train.labels, config.data_seed, duplicates=duplicates)
        if not held_out.any():
            raise LtbenchError(
                "no class has two training images, so none can be held out for validation",
                where="--validation",
                hint="add images, or run without validation",
            )
        train, validation = train.take(~held_out), train.take(held_out)
    return train, validation, counts


def effective(config: RunConfig, data: Dataset) -> RunConfig:
    """The configuration of a run without settings that change nothing on its data, so that they do not change its id.

    Args:
        config: configuration of the run.
        data: the data that it loads.
    """
    if config.labels is not None:  # its content is in the fingerprints of the data
        config = config.replace(labels=None, label_columns=None)
    if not config.draws_images:
        config = config.replace(data_seed=0)
    if config.keep_classes_without_test_images and _counts(data.test.labels, len(data.classes)).all():
        return config.replace(keep_classes_without_test_images=False)
    return config


def drawn(source: Source, raw: RawData, config: RunConfig) -> NDArray[np.int64] | None:
    """Indices of the training images that are kept; None for all."""
    ratio, imbalance = config.imbalance_ratio, config.imbalance
    if ratio is None:
        if imbalance != "exp" or config.class_order != "label":
            raise LtbenchError(
                f"{source.name} is used as it is, so there are no class counts to choose",
                where="--imbalance" if imbalance != "exp" else "--class-order",
                hint="add --imbalance-ratio, e.g. 100, or leave the option out",
            )
        return None
    if raw.drawn:  # as the settings ask for: ``exported`` has looked
        return None
    classes = len(raw.classes)
    order = long_tail.class_order(classes, config.data_seed if config.class_order == "drawn" else None)
    available = _counts(raw.train.labels, classes)
    largest = source.largest or long_tail.largest_head(available[order], ratio, imbalance)
    counts = np.empty(classes, dtype=np.int64)
    counts[order] = long_tail.PROFILES[imbalance](largest, classes, ratio)
    return long_tail.select(raw.train.labels, counts, config.data_seed)


def _refuse_empty(classes: tuple[str, ...], counts: NDArray[np.int64], ratio: float | None) -> None:
    empty = [classes[label] for label in np.flatnonzero(counts == 0)]
    if empty:
        shown = ", ".join(empty[:8]) + (" ..." if len(empty) > 8 else "")
        cause, hint = "there is no training image", "add training images of these classes, or remove them"
        if ratio is not None:
            cause = f"an imbalance ratio of {ratio:g} leaves no image"
            hint = f"use a smaller ratio; the largest class has {int(counts.max())} images"
        raise LtbenchError(
            f"{cause} for {len(empty)} of {len(classes)} classes: {shown}",
            where="--dataset" if ratio is None else "--imbalance-ratio",
            hint=hint,
        )


def _counts(labels: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    return np.bincount(labels, minlength=classes).astype(np.int64)


def _channels(part: Images) -> int:
    return 3 if isinstance(part, ImageFiles) else part.images.shape[1]


def _statistics(part: Images) -> Statistics:
    """Channel means and standard deviations; that of a constant channel counts as 1."""
    if isinstance(part, ImageFiles):  # measuring them would mean to decode them all
        return IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
    levels, counts = np.arange(256) / 255, np.zeros((_channels(part), 256), np.int64)
    for begin in range(0, len(part), _TOGETHER):  # levels are counted: float64 pixels would take eight times the memory
        for channel, pixels in enumerate(part.images[begin : begin + _TOGETHER].swapaxes(0, 1)):
            counts[channel] += np.bincount(pixels.reshape(-1), minlength=256)
    weights = counts / counts.sum(1, keepdims=True)
    mean = weights @ levels
    std = np.sqrt((weights * (levels - mean[:, None]) ** 2).sum(1))
    return tuple(mean.round(4).tolist()), tuple(np.where(std < 1e-4, 1.0, std).round(4).tolist())
