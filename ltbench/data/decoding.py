"""Image files to RGB pixels."""

import struct
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from ltbench.errors import LtbenchError

try:
    from torchvision.io import ImageReadMode, decode_jpeg
except ImportError:  # deprecated since torchvision 0.29; Pillow gives the same pixels in some more time
    decode_jpeg = None

UNREADABLE = (
    OSError,
    UnidentifiedImageError,
    SyntaxError,
    ValueError,
    struct.error,  # EXIF data of the wrong kind in an image that is to be rotated
    Image.DecompressionBombError,
)
"""What Pillow raises for a file that is truncated or no image."""
_JPEG = b"\xff\xd8\xff"


def read_rgb(file: Path) -> Tensor:
    """The pixels of an image file, upright as its EXIF data say.

    JPEG files are decoded by torchvision (libjpeg-turbo, off Python's lock, so that threads decode side by side),
    other kinds, and JPEG files that it refuses, by Pillow.

    Returns:
        (3, height, width) uint8.

    Raises:
        LtbenchError: naming the file, if it is missing, truncated or no image.
    """
    try:
        stored = np.fromfile(file, dtype=np.uint8)
    except OSError as error:
        raise LtbenchError(f"an image cannot be read: {error.strerror}", where=file) from None
    if decode_jpeg is not None and stored[: len(_JPEG)].tobytes() == _JPEG:
        try:
            pixels: Tensor = decode_jpeg(torch.from_numpy(stored), mode=ImageReadMode.RGB, apply_exif_orientation=True)
            return pixels
        except RuntimeError:
            pass  # Pillow has the last word
    try:
        with Image.open(file) as opened:
            image = as_rgb(ImageOps.exif_transpose(opened))
    except UNREADABLE:
        raise LtbenchError("the file is truncated or is no image", where=file, hint="replace it") from None
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def as_rgb(image: Image.Image) -> Image.Image:
    """Any image in colour: 16-bit grey scaled to 8 bits, what is transparent on white."""
    if image.mode.startswith("I"):  # 16-bit grey: PIL would clip it to white instead of scaling it
        image = Image.fromarray((np.asarray(image, dtype=np.uint32) >> 8).clip(0, 255).astype(np.uint8))
    if image.mode in ("P", "PA", "LA", "RGBA", "La", "RGBa"):  # transparent pixels carry arbitrary colours
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")
