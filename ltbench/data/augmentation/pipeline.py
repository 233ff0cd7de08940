"""The augmentation of a recipe, carried out on batches of uint8 images, each image with its own draws."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ltbench.config import Augment
from ltbench.data.augmentation import geometry, policies
from ltbench.data.augmentation.geometry import BLACK, FIXED
from ltbench.data.augmentation.operations import NUMBERS, perform
from ltbench.data.augmentation.random_crop import CROP_DRAWS, random_box

DRAWS = 5
"""Number of uniform draws that every image gets: crop x, crop y, flip, angle, policy."""
_POLICY = slice(4, 12)
_JITTER = slice(12, 18)
_GREY = 18
_BLUR = slice(19, 21)
_CUTOUT = slice(21, 23)
_ALL_DRAWS = 23
CROP = slice(23, 23 + CROP_DRAWS)
"""The draws that are for the random resized crop."""


def draws_needed(how: Augment) -> int:
    """Number of uniform draws per image: `DRAWS`, or more for a recipe that does more than crop, flip and rotate.

    Each operation has its own draws, so that switching one on leaves those of the others as they are.
    """
    if how.crop:
        return CROP.stop
    more = how.policy or any(how.jitter) or how.grey or how.blur or how.cutout
    return _ALL_DRAWS if more else DRAWS


def augment(images: Tensor, how: Augment, draws: Tensor, fill: Sequence[int] = BLACK) -> Tensor:
    """Crop and resize, pad and crop, flip, rotate, jitter, make grey, blur, apply a policy, cut out, in this order.

    With padding 4 of 32 pixels, flip and rotation by up to 15 degrees this is the training augmentation of the
    RIDE, SADE and BalPoE codes on CIFAR. A policy follows the jitter, as in the PaCo, BCL and CMO codes on ImageNet.
    Every operation is equal to PIL's pixel by pixel.

    Args:
        images: (B, channels, H, W) uint8.
        how: the augmentation of a recipe.
        draws: (B, `draws_needed`) uniform in [0, 1).
        fill: colour of the pixels that RandAugment brings in from outside the image; AutoAugment brings in grey, other
            operations black.

    Returns:
        Images like the input.
    """
    if not len(images):  # one of several processes may have none
        return images
    if how.crop:
        images = geometry.resized_crop(images, random_box(images.shape[2:], how.crop, draws[:, CROP]))
    if how.padding or how.rotation:
        images = _crop_flip_rotate(images, how, draws)
    elif how.flip:  # what _crop_flip_rotate() would give, in a fraction of the time
        images = torch.where(draws[:, 2].view(-1, 1, 1, 1) < 0.5, images.flip(3), images)
    if any(how.jitter):
        images = policies.colour_jitter(images, draws[:, _JITTER], how.jitter, how.jitter_chance)
    if how.grey:
        images = perform(images, (draws[:, _GREY] < how.grey) * NUMBERS["saturation"], torch.zeros_like(draws[:, 0]))
    if how.blur:
        happens, radius = draws[:, _BLUR].unbind(1)
        images = perform(images, (happens < how.blur) * NUMBERS["gaussian_blur"], 0.1 + 1.9 * radius)
    if how.policy == "cifar10":
        images = policies.autoaugment_cifar10(images, draws[:, _POLICY])
    elif how.policy == "randaugment":
        images = policies.randaugment(images, draws[:, _POLICY], fill)
    if how.cutout:
        height, width = images.shape[2:]
        column, row = draws[:, _CUTOUT].unbind(1)
        side = round(how.cutout * min(height, width))
        images = geometry.erase(images, (column * width).long(), (row * height).long(), side)
    return images


def _crop_flip_rotate(images: Tensor, how: Augment, draws: Tensor) -> Tensor:
    """Cropped from the zero-padded images, mirrored and rotated, in one go: nearest pixel, zero where there is none."""
    height, width = images.shape[2:]
    matrix = geometry.fixed(geometry.rotate.matrix(images, (draws[:, 3] * 2 - 1) * how.rotation))
    if how.flip:
        mirrored = torch.cat([-matrix[:, :2], (width << FIXED) - 1 - matrix[:, 2:3]], dim=1)
        matrix[:, :3] = torch.where(draws[:, 2:3] < 0.5, mirrored, matrix[:, :3])
    sides = torch.tensor([width, height], dtype=torch.int32, device=images.device)
    pads = torch.tensor([round(how.padding * side) for side in (width, height)], device=images.device).int()
    shift = (draws[:, :2] * (2 * pads + 1)).int() - pads
    matrix[:, 2::3] += shift << FIXED
    # What the rotation fetches must lie within the crop, and what the crop shows within the image.
    box = torch.stack([shift.clamp(min=0), sides + shift.clamp(max=0)], dim=2).flatten(1)
    return geometry.resample(images, matrix, box)
