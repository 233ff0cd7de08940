"""Change colours: batches of uint8 images, each with its own parameter, equal to PIL byte for byte.

Images are (B, C, H, W) with C = 3 (PIL's mode RGB) or 1 (mode L), a parameter is (B,). An operation that looks at one
pixel value at a time is a table for each image (`Tabled`), so that a batch in which every image has another operation
takes one lookup.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


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
    return _levels(images) & (0xFF00 >> per_image(bits).int()).byte()


@Tabled
def solarize(images: Tensor, threshold: Tensor) -> Tensor:
    """Invert the pixels from a threshold on."""
    levels = _levels(images)
    return torch.where(levels < per_image(threshold), levels, 255 - levels)


@Tabled
def solarize_add(images: Tensor, addend: Tensor) -> Tensor:
    """Brighten the pixels below 128 by a number of levels, as timm's RandAugment does."""
    levels = _levels(images).int()
    return torch.where(levels < 128, (levels + per_image(addend).int()).clamp(max=255), levels).byte()


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
    return blend(images.new_zeros(1, 1, 1, 1), images, per_image(factor, 4))


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with a uniform image of the mean grey level, rounded: 0 is uniform, 1 the image."""
    mean = (_luma(images).flatten(1).sum(1, dtype=torch.int64) / images[0, 0].numel() + 0.5).floor()
    return blend(per_image(mean, 4), images, per_image(factor, 4))


def grey(images: Tensor) -> Tensor:
    """ITU-R 601-2 luma in every channel, in PIL's 16-bit fixed-point weights."""
    return _luma(images).byte().expand_as(images)


def saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with the grey image: 0 is grey, 1 the image, more is more colourful."""
    return blend(_luma(images), images, per_image(factor, 4))


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

    angle = ((angle + per_image((shift.double() * 255).int(), 4)) & 255) * 6  # a sixth of the circle is 255
    distances = [510 - (angle - 765).abs(), (angle - 510).abs() - 255, (angle - 1020).abs() - 255]
    tint = torch.cat(distances, dim=1).clamp(0, 255) / 255 * (strength / 255)
    return (high * (1 - tint) + 0.5).byte()


def blend(base: Tensor, images: Tensor, factor: Tensor) -> Tensor:
    """PIL's blend: float32, rounded after each operation, cut off to an integer and to [0, 255]."""
    start = base.float()
    blended = images.float().sub_(start).mul_(factor.float()).add_(start).clamp_(0, 255)
    return blended.short().byte()  # to bytes at once takes a CPU five times as long


def per_image(value: Tensor, dimensions: int = 3) -> Tensor:
    """(B,) parameters as (B, 1, 1), or with more dimensions of one, to be broadcast over the pixels of each image."""
    return value.view(-1, *[1] * (dimensions - 1))


def _given(images: Tensor, value: Tensor | None) -> Tensor:
    return torch.zeros(len(images), device=images.device) if value is None else value


def _levels(images: Tensor) -> Tensor:
    return torch.arange(256, dtype=torch.uint8, device=images.device).view(1, 1, -1)


def _luma(images: Tensor) -> Tensor:
    """(B, 1, H, W) ITU-R 601-2 luma; a grey image as it is."""
    if images.shape[1] == 1:
        return images
    red, green, blue = torch.split(images.int(), 1, dim=1)
    weighted = red.mul_(19595).add_(green.mul_(38470)).add_(blue.mul_(7471))
    return weighted.add_(0x8000).bitwise_right_shift_(16)
