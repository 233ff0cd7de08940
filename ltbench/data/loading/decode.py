"""Image files to RGB pixels, within bounds that are checked before anything is decoded.

Every command reads images here, so that training, evaluation and ``ltbench predict`` see the same pixels.
"""

import io
import struct
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from ltbench.data.images import image_read_error
from ltbench.errors import LtbenchError

if TYPE_CHECKING:
    from torch import Tensor

UNREADABLE = (
    OSError,
    UnidentifiedImageError,
    SyntaxError,
    ValueError,
    struct.error,  # EXIF data of the wrong kind in an image that is to be rotated
    Image.DecompressionBombError,
)
"""Exceptions of Pillow for a file that is truncated or no image."""
MAX_PIXELS = 178_956_970
"""Largest number of pixels of an image; the number at which Pillow assumes a decompression bomb."""
MAX_BYTES = 2**31
"""Largest size of an image file."""
PIXELS_AT_ONCE = 2**28
"""Largest number of pixels that all threads decode at the same time: about 1 GB, 2 GB for unusual image modes."""
HINT = "replace it; a copy in the cache folder may be deleted and is made anew"
_JPEG, _SCAN, _END = b"\xff\xd8\xff", b"\xff\xda", b"\xff\xd9"
TRUNCATED = "truncated, or no image"
_NO_FRAMES = ("MPO", "PSD")
_BITS_PER_SAMPLE = 258
"""TIFF tag."""
_STRIP = 2**22
"""Pixels of an image that are converted to RGB at a time."""

# Pillow's own blocks of 16 MB stay in a thread's part of the heap when they are freed: six large images, one after the
# other in six threads, would hold the memory of six. Larger blocks go back to the system.
Image.core.set_block_size(2**26)  # type: ignore[attr-defined]  # documented, though not exported
# Pillow warns at half of its limit. Ours is its limit, and what is below it is decoded within `PIXELS_AT_ONCE`.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class UnreadableImageError(LtbenchError):
    """An image file that cannot be used.

    Args:
        file: the file.
        reason: the reason, in a few words.
    """

    def __init__(self, file: Path, reason: str) -> None:
        what = "the file is truncated or is no image" if reason == TRUNCATED else reason
        super().__init__(what, where=file, hint=HINT)
        self.file, self.reason = file, reason


class _PixelBudget:
    """Limits the pixels that threads decode at the same time; an image beyond the limit is decoded alone."""

    def __init__(self, pixels: int) -> None:
        self._size = self._free = pixels
        self._changed = threading.Condition()

    @contextmanager
    def holding(self, pixels: int) -> Iterator[None]:
        own = min(pixels, self._size)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= own)
            self._free -= own
        try:
            yield
        finally:
            with self._changed:
                self._free += own
                self._changed.notify_all()


_budget = _PixelBudget(PIXELS_AT_ONCE)


def read_rgb(file: Path) -> "Tensor":
    """The pixels of an image file, upright as its EXIF data say: (3, height, width) uint8.

    Raises:
        LtbenchError: naming the file, if it is missing, truncated, too large or no image.
    """
    return decode_rgb(read_bytes(file), file)


def read_bytes(file: Path) -> NDArray[np.uint8]:
    """The bytes of an image file.

    Raises:
        LtbenchError: naming the file, if it cannot be read or has more than `MAX_BYTES`.
    """
    try:
        size = file.stat().st_size
        if not size:
            raise UnreadableImageError(file, "the file is empty")
        if size > MAX_BYTES:
            raise UnreadableImageError(file, f"the file has {size:,} bytes, more than {MAX_BYTES:,}")
        return np.fromfile(file, dtype=np.uint8)
    except OSError as error:
        raise image_read_error(file, error) from None


def decode_rgb(encoded: NDArray[np.uint8], file: Path) -> "Tensor":
    """The pixels of an image from the bytes of its file, upright as its EXIF data say.

    JPEG is decoded by torchvision (libjpeg-turbo, without Python's lock, so that threads work side by side). Other
    formats, and what it refuses, are decoded by Pillow.

    Args:
        encoded: the bytes.
        file: their file, for the error.

    Returns:
        (3, height, width) uint8.

    Raises:
        UnreadableImageError: naming the file, if it is truncated, too large or no image.
    """
    import torch  # not above: a folder is listed and checked without it

    with open_image(io.BytesIO(encoded.tobytes()), file) as image:
        decode_jpeg = _jpeg_decoder() if is_jpeg(encoded) else None
        if decode_jpeg is not None:
            try:
                return decode_jpeg(torch.from_numpy(encoded))
            except RuntimeError:
                pass  # Pillow has the last word
        return torch.from_numpy(np.array(upright_rgb(image, file))).permute(2, 0, 1)


@cache
def _jpeg_decoder() -> "Callable[[Tensor], Tensor] | None":
    """Torchvision's decoder of JPEG to RGB, upright; None where it has none."""
    try:
        from torchvision.io import ImageReadMode, decode_jpeg
    except ImportError:  # deprecated since torchvision 0.29; Pillow gives the same pixels in some more time
        return None
    return partial(decode_jpeg, mode=ImageReadMode.RGB, apply_exif_orientation=True)


