"""What the data sets of torchvision hand out: names of classes, image files, or images."""

import inspect
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

ImagesAndLabels = tuple[NDArray[np.uint8], NDArray[np.int64]]
"""Images (N, channels, H, W) and labels (N,)."""


def parameters(cls: type) -> set[str]:
    """What a class takes, and the class that it hands further keywords on to, as EMNIST does."""
    own = inspect.signature(cls).parameters
    handed_on = any(one.kind is one.VAR_KEYWORD for one in own.values())
    return {*own, *(parameters(cls.__mro__[1]) if handed_on and cls.__mro__[1] is not object else ())}


def class_names(part: Any, split: object = None) -> list[str]:
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


def files_of(part: Any) -> tuple[list[Path], NDArray[np.int64]] | None:
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


def decoded(part: Any, image_size: int | None) -> ImagesAndLabels:
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
