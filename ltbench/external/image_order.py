"""The order in which ltbench has the images of a data set."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from ltbench import registry
from ltbench.config import RunConfig, validated
from ltbench.data import dataset
from ltbench.data.datasets.base import reading
from ltbench.data.images import ImageFiles, Images

Part = Literal["train", "validation", "test"]


def image_order(
    name: str,
    folder: Path,
    image_size: int | None = None,
    part: Part = "test",
    imbalance_ratio: float | None = None,
    data_seed: int = 0,
    *,
    keep_untested: bool = False,
) -> pd.DataFrame:
    """The images of a part of a data set in the order in which ltbench has them.

    Args:
        name: of the data set.
        folder: --data-dir.
        image_size: side in pixels; None: the data set's own.
        part: test; train: the long-tailed training images, before any are held out; validation: those that a run with
            --validation holds out of them, or the official validation set.
        imbalance_ratio: of the training images; None: the data set's own.
        data_seed: draws the training images.
        keep_untested: whether classes may lack test images.

    Returns:
        One row an image: ``label``, ``class`` and ``image``, which is its file, or its position in the official data.

    Raises:
        LtbenchError: if the data is missing or damaged.
    """
    source = registry.dataset(name, where="NAME")
    ratio = source.imbalance_ratio if imbalance_ratio is None else imbalance_ratio
    settings = {"dataset": name, "imbalance_ratio": ratio, "data_seed": data_seed, "validation": part == "validation"}
    config = validated(RunConfig, settings)
    read = source.load_keeping_untested if keep_untested else source.load
    with reading(folder):
        raw = read(folder, image_size or source.image_size)
    named: dict[str, Images | None] = {"test": _image_files(raw.test, raw.test_names)}
    if part != "test":  # names take the place of the images
        official = None if raw.validation is None else _image_files(raw.validation, raw.validation_names)
        whole = replace(raw, train=_image_files(raw.train, raw.train_names), validation=official)
        named["train"], named["validation"], _ = dataset.divide(source, whole, config)
    found = named[part]
    assert isinstance(found, ImageFiles)
    classes = [raw.classes[label] for label in found.labels]
    return pd.DataFrame({"label": found.labels, "class": classes, "image": found.names})


def _image_files(images: Images, names: Sequence[str]) -> ImageFiles:
    """Images by name: as given, as their files are called, or by position."""
    if isinstance(images, ImageFiles) and not names:
        return images
    return ImageFiles(Path(), np.array(names or [str(place) for place in range(len(images))]), images.labels)
