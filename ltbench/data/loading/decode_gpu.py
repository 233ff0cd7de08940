"""JPEG files decoded on a GPU by nvJPEG, a few at a time; the CPU decodes all other files.

Its pixels differ from libjpeg-turbo's by rounding, so GPU decoding is a setting of a run. The tests run on a CPU, where
the one call of nvJPEG is replaced by libjpeg-turbo's.
"""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image
from torch import Tensor

from ltbench.data.loading.decode import MAX_PIXELS, UNREADABLE, decode_rgb, is_jpeg, read_bytes
from ltbench.errors import LtbenchError, first_line

try:
    from torchvision.io import ImageReadMode, decode_jpeg
except ImportError:  # deprecated since torchvision 0.29
    decode_jpeg = None

_END = b"\xff\xd9"


def require(device: torch.device) -> None:
    """Try the decoder on a small image: where it cannot work, the CPU must not silently do everything.

    Raises:
        LtbenchError: if the device is no GPU, or torchvision cannot decode on it.
    """
    reason = None
    if device.type != "cuda":
        reason = f"the device is '{device}'"
    elif decode_jpeg is None:
        reason = "this version of torchvision has no JPEG decoder"
    else:
        stream = io.BytesIO()
        Image.new("RGB", (16, 16)).save(stream, "JPEG")
        try:
            _decode_batch([torch.frombuffer(bytearray(stream.getvalue()), dtype=torch.uint8)], device)
        except RuntimeError as error:
            reason = first_line(error)
    if reason is not None:
        hint = "leave the option out; the CPU then decodes"
        raise LtbenchError(f"images cannot be decoded on a GPU: {reason}", where="--decode-on-gpu", hint=hint)


def read_all(files: Sequence[Path], device: torch.device) -> list[Tensor]:
    """The pixels of image files on the device, upright: (3, height, width) uint8 each.

    The CPU decodes what is not an upright, whole baseline JPEG in YCbCr, and what the device refuses. This depends on
    the file alone, and not on those that are decoded with it.

    Raises:
        LtbenchError: naming a file that is missing, truncated or no image.
    """
    encoded = [read_bytes(file) for file in files]
    suited = [i for i, one in enumerate(encoded) if _suits_gpu(one)]
    found = dict(zip(suited, _decoded([torch.from_numpy(encoded[i]) for i in suited], device), strict=True))
    others = {i: decode_rgb(encoded[i], file).to(device) for i, file in enumerate(files) if found.get(i) is None}
    return [pixels for _, pixels in sorted({**found, **others}.items()) if pixels is not None]


def _decode_batch(encoded: list[Tensor], device: torch.device) -> list[Tensor]:
    found: list[Tensor] = decode_jpeg(encoded, ImageReadMode.RGB, torch.device(device.type, device.index or 0))
    return found


def _decoded(encoded: list[Tensor], device: torch.device) -> list[Tensor | None]:
    """Decode images together; where that fails, each alone; None for one that fails alone."""
    if not encoded:
        return []
    try:
        return [*_decode_batch(encoded, device)]
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:
        return [None] if len(encoded) == 1 else [one for alone in encoded for one in _decoded([alone], device)]


def _suits_gpu(encoded: NDArray[np.uint8]) -> bool:
    if not is_jpeg(encoded) or encoded[-len(_END) :].tobytes() != _END:  # a GPU may fill in what is cut off
        return False
    try:
        with Image.open(io.BytesIO(encoded.tobytes())) as opened:  # reads no pixel
            about = opened.info
            colours = opened.mode == "RGB" and about.get("adobe_transform", 1) == 1
            upright = opened.getexif().get(ExifTags.Base.Orientation, 1) == 1
            small = opened.width * opened.height <= MAX_PIXELS  # what is not, the CPU refuses by name
            return small and colours and upright and "progressive" not in about
    except UNREADABLE:
        return False
