"""What can be done to pixels: whole batches of uint8 images, each with its own parameter, equal to PIL byte for byte.

Images are (B, C, H, W) with C = 3 (PIL's mode RGB) or 1 (mode L), a parameter is (B,). Operations that look at one
pixel at a time are tables (`Tabled`), those that move pixels are matrices (`Geometric`), so that a batch in which
every image has another one of them still takes one lookup.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

BLACK = (0,)
"""Zero in every channel."""
FIXED = 16
"""Bits of a coordinate after the point."""
_MASS = 24
"""Bits of a weight of the blur after the point."""
_SHARE = 22
"""Likewise, of a weight in resizing."""


@dataclass(frozen=True)
class Tabled:
    """An operation that maps every pixel value to another, by a table for each image and channel.

    Attributes:
        tables: from the images and their parameters to (B, C or 1, 256) uint8.
    """

    tables: Callable[[Tensor, Tensor], Tensor]

    def __call__(self, images: Tensor, value: Tensor | None = None) -> Tensor:
        """The images with every pixel looked up."""
        return lookup(images, self.tables(images, _given(images, value)))


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


def lookup(images: Tensor, tables: Tensor) -> Tensor:
    """Replace every pixel value by its entry in a table.

    Args:
        images: (B, C, H, W) uint8.
        tables: (B, C or 1, 256) uint8.
    """
    tables = tables.expand(-1, images.shape[1], -1)
    return tables.gather(2, images.flatten(2).long()).view_as(images)


@Tabled
def invert(images: Tensor, value: Tensor) -> Tensor:
    """255 minus the pixel; without a parameter."""
    return (255 - _levels(images)).expand(len(images), 1, -1)


@Tabled
def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """Keep the highest bits of each pixel."""
    return _levels(images) & (0xFF00 >> _each(bits).int()).byte()


@Tabled
def solarize(images: Tensor, threshold: Tensor) -> Tensor:
    """Invert the pixels from a threshold on."""
    levels = _levels(images)
    return torch.where(levels < _each(threshold), levels, 255 - levels)


@Tabled
def solarize_add(images: Tensor, addend: Tensor) -> Tensor:
    """Brighten the pixels below 128 by a number of levels, as timm's RandAugment does."""
    levels = _levels(images).int()
    return torch.where(levels < 128, (levels + _each(addend).int()).clamp(max=255), levels).byte()


@Tabled
def autocontrast(images: Tensor, value: Tensor) -> Tensor:
    """Stretch each channel from its darkest and brightest value to 0 and 255; without a parameter."""
    low, high = (extreme.double().unsqueeze(2) for extreme in images.flatten(2).aminmax(dim=2))
    levels = _levels(images)
    scale = torch.full_like(low, 255) / (high - low)  # a number over a tensor would be its reciprocal, times that
    stretched = (levels * scale - low * scale).clamp(0, 255).byte()
    return torch.where(high > low, stretched, levels)


