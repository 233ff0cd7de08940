"""Image files to RGB pixels."""

import io
import struct
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from ltbench.data.source import unreadable
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
_JPEG, _SCAN, _END = b"\xff\xd8\xff", b"\xff\xda", b"\xff\xd9"


def read_rgb(file: Path) -> Tensor:
    """The pixels of an image file, upright as its EXIF data say: (3, height, width) uint8.

    Raises:
        LtbenchError: naming the file, if it is missing, truncated or no image.
    """
    return rgb(stored(file), file)


def stored(file: Path) -> NDArray[np.uint8]:
    """The bytes of an image file.

    Raises:
        LtbenchError: naming the file, if it cannot be read.
    """
    try:
        return np.fromfile(file, dtype=np.uint8)
    except OSError as error:
        raise unreadable(file, error) from None


def rgb(encoded: NDArray[np.uint8], file: Path) -> Tensor:
    """The pixels of an image from the bytes of its file, upright as its EXIF data say.

    JPEG is decoded by torchvision (libjpeg-turbo, off Python's lock, so that threads decode side by side), other
    kinds, and what it refuses, by Pillow.

    Args:
        encoded: the bytes.
        file: that they come from, for the error.

    Returns:
        (3, height, width) uint8.

    Raises:
        LtbenchError: naming the file, if it is truncated or no image.
    """
    if decode_jpeg is not None and is_jpeg(encoded):
        try:
            pixels: Tensor = decode_jpeg(torch.from_numpy(encoded), mode=ImageReadMode.RGB, apply_exif_orientation=True)
            return pixels
        except RuntimeError:
            pass  # Pillow has the last word
    try:
        with Image.open(io.BytesIO(encoded.tobytes())) as opened:
            image = as_rgb(ImageOps.exif_transpose(opened))
    except UNREADABLE:
        hint = "replace it; a copy in the cache folder may be deleted and is made anew"
        raise LtbenchError("the file is truncated or is no image", where=file, hint=hint) from None
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def is_jpeg(encoded: NDArray[np.uint8]) -> bool:
    """Whether bytes begin as a JPEG file does."""
    return encoded[: len(_JPEG)].tobytes() == _JPEG


def is_cut_off(encoded: NDArray[np.uint8]) -> bool:
    """Whether a JPEG file has no end behind its pixels, as one whose download stopped in a file of the full size.

    Decoders fill in grey. What follows the end does not matter: cameras and programs add things.
    """
    if not is_jpeg(encoded):
        return False
    content, at = encoded.tobytes(), 2
    while content.startswith(b"\xff", at) and not content.startswith(_SCAN, at):  # segments, one with a preview perhaps
        filling = content.startswith(b"\xff\xff", at)
        at += 1 if filling else 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    return _END not in content[at:]


def as_rgb(image: Image.Image) -> Image.Image:
    """Any image in colour: 16-bit grey scaled to 8 bits, what is transparent on white."""
    if image.mode.startswith("I"):  # 16-bit grey: PIL would clip it to white instead of scaling it
        image = Image.fromarray((np.asarray(image, dtype=np.uint32) >> 8).clip(0, 255).astype(np.uint8))
    if image.mode in ("P", "PA", "LA", "RGBA", "La", "RGBa"):  # transparent pixels carry arbitrary colours
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")
