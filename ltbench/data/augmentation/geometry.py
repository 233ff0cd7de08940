"""Crop, move and erase pixels: batches of uint8 images, each with its own parameter, equal to PIL byte for byte.

Images are (B, C, H, W) with C = 3 (PIL's mode RGB) or 1 (mode L), a parameter is (B,). An operation that moves pixels
is a matrix for each image (`Geometric`), so that a batch in which every image has another operation takes one lookup.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

BLACK = (0,)
"""Zero in every channel."""
GREY = (128,)
"""Half of white in every channel."""
FIXED = 16
"""Fractional bits of a coordinate."""
_WEIGHT_BITS = 22
"""Fractional bits of a weight in resizing."""


@dataclass(frozen=True)
class Geometric:
    """An operation that moves pixels.

    Attributes:
        matrix: from the images and their parameters to (B, 6) float64, see `affine`.
    """

    matrix: Callable[[Tensor, Tensor], Tensor]

    def __call__(self, images: Tensor, value: Tensor, fill: Sequence[int] = BLACK) -> Tensor:
        """The images moved, ``fill`` where nothing comes from."""
        return affine(images, self.matrix(images, value), fill)


@Geometric
def rotate(images: Tensor, degrees: Tensor) -> Tensor:
    """Counter-clockwise about the centre."""
    radians = degrees.double() * (-math.pi / 180)
    cosine, sine = radians.cos(), radians.sin()
    turned = torch.stack([cosine, sine, -sine, cosine], dim=1).view(-1, 2, 2)
    centre = turned.new_tensor([images.shape[3] / 2, images.shape[2] / 2])
    start = centre - (turned * centre).sum(2)
    return torch.cat([turned, start.unsqueeze(2)], dim=2).flatten(1)


@Geometric
def shear_x(images: Tensor, slope: Tensor) -> Tensor:
    """Shift each row by slope times its distance from the upper edge, to the left."""
    return _matrix(1, slope.double())


@Geometric
def shear_y(images: Tensor, slope: Tensor) -> Tensor:
    """Shift each column by slope times its distance from the left edge, upwards."""
    return _matrix(3, slope.double())


@Geometric
def translate_x(images: Tensor, pixels: Tensor) -> Tensor:
    """Shift to the right; a fraction of a pixel is rounded."""
    return _matrix(2, (0.5 - pixels.double()).floor())


@Geometric
def translate_y(images: Tensor, pixels: Tensor) -> Tensor:
    """Shift downwards; a fraction of a pixel is rounded."""
    return _matrix(5, (0.5 - pixels.double()).floor())


def affine(images: Tensor, matrix: Tensor, fill: Sequence[int] = BLACK) -> Tensor:
    """PIL's ``Image.transform`` with AFFINE and NEAREST.

    Args:
        images: (B, C, H, W) uint8.
        matrix: (B, 6) float64, a b c d e f: the pixel at (x, y) comes from (a x + b y + c, d x + e y + f).
        fill: colour of what comes from outside, one number for each channel or for all.
    """
    height, width = images.shape[2:]
    box = torch.tensor([0, width, 0, height], dtype=torch.int32, device=images.device)
    return resample(images, fixed(matrix), box.expand(len(images), 4), fill)


def fixed(matrix: Tensor) -> Tensor:
    """A matrix (B, 6) for `resample`: int32, 16.16 fixed point, from the centres of pixels as PIL rounds them."""
    per_column, per_row, start = matrix.view(-1, 2, 3).unbind(2)
    start = start.add(per_column, alpha=0.5).add_(per_row, alpha=0.5)
    whole = torch.stack([per_column, per_row, start], dim=2).flatten(1)
    return whole.mul_(1 << FIXED).add_(0.5).floor_().int()


def resample(images: Tensor, matrix: Tensor, box: Tensor, fill: Sequence[int] = BLACK) -> Tensor:
    """Fetch every pixel from where an integer matrix says, all channels at once.

    Args:
        images: (B, C, H, W) uint8, up to three channels.
        matrix: (B, 6) int32 in units of 2 ** -FIXED pixels, see `fixed`.
        box: (B, 4) int32, left, right, top and bottom of what may be fetched; left and top belong to it.
        fill: colour of the rest.
    """
    batch, channels, height, width = images.shape
    a, b, c, d, e, f = matrix.view(batch, 6, 1, 1).unbind(1)
    left, right, top, bottom = box.view(batch, 4, 1, 1).unbind(1)
    columns = torch.arange(width, dtype=torch.int32, device=images.device)
    rows = torch.arange(height, dtype=torch.int32, device=images.device).view(-1, 1)
    # Counted from the corner of the box. In place where possible: fresh memory costs more than the arithmetic.
    x = (a * columns + (b * rows + (c - (left << FIXED)))).bitwise_right_shift_(FIXED)
    y = (d * columns + (e * rows + (f - (top << FIXED)))).bitwise_right_shift_(FIXED)
    # The sign bit tells what lies outside of the box; comparisons would take several times as long.
    inside = (x | y).bitwise_or_(right - left - 1 - x).bitwise_or_(bottom - top - 1 - y)
    inside.bitwise_right_shift_(31).bitwise_not_()  # all ones, else zero
    corner = torch.arange(batch, dtype=torch.int32, device=images.device).view(-1, 1, 1) * (height * width) + 1
    source = y.mul_(width).add_(x).add_(corner + top * width + left).bitwise_and_(inside)
    fetched = _packed(images, fill).index_select(0, source.flatten()).view(batch, height, width)
    moved = torch.empty_like(images, memory_format=torch.contiguous_format)
    for channel in range(channels):
        moved[:, channel] = fetched  # its lowest byte
        fetched.bitwise_right_shift_(8)
    return moved


def resized_crop(images: Tensor, box: Tensor) -> Tensor:
    """Cut a part out of each image and bring it to the size of the image, with PIL's bilinear filter.

    Weights are integers and each of the two passes, along the rows and along the columns, is rounded to 8 bits.

    Args:
        images: (B, C, H, W) uint8.
        box: (B, 4) int64 top, left, height, width, within the image.
    """
    top, left, height, width = box.unbind(1)
    across = torch.einsum("bchw,bow->bcho", images.double(), _triangles(left, width, images.shape[3]))
    across = ((across + (1 << _WEIGHT_BITS - 1)) / (1 << _WEIGHT_BITS)).floor()
    down = torch.einsum("bchw,boh->bcow", across, _triangles(top, height, images.shape[2]))
    return ((down + (1 << _WEIGHT_BITS - 1)) / (1 << _WEIGHT_BITS)).floor().byte()


def erase(images: Tensor, column: Tensor, row: Tensor, side: int) -> Tensor:
    """Blacken a square around a pixel of each image, cut off at the border (DeVries and Taylor, Cutout, 2017).

    Args:
        images: (B, C, H, W) uint8.
        column: (B,) of the centre.
        row: likewise.
        side: of the square in pixels; an even square reaches one pixel less far to the right and downwards.
    """

    def kept(centre: Tensor, length: int) -> Tensor:
        distance = torch.arange(length, device=images.device) - centre.view(-1, 1) + side // 2
        return (distance < 0) | (distance >= side)

    keep = kept(row, images.shape[2]).unsqueeze(2) | kept(column, images.shape[3]).unsqueeze(1)
    return images * keep.unsqueeze(1)


def _packed(images: Tensor, fill: Sequence[int]) -> Tensor:
    """All channels of a pixel in one int32: first the fill, then the images one after another."""
    batch, channels, height, width = images.shape
    packed = torch.empty(1 + batch * height * width, dtype=torch.int32, device=images.device)
    packed[0] = sum(fill[channel % len(fill)] << 8 * channel for channel in range(channels))
    pixels = packed[1:].view(batch, height, width)
    pixels.copy_(images[:, -1])
    for channel in range(channels - 2, -1, -1):
        pixels.bitwise_left_shift_(8).bitwise_or_(images[:, channel])
    return packed


def _triangles(start: Tensor, length: Tensor, size: int) -> Tensor:
    """(B, size, size) float64 whole numbers: what each pixel counts in each of the stretched ones.

    A triangle as wide as two pixels, or as what is shrunk to two, around the place that a new pixel comes from.
    """
    place = torch.arange(size, device=start.device, dtype=torch.float64)
    scale = (length.double() / size).view(-1, 1, 1)
    centre = (place + 0.5).view(1, -1, 1) * scale
    offset = place - start.view(-1, 1, 1)  # within the box
    reach = scale.clamp(min=1)
    weight = (1 - ((offset + 0.5 - centre) / reach).abs()).clamp(min=0)
    weight = weight * ((offset >= 0) & (offset < length.view(-1, 1, 1)))
    return (weight / weight.sum(2, keepdim=True) * (1 << _WEIGHT_BITS) + 0.5).floor()


def _matrix(entry: int, value: Tensor) -> Tensor:
    matrix = value.new_tensor([1, 0, 0, 0, 1, 0]).repeat(len(value), 1)
    matrix[:, entry] = value
    return matrix
