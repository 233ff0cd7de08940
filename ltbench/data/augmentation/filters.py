"""Filters, which look at the neighbours of a pixel: batches of uint8 images, equal to PIL byte for byte.

Images are (B, C, H, W) with C = 3 (PIL's mode RGB) or 1 (mode L), a parameter is (B,).
"""

import torch
from torch import Tensor

from ltbench.data.augmentation.colour import blend, per_image

_WEIGHT_BITS = 24
"""Fractional bits of a weight of the blur."""


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
    return blend(smooth, images, per_image(factor, 4))


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
    inner = ((1 << _WEIGHT_BITS) / ((whole + part) * 2 + 1)).int()
    outer = ((1 << _WEIGHT_BITS) - (2 * whole.int() + 1) * inner) >> 1
    reach = int(whole.max()) + 1
    distance = torch.arange(reach + 1, device=images.device).view(-1, 1, 1, 1, 1)
    whole, inner, outer = per_image(whole, 4), per_image(inner, 4), per_image(outer, 4)
    weights = torch.where(distance <= whole, inner, torch.where(distance == whole + 1, outer, 0))

    # Counted from the middle of the range, 128, products fit into 32 bits.
    middle = ((2 * weights.sum(0, dtype=torch.int32) - weights[0] - (1 << _WEIGHT_BITS)) << 7) + (1 << _WEIGHT_BITS - 1)
    signed = images.int() - 128
    for _ in range(2):
        signed = signed.transpose(2, 3).contiguous()
        for _ in range(3):
            signed = _box_filter(signed, weights, middle)
    return (signed + 128).byte()


def _box_filter(signed: Tensor, weights: Tensor, middle: Tensor) -> Tensor:
    """One pass along the columns, the edge pixels repeated."""
    height, reach = signed.shape[2], len(weights) - 1
    place = torch.arange(-reach, height + reach, device=signed.device).clamp(0, height - 1)
    wide = signed.index_select(2, place)
    total = signed * weights[0]
    for distance in range(1, reach + 1):
        both = wide[:, :, reach - distance :][:, :, :height] + wide[:, :, reach + distance :][:, :, :height]
        total.addcmul_(both, weights[distance])
    return total.add_(middle).bitwise_right_shift_(_WEIGHT_BITS)
