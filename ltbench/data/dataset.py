"""From a source to what a run uses: a long-tailed training part, validation, test, and their description."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from ltbench.config import RunConfig, canonical_json
from ltbench.data import gpu_decoding, longtail
from ltbench.data.download import Watch, silent
from ltbench.data.loading import Loader, Resident
from ltbench.data.longtail import ShotRule
from ltbench.data.resized import copies
from ltbench.data.source import ImageFiles, Images, LabelledImages, RawData, Source, reading
from ltbench.data.streaming import Streamed
from ltbench.errors import LtbenchError


@dataclass(frozen=True)
class Dataset:
    """The images of a run and what its result must say about them."""

    classes: tuple[str, ...]
    train: Images
    validation: Images | None
    test: Images
    counts: NDArray[np.int64]
    """(C,) images of each class in the whole long-tailed training set, validation part included."""
    shots: ShotRule
    mean: tuple[float, ...]
    std: tuple[float, ...]
    """Of each channel, pixels in [0, 1]."""
    image_size: int
    """Side in pixels."""
    cache_resized: int | None = None
    """Shorter side of the copies that stand in for image files; None: these themselves."""
    decode: Literal["cpu", "gpu"] = "cpu"
    """What decodes image files."""
    test_names: tuple[str, ...] = ()
    """Of the test images; empty where their files or positions name them (``source.named``)."""

    @property
    def train_counts(self) -> NDArray[np.int64]:
        """(C,) images of each class that are trained on."""
        return _counts(self.train.labels, len(self.classes))

    @cached_property
    def fingerprints(self) -> dict[str, str]:
        """Of each part, whatever the order or storage of its images."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: _fingerprint(part) for name, part in parts.items() if part is not None}

    @property
    def fingerprint(self) -> str:
        """Of all parts together."""
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
        watch: Watch = silent,
    ) -> Loader:
        """Batches of a part: of images in memory, or of files as they are read.

        Args:
            part: one of this data set's.
            device: where batches go.
            labelled: if not, every label is -1.
            workers: threads that decode files; see `Streamed`.
            watch: told about copies of files that are made first, where the run wants them.

        Raises:
            LtbenchError: if such a copy cannot be made, or there is no GPU to decode on.
        """
        if isinstance(part, LabelledImages):
            return Resident(part, self.mean, self.std, device, labelled=labelled)
        if self.decode == "gpu":
            gpu_decoding.require(device)
        if self.cache_resized is not None:
            part = copies(part, self.cache_resized, watch)
        return Streamed(
            part, self.image_size, self.mean, self.std, device,
            labelled=labelled, workers=workers, on_device=self.decode == "gpu",
        )  # fmt: skip


def load(source: Source, config: RunConfig, folder: Path) -> Dataset:
    """Load a data set, impose the imbalance that the run asks for and hold out the validation part.

    Args:
        source: the data set.
        config: of the run, everything filled in.
        folder: --data-dir.

    Raises:
        LtbenchError: if data is missing or damaged, or the ratio leaves a class empty (which).
    """
    assert config.image_size is not None, "resolve() fills it in"
    if config.cache_resized is not None and config.cache_resized < config.image_size:
        raise LtbenchError(
            f"images of {config.image_size} pixels cannot be cut from copies of {config.cache_resized}",
            where="--cache-resized",
            hint=f"give at least {config.image_size}; 256 goes with 224",
        )
    read = source.load_keeping_untested if config.keep_classes_without_test_images else source.load
    with reading(folder):
        raw = read(folder, config.image_size)
    asked = {"--cache-resized": config.cache_resized is not None, "--decode-on-gpu": config.decode == "gpu"}
    if any(asked.values()) and isinstance(raw.train, LabelledImages):
        raise LtbenchError(
            f"the images of {source.name} are decoded once and kept in memory, so that no file is read again",
            where=" and ".join(option for option, given in asked.items() if given),
            hint="leave it out; it is for data sets that stay files",
        )
    train, validation, counts = divide(source, raw, config)
    mean, std = source.statistics or _statistics(train)
    how = config.image_size, config.cache_resized, config.decode
    return Dataset(raw.classes, train, validation, raw.test, counts, ShotRule(), mean, std, *how, raw.test_names)


def divide(source: Source, raw: RawData, config: RunConfig) -> tuple[Images, Images | None, NDArray[np.int64]]:
    """The images that a run trains on, and those that it holds out for validation if it does.

    Args:
        source: the data set.
        raw: its images.
        config: of the run: imbalance ratio, data seed, and whether it holds images out.

    Returns:
        Both parts, and (C,) images of each class in both together; of an official validation set none.

    Raises:
        LtbenchError: if the ratio leaves a class empty (which), or nothing can be held out.
    """
    kept = _long_tailed(source, raw, config)
    train = raw.train if kept is None else raw.train.take(kept)
    counts = _counts(train.labels, len(raw.classes))
    _refuse_empty(raw.classes, counts, config.imbalance_ratio)
    validation = raw.validation if config.validation else None
    if config.validation and validation is None:
        same = raw.duplicates if kept is None or raw.duplicates is None else raw.duplicates[kept]
        held = longtail.hold_out(train.labels, config.data_seed, duplicates=same)
        if not held.any():
            raise LtbenchError(
                "no class has two training images, so that none can be held out for validation",
                where="--validation",
                hint="add images, or run without validation",
            )
        train, validation = train.take(~held), train.take(held)
    return train, validation, counts


def effective(config: RunConfig, data: Dataset) -> RunConfig:
    """The settings of a run without those that change nothing on its data, so that they do not change its id.

    Args:
        config: of the run.
        data: that it loads.
    """
    if config.keep_classes_without_test_images and _counts(data.test.labels, len(data.classes)).all():
        return config.replace(keep_classes_without_test_images=False)
    return config


def _long_tailed(source: Source, raw: RawData, config: RunConfig) -> NDArray[np.int64] | None:
    """Which training images are kept; None for all."""
    if config.imbalance_ratio is None:
        return None
    available = _counts(raw.train.labels, len(raw.classes))
    largest = source.largest or longtail.largest_head(available, config.imbalance_ratio)
    counts = longtail.profile(largest, len(raw.classes), config.imbalance_ratio)
    return longtail.select(raw.train.labels, counts, config.data_seed)


def _refuse_empty(classes: tuple[str, ...], counts: NDArray[np.int64], ratio: float | None) -> None:
    empty = [classes[label] for label in np.flatnonzero(counts == 0)]
    if empty:
        shown = ", ".join(empty[:8]) + (" ..." if len(empty) > 8 else "")
        raise LtbenchError(
            f"an imbalance ratio of {ratio:g} leaves no image for {len(empty)} of {len(classes)} classes: {shown}",
            where="--imbalance-ratio",
            hint=f"use a smaller ratio; the largest class has {int(counts.max())} images",
        )


def _fingerprint(part: Images) -> str:
    if isinstance(part, ImageFiles):
        return longtail.fingerprint_files(part)
    return longtail.fingerprint(part.images, part.labels)


def _counts(labels: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    return np.bincount(labels, minlength=classes).astype(np.int64)


def _statistics(part: Images) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Channel means and standard deviations; a constant channel counts as deviating by one."""
    if isinstance(part, ImageFiles):  # measuring them would mean to decode them all
        return IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
    pixels = part.images.astype(np.float64) / 255
    mean, std = pixels.mean((0, 2, 3)), pixels.std((0, 2, 3))
    return tuple(mean.round(4).tolist()), tuple(np.where(std < 1e-4, 1.0, std).round(4).tolist())