@Tabled
def equalize(images: Tensor, value: Tensor) -> Tensor:
    """Make each channel's values equally frequent, as far as a table can; without a parameter."""
    batch, channels, height, width = images.shape
    start = torch.arange(0, batch * channels * 256, 256, device=images.device).view(batch, channels, 1)
    counts = torch.bincount((images.flatten(2) + start).flatten(), minlength=batch * channels * 256)
    counts = counts.view(batch, channels, 256)
    brightest = counts.gather(2, images.flatten(2).amax(2, keepdim=True).long())
    step = (height * width - brightest) // 255
    below = counts.cumsum(2) - counts
    spread = ((step // 2 + below) // step.clamp(min=1)).clamp(max=255).byte()
    return torch.where(step > 0, spread, _levels(images))


def brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with black: 0 is black, 1 the image, more is brighter (PIL's ImageEnhance)."""
    return _blend(images.new_zeros(1, 1, 1, 1), images, _each(factor, 4))


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with a uniform image of the mean grey level, rounded: 0 is uniform, 1 the image."""
    mean = (_luma(images).flatten(1).sum(1, dtype=torch.int64) / images[0, 0].numel() + 0.5).floor()
    return _blend(_each(mean, 4), images, _each(factor, 4))


def grey(images: Tensor) -> Tensor:
    """ITU-R 601-2 luma in every channel, in PIL's 16-bit fixed-point weights."""
    return _luma(images).byte().expand_as(images)


def saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with the grey image: 0 is grey, 1 the image, more is more colourful."""
    return _blend(_luma(images), images, _each(factor, 4))


def sharpness(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with the image smoothed by (1 1 1, 1 5 1, 1 1 1) / 13: 0 is smooth, more than 1 sharper.

    The pixels at the border stay as they are.
    """
    wide = images.short()
    rows = wide[..., :-2, :] + wide[..., 1:-1, :] + wide[..., 2:, :]
    inner = wide[..., 1:-1, 1:-1]
    total = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:] + 4 * inner
    smooth = images.clone()
    smooth[..., 1:-1, 1:-1] = (total / 13 + 0.5).byte()
    return _blend(smooth, images, _each(factor, 4))


def hue(images: Tensor, shift: Tensor) -> Tensor:
    """Turn the colour circle by a fraction in [-0.5, 0.5], through PIL's 8-bit HSV; grey images stay.

    A shift of 0 changes pixels too, by the rounding of HSV, as torchvision's adjust_hue on PIL images does.
    """
    if images.shape[1] == 1:
        return images
    high, low = images.amax(1, keepdim=True), images.amin(1, keepdim=True)
    span = (high - low).float()
    red, green, blue = torch.split((high - images).float() / span, 1, dim=1)
    is_red, is_green, _ = torch.split(images == high, 1, dim=1)
    ahead = torch.where(is_red, blue, torch.where(is_green, 2 + red.double(), 4 + green.double()))
    behind = torch.where(is_red, green, torch.where(is_green, blue, red))
    angle = (ahead - behind).float().double() / 6 + 1  # PIL goes to and fro between float and double
    angle = ((angle - angle.floor()).float().double() * 255).nan_to_num().int()
    strength = (span / high * 255).nan_to_num().int()

    angle = ((angle + _each((shift.double() * 255).int(), 4)) & 255) * 6  # a sixth of the circle is 255
    distances = [510 - (angle - 765).abs(), (angle - 510).abs() - 255, (angle - 1020).abs() - 255]
    share = torch.cat(distances, dim=1).clamp(0, 255) / 255 * (strength / 255)
    return (high * (1 - share) + 0.5).byte()


def gaussian_blur(images: Tensor, radius: Tensor) -> Tensor:
    """Blur by a Gaussian of a standard deviation in pixels, approximated by three extended box filters.

    Gwosdek et al., Theoretical Foundations of Gaussian Convolution by Extended Box Filtering, SSVM 2011, equations
    7, 11 and 14: a box of whole width 2 l + 1 whose two further pixels count by a fraction. As in PIL the weights
    are integers, and every pass, three along the rows and three along the columns, is rounded to 8 bits.
    """
    variance = (radius.float().square().double() / 3).float()
    length = (12 * variance.double() + 1).sqrt().float()
    whole = ((length.double() - 1) / 2).floor().float()
    part = (2 * whole + 1) * (whole * (whole + 1) - 3 * variance) / (6 * (variance - (whole + 1).square()))
    inner = ((1 << _MASS) / ((whole + part) * 2 + 1)).int()
    outer = ((1 << _MASS) - (2 * whole.int() + 1) * inner) >> 1
    reach = int(whole.max()) + 1
    distance = torch.arange(reach + 1, device=images.device).view(-1, 1, 1, 1, 1)
    whole, inner, outer = _each(whole, 4), _each(inner, 4), _each(outer, 4)
    weights = torch.where(distance <= whole, inner, torch.where(distance == whole + 1, outer, 0))

    # Counted from the middle of the range, 128, products fit into 32 bits.
    middle = ((2 * weights.sum(0, dtype=torch.int32) - weights[0] - (1 << _MASS)) << 7) + (1 << _MASS - 1)
    signed = images.int() - 128
    for _ in range(2):
        signed = signed.transpose(2, 3).contiguous()
        for _ in range(3):
            signed = _box(signed, weights, middle)
    return (signed + 128).byte()


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


def resized_crop(images: Tensor, box: Tensor) -> Tensor:
    """Cut a part out of each image and bring it to the size of the image, with PIL's bilinear filter.

    Weights are integers and each of the two passes, along the rows and along the columns, is rounded to 8 bits.

    Args:
        images: (B, C, H, W) uint8.
        box: (B, 4) int64 top, left, height, width, within the image.
    """
    top, left, height, width = box.unbind(1)
    across = torch.einsum("bchw,bow->bcho", images.double(), _triangles(left, width, images.shape[3]))
    across = ((across + (1 << _SHARE - 1)) / (1 << _SHARE)).floor()
    down = torch.einsum("bchw,boh->bcow", across, _triangles(top, height, images.shape[2]))
    return ((down + (1 << _SHARE - 1)) / (1 << _SHARE)).floor().byte()


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
    """To the right; a fraction of a pixel is rounded."""
    return _matrix(2, (0.5 - pixels.double()).floor())


@Geometric
def translate_y(images: Tensor, pixels: Tensor) -> Tensor:
    """Downwards; a fraction of a pixel is rounded."""
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
    return (weight / weight.sum(2, keepdim=True) * (1 << _SHARE) + 0.5).floor()


def _matrix(entry: int, value: Tensor) -> Tensor:
    matrix = value.new_tensor([1, 0, 0, 0, 1, 0]).repeat(len(value), 1)
    matrix[:, entry] = value
    return matrix


def _given(images: Tensor, value: Tensor | None) -> Tensor:
    return torch.zeros(len(images), device=images.device) if value is None else value


def _levels(images: Tensor) -> Tensor:
    return torch.arange(256, dtype=torch.uint8, device=images.device).view(1, 1, -1)


def _each(value: Tensor, dimensions: int = 3) -> Tensor:
    return value.view(-1, *[1] * (dimensions - 1))


def _luma(images: Tensor) -> Tensor:
    """(B, 1, H, W), of channels that are alike their own value."""
    if images.shape[1] == 1:
        return images
    red, green, blue = torch.split(images.int(), 1, dim=1)
    weighted = red.mul_(19595).add_(green.mul_(38470)).add_(blue.mul_(7471))
    return weighted.add_(0x8000).bitwise_right_shift_(16)


def _blend(base: Tensor, images: Tensor, factor: Tensor) -> Tensor:
    """PIL's blend: float32, rounded after each operation, cut off to an integer and to [0, 255]."""
    start = base.float()
    blended = images.float().sub_(start).mul_(factor.float()).add_(start).clamp_(0, 255)
    return blended.short().byte()  # to bytes at once takes a CPU five times as long


def _box(signed: Tensor, weights: Tensor, middle: Tensor) -> Tensor:
    """One pass along the columns, the edge pixels repeated."""
    height, reach = signed.shape[2], len(weights) - 1
    place = torch.arange(-reach, height + reach, device=signed.device).clamp(0, height - 1)
    wide = signed.index_select(2, place)
    total = signed * weights[0]
    for distance in range(1, reach + 1):
        both = wide[:, :, reach - distance :][:, :, :height] + wide[:, :, reach + distance :][:, :, :height]
        total.addcmul_(both, weights[distance])
    return total.add_(middle).bitwise_right_shift_(_MASS)
