"""Operations by name: any one of them on each image of a batch, with a parameter of its own."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ltbench.data.augmentation import colour, filters, geometry
from ltbench.data.augmentation.colour import lookup
from ltbench.data.augmentation.geometry import BLACK, affine

_TABLED = {
    "invert": colour.invert,
    "posterize": colour.posterize,
    "solarize": colour.solarize,
    "solarize_add": colour.solarize_add,
    "autocontrast": colour.autocontrast,
    "equalize": colour.equalize,
}
GEOMETRIC = {
    "rotate": geometry.rotate,
    "shear_x": geometry.shear_x,
    "shear_y": geometry.shear_y,
    "translate_x": geometry.translate_x,
    "translate_y": geometry.translate_y,
}
_OTHER: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "brightness": colour.brightness,
    "contrast": colour.contrast,
    "saturation": colour.saturation,
    "sharpness": filters.sharpness,
    "hue": colour.hue,
    "gaussian_blur": filters.gaussian_blur,
}
NUMBERS = {name: number for number, name in enumerate(("nothing", *_TABLED, *GEOMETRIC, *_OTHER))}
"""Number of each operation that `perform` knows; 0 is none."""


def perform(images: Tensor, which: Tensor, value: Tensor, fill: Sequence[int] = BLACK) -> Tensor:
    """Carry out one operation on each image, each kind only where it is asked for.

    Args:
        images: (B, C, H, W) uint8.
        which: (B,) numbers of operations, see `NUMBERS`.
        value: (B,) the operation's parameter.
        fill: colour of the pixels that a geometric operation brings in from outside the image.

    Returns:
        Images like the input.
    """
    order = which.argsort(stable=True)
    counts = torch.bincount(which, minlength=len(NUMBERS)).tolist()
    images, value = images.index_select(0, order), value[order]
    groups = zip(NUMBERS, torch.split(images, counts), torch.split(value, counts), strict=True)
    chosen = {name: (group, parameter) for name, group, parameter in groups if len(group)}
    done = [chosen["nothing"][0]] if "nothing" in chosen else []
    if tabled := [name for name in _TABLED if name in chosen]:
        tables = [_TABLED[name].tables(*chosen[name]).expand(-1, images.shape[1], -1) for name in tabled]
        done.append(lookup(torch.cat([chosen[name][0] for name in tabled]), torch.cat(tables)))
    if moved := [name for name in GEOMETRIC if name in chosen]:
        matrices = [GEOMETRIC[name].matrix(*chosen[name]) for name in moved]
        done.append(affine(torch.cat([chosen[name][0] for name in moved]), torch.cat(matrices), fill))
    done += [operation(*chosen[name]) for name, operation in _OTHER.items() if name in chosen]
    return torch.cat(done).index_select(0, order.argsort())
