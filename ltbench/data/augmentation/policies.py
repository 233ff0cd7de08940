"""Random policies: which operation an image gets with which parameter. AutoAugment, RandAugment, colour jitter."""

import math
from collections.abc import Sequence
from functools import cache
from itertools import permutations

import torch
from torch import Tensor

from ltbench.data.augmentation.geometry import BLACK, GREY
from ltbench.data.augmentation.operations import GEOMETRIC, NUMBERS, perform

_CIFAR10 = (
    (("invert", 0.1, 0), ("contrast", 0.2, 6)),
    (("rotate", 0.7, 2), ("translate_x", 0.3, 9)),
    (("sharpness", 0.8, 1), ("sharpness", 0.9, 3)),
    (("shear_y", 0.5, 8), ("translate_y", 0.7, 9)),
    (("autocontrast", 0.5, 0), ("equalize", 0.9, 0)),
    (("shear_y", 0.2, 7), ("posterize", 0.3, 7)),
    (("saturation", 0.4, 3), ("brightness", 0.6, 7)),
    (("sharpness", 0.3, 9), ("brightness", 0.7, 9)),
    (("equalize", 0.6, 0), ("equalize", 0.5, 0)),
    (("contrast", 0.6, 7), ("sharpness", 0.6, 5)),
    (("saturation", 0.7, 7), ("translate_x", 0.5, 8)),
    (("equalize", 0.3, 0), ("autocontrast", 0.4, 0)),
    (("translate_y", 0.4, 3), ("sharpness", 0.2, 6)),
    (("brightness", 0.9, 6), ("saturation", 0.2, 8)),
    (("solarize", 0.5, 2), ("invert", 0.0, 0)),
    (("equalize", 0.2, 0), ("autocontrast", 0.6, 0)),
    (("equalize", 0.2, 0), ("equalize", 0.6, 0)),
    (("saturation", 0.9, 9), ("equalize", 0.6, 0)),
    (("autocontrast", 0.8, 0), ("solarize", 0.2, 8)),
    (("brightness", 0.1, 3), ("saturation", 0.7, 0)),
    (("solarize", 0.4, 5), ("autocontrast", 0.9, 0)),
    (("translate_y", 0.9, 9), ("translate_y", 0.7, 9)),
    (("autocontrast", 0.9, 0), ("solarize", 0.8, 3)),
    (("equalize", 0.8, 0), ("invert", 0.1, 0)),
    (("translate_y", 0.7, 9), ("autocontrast", 0.9, 0)),
)
"""Sub-policies: two operations, each with its probability and its magnitude from 0 to 9 (the paper's appendix)."""

_ENHANCERS = ("brightness", "contrast", "saturation", "sharpness")
_RANGES = {
    "autocontrast": (0.0, 0.0),
    "equalize": (0.0, 0.0),
    "invert": (0.0, 0.0),
    "rotate": (30.0, 0.0),
    "posterize": (4.0, 0.0),
    "solarize": (256.0, 0.0),
    "solarize_add": (110.0, 0.0),
    **dict.fromkeys(_ENHANCERS, (1.8, 0.1)),
    "shear_x": (0.3, 0.0),
    "shear_y": (0.3, 0.0),
    "translate_x": (0.0, 0.0),
    "translate_y": (0.0, 0.0),
}
"""RandAugment's parameters: the change that magnitude 10 makes, and the start. Translations depend on the side."""
_MAGNITUDE, _DEVIATION, _CHANCE, _TRANSLATION = 10.0, 0.5, 0.5, 100 / 224
"""RandAugment's settings: mean and standard deviation of the magnitude, probability of each operation, and largest
translation as a fraction of the side. They are "rand-n2-m10-mstd0.5" of timm with 100 pixels of 224, as in the code of
PaCo (Cui et al., ICCV 2021)."""
_WHOLE = ("posterize", "solarize", "solarize_add")
_JITTER = ("brightness", "contrast", "saturation", "hue")


def autoaugment_cifar10(images: Tensor, draws: Tensor) -> Tensor:
    """The policy that AutoAugment found on CIFAR-10 (Cubuk et al., CVPR 2019).

    One of 25 sub-policies is drawn; each of its two operations is carried out with its own probability, upwards or
    downwards with equal chance where that means something. Pixels that a movement brings in are grey (128), as in the
    class that the codes of BalPoE, PaCo, NCL and others share. Magnitudes are those of torchvision, moved pixels the
    nearest, and rotations go both ways; that class shears with bicubic interpolation and turns to the left alone.

    Args:
        images: (B, C, H, W) uint8.
        draws: (B, 5) uniform in [0, 1): sub-policy, whether and which way, first and second operation each.
    """
    which, chance, value = (table.to(images.device) for table in _sub_policies(*images.shape[2:]))
    chosen = (draws[:, 0] * len(which)).long()
    for step in range(2):
        happens = draws[:, 1 + step] < chance[chosen, step]
        way = (draws[:, 3 + step] >= 0.5).long()
        images = perform(images, torch.where(happens, which[chosen, step], 0), value[chosen, step, way], GREY)
    return images