@contextmanager
def open_image(stream: BinaryIO | Path, file: Path) -> Iterator[Image.Image]:
    """An image whose header has been read; the first of several frames.

    An open image counts towards `PIXELS_AT_ONCE`, so opening may wait for other threads.

    Args:
        stream: a stream, or the path to open.
        file: for the error.

    Raises:
        UnreadableImageError: if it is no image, has more than `MAX_PIXELS`, or pixels of an unknown range.
    """
    if isinstance(stream, Path) and stream.exists() and not stream.is_file():
        raise UnreadableImageError(file, "it is a folder, a device or a pipe")  # of which some have no end
    try:
        image = Image.open(stream)
    except Image.DecompressionBombError:
        raise UnreadableImageError(file, f"the image has more than {MAX_PIXELS:,} pixels") from None
    except UNREADABLE as error:
        if isinstance(error, OSError) and error.strerror:  # the operating system's word
            raise UnreadableImageError(file, f"it cannot be read: {error.strerror}") from None
        empty = isinstance(stream, Path) and not stream.stat().st_size
        raise UnreadableImageError(file, "the file is empty" if empty else TRUNCATED) from None
    with image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            too_many = f"the image has {width} x {height} pixels, more than {MAX_PIXELS:,} in all"
            raise UnreadableImageError(file, too_many)
        if reason := _unknown_range(image):
            raise UnreadableImageError(file, reason)
        with _budget.holding(width * height):
            yield image


def upright_rgb(image: Image.Image, file: Path) -> Image.Image:
    """Decode an image that is opened by `open_image` to RGB, upright as its EXIF data say.

    Raises:
        UnreadableImageError: naming the file, if it is truncated.
    """
    try:
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        return as_rgb(image)
    except Image.DecompressionBombError:
        raise UnreadableImageError(file, f"the image has more than {MAX_PIXELS:,} pixels") from None
    except UNREADABLE:
        raise UnreadableImageError(file, TRUNCATED) from None


def _unknown_range(image: Image.Image) -> str | None:
    """The reason why the header does not tell which pixel values are black and white; None if it does."""
    if image.mode == "F":
        return "its pixels are floating-point numbers, whose range is not known; save it with 8 bits"
    # 16-bit grey has this mode too in PNG (of older versions of Pillow) and in PGM, which scales it to 16 bits.
    if image.mode == "I" and image.format not in ("PNG", "PPM"):
        return "its pixels are 32-bit or signed integers, whose range is not known; save it with 8 or 16 bits"
    return None


def is_jpeg(encoded: NDArray[np.uint8]) -> bool:
    """Whether bytes begin as a JPEG file does."""
    return encoded[: len(_JPEG)].tobytes() == _JPEG


def is_cut_off(encoded: NDArray[np.uint8]) -> bool:
    """Whether a JPEG file has no end behind its pixels, as after a download that stopped in a file of the full size.

    Decoders fill in grey. Data behind the end are allowed: cameras and programs add some.
    """
    if not is_jpeg(encoded):
        return False
    content, position = encoded.tobytes(), 2
    while content.startswith(b"\xff", position) and not content.startswith(_SCAN, position):  # skips previews
        filling = content.startswith(b"\xff\xff", position)
        position += 1 if filling else 2 + int.from_bytes(content[position + 2 : position + 4], "big")
    return _END not in content[position:]


def has_frames(image: Image.Image) -> bool:
    """Whether an open image has several frames or pages, of which the first is used.

    The further images of a camera's JPEG (MPO), such as previews, do not count, nor do the layers of a PSD file.
    """
    try:
        return image.format not in _NO_FRAMES and bool(getattr(image, "is_animated", False))
    except UNREADABLE:  # a second frame that is damaged
        return True


def several_frames(file: Path) -> bool:
    """Whether an image file has several frames or pages, of which the first is used."""
    if file.suffix.lower() in (".jpg", ".jpeg"):
        return False
    try:
        with open_image(file, file) as image:
            return has_frames(image)
    except UnreadableImageError:
        return False


def as_rgb(image: Image.Image) -> Image.Image:
    """An image opened by `open_image` in RGB: 12- and 16-bit grey scaled to 8 bits, transparency on white."""
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    if image.mode.startswith("I"):
        return _scaled_grey(image).convert("RGB")
    made = Image.new("RGB", image.size)
    width, height = image.size
    rows = max(1, _STRIP // max(1, width))
    for top in range(0, height, rows):  # whole, an image and its intermediate forms would take 16 bytes a pixel
        strip = image.crop((0, top, width, min(top + rows, height)))
        if image.has_transparency_data or image.mode in ("La", "RGBa"):  # transparent pixels carry arbitrary colours
            strip = strip.convert("RGBA")
            strip = Image.alpha_composite(Image.new("RGBA", strip.size, "white"), strip)
        made.paste(strip.convert("RGB"), (0, top))
    return made


def _scaled_grey(image: Image.Image) -> Image.Image:
    """8-bit grey from the high bits of 12- or 16-bit grey, which Pillow would clip to white."""
    bits = 16
    if image.format == "TIFF":
        bits = int(image.tag_v2.get(_BITS_PER_SAMPLE, (16,))[0])  # type: ignore[attr-defined]
    values = np.asarray(image)
    return Image.fromarray((values >> (bits - 8)).clip(0, 255).astype(np.uint8))
