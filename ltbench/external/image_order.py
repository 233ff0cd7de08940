"""The order of the images of a data set in ltbench, by which predictions of other programs are matched."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from ltbench import registry
from ltbench.config import RunConfig, validated
from ltbench.data import dataset
from ltbench.data.images import ImageFiles, Images, named

PartName = Literal["train", "validation", "test"]


def image_order(
    name: str,
    folder: Path,
    image_size: int | None = None,
    part: PartName = "test",
    chosen: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """The images of a part of a data set in the order of ltbench.

    Args:
        name: name of the data set.
        folder: --data-dir.
        image_size: side in pixels; None: the data set's default.
        part: train are the long-tailed training images, before any are held out; validation those that a run with
            --validation holds out, or the official validation set.
        chosen: settings of a run by which its images are found and drawn, e.g. labels and imbalance_ratio; what is
            left out is as a run has it.

    Returns:
        One row per image: ``label``, ``class`` and ``image``, which is its file, or its position in the official data.

    Raises:
        LtbenchError: if the data is missing or damaged.
    """
    source = registry.dataset(name, where="NAME")
    settings = {"dataset": name, "imbalance_ratio": source.imbalance_ratio, "validation": part == "validation"}
    config = validated(RunConfig, {**settings, **(chosen or {})})
    raw = dataset.read(source, config, folder, image_size or source.image_size)
    parts: dict[str, Images | None] = {"test": named(raw.test, raw.test_names)}
    if part != "test":  # names take the place of the images
        official = None if raw.validation is None else named(raw.validation, raw.validation_names)
        whole = replace(raw, train=named(raw.train, raw.train_names), validation=official)
        parts["train"], parts["validation"], _ = dataset.divide(source, whole, config)
    found = parts[part]
    assert isinstance(found, ImageFiles)
    classes = [raw.classes[label] for label in found.labels]
    return pd.DataFrame({"label": found.labels, "class": classes, "image": found.names})