def randaugment(images: Tensor, draws: Tensor, fill: Sequence[int] = BLACK) -> Tensor:
    """RandAugment (Cubuk et al., 2020) in the form that timm gave it, with the nearest pixel.

    Two of 15 operations are drawn with replacement, each is carried out with probability one half. The magnitude is
    normal, cut off to [0, 10]; it decides about the parameter as listed in `_RANGES`, with a random sign for movements.

    Args:
        images: (B, C, H, W) uint8.
        draws: (B, 8) uniform in [0, 1): operation, whether, magnitude and sign, of the first and of the second.
        fill: colour of the pixels that a geometric operation brings in; the mean colour in the recipes that use this.
    """
    spans = {"translate_x": _TRANSLATION * images.shape[3], "translate_y": _TRANSLATION * images.shape[2]}
    ranges = [(NUMBERS[name], spans.get(name, span), start) for name, (span, start) in _RANGES.items()]
    which, span, start = torch.tensor(ranges, dtype=torch.float64, device=images.device).unbind(1)
    signed = torch.tensor([name in GEOMETRIC for name in _RANGES], device=images.device)
    whole = torch.tensor([name in _WHOLE for name in _RANGES], device=images.device)
    for choice, happens, level, sign in (part.unbind(1) for part in torch.split(draws, 4, dim=1)):
        chosen = (choice * len(_RANGES)).long()
        strength = (_MAGNITUDE + _DEVIATION * torch.special.ndtri(level.double())).clamp(0, 10) / 10
        value = start[chosen] + span[chosen] * strength
        value = torch.where(whole[chosen], value.floor(), value)
        value = torch.where(signed[chosen] & (sign < 0.5), -value, value)
        images = perform(images, torch.where(happens < _CHANCE, which[chosen], 0).long(), value, fill)
    return images


def colour_jitter(images: Tensor, draws: Tensor, strengths: tuple[float, ...], chance: float = 1.0) -> Tensor:
    """Change brightness, contrast, saturation and hue, in an order drawn for each image.

    A strength s means a factor uniform in [1 - s, 1 + s], for the hue a shift uniform in [-s, s], and 0 that the
    property is left alone: torchvision's ColorJitter inside RandomApply.

    Args:
        images: (B, C, H, W) uint8.
        draws: (B, 6) uniform in [0, 1): whether, order, and one for each property.
        strengths: largest change of brightness, contrast, saturation and hue.
        chance: probability that an image is changed at all.
    """
    numbers = torch.tensor([NUMBERS[name] for name in _JITTER], device=images.device)
    low = torch.tensor([max(0.0, 1 - s) for s in strengths[:3]] + [-strengths[3]], device=images.device)
    high = torch.tensor([1 + s for s in strengths[:3]] + [strengths[3]], device=images.device)
    values = low + (high - low) * draws[:, 2:]
    changing = [[place for place in order if strengths[place]] for order in permutations(range(4))]
    orders = torch.tensor(changing, device=images.device)
    order = orders[(draws[:, 1] * len(orders)).long()]
    which = torch.where(draws[:, :1] < chance, numbers[order], 0)
    for step in range(order.shape[1]):
        images = perform(images, which[:, step], values.gather(1, order)[:, step])
    return images


@cache
def _sub_policies(height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Numbers of the operations (25, 2), their probabilities (25, 2) and parameters (25, 2, down or up)."""
    reach = {"rotate": 30.0, "shear_x": 0.3, "shear_y": 0.3, **dict.fromkeys(_ENHANCERS, 0.9)}
    reach |= {"translate_x": 150 / 331 * width, "translate_y": 150 / 331 * height}

    def parameters(name: str, magnitude: int) -> tuple[float, float]:
        if name == "posterize":
            return (8 - round(magnitude * 4 / 9),) * 2
        if name == "solarize":
            return (_step(255, 0, magnitude),) * 2
        size = _step(0, reach.get(name, 0), magnitude)
        size = math.trunc(size) if name.startswith("translate") else size
        middle = 1 if name in _ENHANCERS else 0
        return middle - size, middle + size

    numbers = [[NUMBERS[name] for name, _, _ in pair] for pair in _CIFAR10]
    chances = [[chance for _, chance, _ in pair] for pair in _CIFAR10]
    values = [[parameters(name, magnitude) for name, _, magnitude in pair] for pair in _CIFAR10]
    return torch.tensor(numbers), torch.tensor(chances), torch.tensor(values, dtype=torch.float64)


def _step(start: float, end: float, magnitude: int) -> float:
    """The magnitude-th of ten steps, in float32 as in torchvision."""
    return torch.linspace(start, end, 10)[magnitude].item()
