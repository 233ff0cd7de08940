"""Image files to RGB pixels, within bounds that are checked before anything is decoded.

Every command reads images here, so that training, evaluation and ``ltbench predict`` see the same pixels.
"""

import io
import math
import struct
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

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
    RuntimeError,  # AVIF; and NotImplementedError of BLP and DDS
    AssertionError,
    TypeError,  # and the rest: numbers in headers that Pillow does not expect
    LookupError,
    ArithmeticError,
    AttributeError,
    EOFError,
    zlib.error,
)
"""Exceptions of Pillow for a file that is truncated or no image: its readers of formats raise what they please."""
MAX_PIXELS = 178_956_970
"""Largest number of pixels of an image; the number at which Pillow assumes a decompression bomb."""
MAX_BYTES = 2**31
"""Largest size of an image file."""
PIXELS_AT_ONCE = 2**28
"""Largest number of pixels that all threads decode at the same time: about 1 GB, 2 GB for unusual image modes, 3 GB for
animated WebP."""
HINT = "replace it; a copy in the cache folder may be deleted and is made anew"
SHOWN = 5
"""Number of files that are named."""
_JPEG, _SCAN, _END = b"\xff\xd8\xff", b"\xff\xda", b"\xff\xd9"
TRUNCATED = "truncated, or no image"
_NO_FRAMES = ("MPO", "PSD")
_BITS_PER_SAMPLE, _COMPRESSION, _PHOTOMETRIC, _PLANAR, _SAMPLE_FORMAT = 258, 259, 262, 284, 339
_TILE_WIDTH, _TILE_HEIGHT = 322, 323
"""TIFF tags."""
_BLACK_IS_HIGH, _NOT_COMPRESSED, _BAND_BY_BAND, _SIGNED = 0, 1, 2, 2
"""Values of them."""
_SIGNED_FORMATS = ("FITS", "MCIDAS")
"""Formats whose integers of 16 bits are signed or of an unknown range."""
_UNKNOWN_TIFF = ("unknown pixel mode", "unknown data organization")
"""Pillow's words for a TIFF file whose header is whole, of pixels that it cannot read."""
_OF_IMAGES = ("ICO", "ICNS", "IPTC")
"""Formats of files that hold image files, whose size may be another than the outer header says."""
_STRIP = 2**22
"""Pixels of an image that are converted to RGB at a time."""

# Pillow's own blocks of 16 MB stay in a thread's part of the heap when they are freed: six large images, one after the
# other in six threads, would hold the memory of six. Larger blocks go back to the system.
Image.core.set_block_size(2**26)  # type: ignore[attr-defined]  # documented, though not exported
# Pillow warns at half of its limit. Ours is its limit, and what is below it is decoded within `PIXELS_AT_ONCE`.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
# It warns of odd headers without the name of the file, by lines of its own code.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


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


class UnreadableImagesError(LtbenchError):
    """Image files that cannot be used.

    Args:
        faults: the fault of each.
        count: number of files that were read.
        hint: what to do.
    """

    def __init__(
        self, faults: Sequence[UnreadableImageError], count: int, hint: str = "replace or remove them"
    ) -> None:
        reasons = list(dict.fromkeys(fault.reason for fault in faults))
        first = [f"{len(faults)} of {count} files cannot be used: {reasons[0]}"]
        what = "; or ".join([*first, *reasons[1:3]])
        super().__init__(what, where=", ".join(str(fault.file) for fault in faults[:SHOWN]), hint=hint)
        self.faults = faults


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
        fault = "the file is empty" if empty else _not_supported(stream) or TRUNCATED
        raise UnreadableImageError(file, fault) from None
    with image:
        try:
            (width, height), reason = _decoded_size(image), _misread(image)
        except UNREADABLE:  # tags of the wrong kind
            raise UnreadableImageError(file, TRUNCATED) from None
        if width * height > MAX_PIXELS:
            too_many = f"the image has {width} x {height} pixels, more than {MAX_PIXELS:,} in all"
            raise UnreadableImageError(file, too_many)
        if reason:
            raise UnreadableImageError(file, reason)
        with _budget.holding(MAX_PIXELS if image.format in _OF_IMAGES else width * height):
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


def _decoded_size(image: Image.Image) -> tuple[int, int]:
    """Width and height that are decoded at least: of the image, or of a tile of TIFF that is larger."""
    width, height = image.size
    if isinstance(image, TiffImagePlugin.TiffImageFile) and {_TILE_WIDTH, _TILE_HEIGHT} <= image.tag_v2.keys():
        tile = image.tag_v2[_TILE_WIDTH], image.tag_v2[_TILE_HEIGHT]
        return max((width, height), tile, key=math.prod)
    return width, height


def _not_supported(stream: BinaryIO | Path) -> str | None:
    """The reason why Pillow cannot open a TIFF file with a whole header; None if there is none."""
    try:
        if not isinstance(stream, Path):
            stream.seek(0)
        with TiffImagePlugin.TiffImageFile(stream):
            return None
    except UNREADABLE as error:
        if str(error) in _UNKNOWN_TIFF:
            return "its pixels are of a kind of TIFF that is not read, e.g. of 64 bits; save it with 8 bits a channel"
        return None


def _misread(image: Image.Image) -> str | None:
    """The reason why pixels would get a wrong brightness, e.g. since nothing tells which values are black and white."""
    if image.mode == "F":
        return "its pixels are floating-point numbers, whose range is not known; save it with 8 bits"
    tags = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
    # 16-bit grey has this mode too in PNG (of older versions of Pillow) and in PGM, which scales it to 16 bits.
    known = image.format in ("PNG", "PPM") if image.mode == "I" else image.format not in _SIGNED_FORMATS
    if (image.mode.startswith("I") and not known) or _SIGNED in tags.get(_SAMPLE_FORMAT, ()):
        return "its pixels are 32-bit or signed integers, whose range is not known; save it with 8 or 16 bits"
    plain = tags.get(_COMPRESSION, _NOT_COMPRESSED) == _NOT_COMPRESSED
    if plain and tags.get(_PLANAR) == _BAND_BY_BAND and max(tags.get(_BITS_PER_SAMPLE, (1,))) > 8:  # Pillow's fault
        return "its 16-bit channels lie one after the other, which is misread; save it with 8 bits, or compressed"
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
    """8-bit grey from the high bits of 12- or 16-bit grey, which Pillow would clip to white; transparency on white."""
    tags = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
    bits = int(tags.get(_BITS_PER_SAMPLE, (16,))[0])
    values = np.asarray(image)
    grey = (values >> (bits - 8)).clip(0, 255).astype(np.uint8)
    if tags.get(_PHOTOMETRIC) == _BLACK_IS_HIGH:  # Pillow turns 8 bits and fewer round, and not 16
        grey = 255 - grey
    if isinstance(transparent := image.info.get("transparency"), int):
        grey[values == transparent] = 255
    return Image.fromarray(grey)
