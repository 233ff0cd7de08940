"""Random variation of training images, a batch of uint8 images at a time, each image with its own draws."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ltbench.config import Augment

DRAWS = 5
"""Uniform numbers that an image needs: crop x, crop y, flip, angle, policy."""
_FIXED = 1 << 16


def augment(images: Tensor, how: Augment, draws: Tensor) -> Tensor:
    """Crop, mirror and rotate, in this order; nearest pixel, zero where there is none.

    With padding 4 of 32 pixels, flip and rotation by up to 15 degrees this is the training augmentation of the
    RIDE, SADE and BalPoE codes on CIFAR. All three steps are one lookup, equal pixel by pixel to PIL's.

    Args:
        images: (B, channels, H, W) uint8.
        how: what to vary.
        draws: (B, DRAWS) uniform in [0, 1).

    Returns:
        Images like the input.
    """
    batch, channels, height, width = images.shape
    if not (how.padding or how.flip or how.rotation):
        return _policy(images, how, draws)
    rows = torch.arange(height, device=images.device).view(1, -1, 1)
    columns = torch.arange(width, device=images.device).view(1, 1, -1)
    rows, columns = _rotated(rows, columns, (height, width), (draws[:, 3] * 2 - 1) * how.rotation)
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    if how.flip:
        columns = torch.where((draws[:, 2] < 0.5).view(-1, 1, 1), width - 1 - columns, columns)
    rows = rows + _shift(how.padding, height, draws[:, 1])
    columns = columns + _shift(how.padding, width, draws[:, 0])
    inside &= (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    source = torch.where(inside, rows * width + columns, height * width)
    padded = F.pad(images.flatten(2), (0, 1))  # one more pixel, black, for all that lies outside
    picked = padded.gather(2, source.view(batch, 1, -1).expand(-1, channels, -1))
    return _policy(picked.view_as(images), how, draws)


def _shift(padding: float, side: int, draw: Tensor) -> Tensor:
    pad = round(padding * side)
    return ((draw * (2 * pad + 1)).long() - pad).view(-1, 1, 1)


def _rotated(rows: Tensor, columns: Tensor, size: tuple[int, int], degrees: Tensor) -> tuple[Tensor, Tensor]:
    """Where each pixel of a rotated image comes from, in the 16.16 fixed-point arithmetic of PIL."""
    radians = -degrees.double() * (math.pi / 180)
    cosine, sine = radians.cos(), radians.sin()
    y_centre, x_centre = size[0] / 2, size[1] / 2

    def fixed(value: Tensor) -> Tensor:
        return torch.floor(value * _FIXED + 0.5).long().view(-1, 1, 1)

    x_start = fixed(x_centre - cosine * (x_centre - 0.5) - sine * (y_centre - 0.5))
    y_start = fixed(y_centre + sine * (x_centre - 0.5) - cosine * (y_centre - 0.5))
    x = (x_start + fixed(cosine) * columns + fixed(sine) * rows) >> 16
    y = (y_start - fixed(sine) * columns + fixed(cosine) * rows) >> 16
    return y, x


def _policy(images: Tensor, how: Augment, draws: Tensor) -> Tensor:
    """AutoAugment's CIFAR-10 policy, image by image."""
    if how.policy is None:
        return images
    from torchvision.transforms import AutoAugment, AutoAugmentPolicy

    policy = AutoAugment(AutoAugmentPolicy.CIFAR10)
    seeds = (draws[:, 4].double() * 2**24).long().tolist()
    varied = []
    with torch.random.fork_rng():  # the library draws from the global generator
        for image, seed in zip(images, seeds, strict=True):
            torch.manual_seed(seed)
            varied.append(policy(image))
    return torch.stack(varied)
