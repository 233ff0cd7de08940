"""Where a random resized crop is cut out: torchvision's RandomResizedCrop, from uniform draws."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

_TRIES = 10
CROP_DRAWS = 2 * _TRIES + 2
"""Number of uniform draws that a crop needs."""


def random_box(size: Sequence[int], area_range: tuple[float, float], draws: Tensor) -> Tensor:
    """A random part of each image: its area uniform, the logarithm of its aspect ratio uniform in 3/4 to 4/3.

    Ten tries as in torchvision's RandomResizedCrop; where none fits into the image, the whole image, which
    torchvision would cut to an aspect ratio within these bounds.

    Args:
        size: height and width of the images.
        area_range: smallest and largest fraction of the area.
        draws: (B, `CROP_DRAWS`) uniform in [0, 1): area and ratio of every try, then row and column.

    Returns:
        (B, 4) int64 top, left, height, width.
    """
    sides = torch.tensor(size, device=draws.device)
    area = sides.prod() * (area_range[0] + (area_range[1] - area_range[0]) * draws[:, :_TRIES].double())
    ratio = ((2 * draws[:, _TRIES:-2].double() - 1) * math.log(4 / 3)).exp()
    tried = torch.stack([(area / ratio).sqrt(), (area * ratio).sqrt()], dim=2).round().long()
    fits = ((tried > 0) & (tried <= sides)).all(2)
    first = fits.int().argmax(1).view(-1, 1, 1).expand(-1, 1, 2)
    chosen = torch.where(fits.any(1, keepdim=True), tried.gather(1, first).squeeze(1), sides)
    corner = (draws[:, -2:] * (sides - chosen + 1)).long()
    return torch.cat([corner, chosen], dim=1)


def crop_box(
    size: tuple[int, int], area_range: tuple[float, float], draws: Sequence[float]
) -> tuple[int, int, int, int]:
    """`random_box` for one image of any shape, in plain numbers, which are quicker for one.

    Where no try fits, the largest centred part with an aspect ratio within the bounds, as in torchvision.

    Args:
        size: height and width of the image.
        area_range: smallest and largest fraction of the area.
        draws: `CROP_DRAWS` uniform in [0, 1).

    Returns:
        Top, left, height, width.
    """
    height, width = size
    for part, shape in zip(draws[:_TRIES], draws[_TRIES:-2], strict=True):
        area = height * width * (area_range[0] + (area_range[1] - area_range[0]) * part)
        ratio = math.exp((2 * shape - 1) * math.log(4 / 3))
        high, wide = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
        if 0 < high <= height and 0 < wide <= width:
            return int(draws[-2] * (height - high + 1)), int(draws[-1] * (width - wide + 1)), high, wide
    high, wide = min(height, round(width * 4 / 3)), min(width, round(height * 4 / 3))
    return (height - high) // 2, (width - wide) // 2, high, wide
