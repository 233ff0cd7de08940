"""Which layer of its backbone a parameter belongs to, for learning rates that fall from layer to layer."""

from collections.abc import Mapping
from typing import Any

from timm.models import group_parameters
from torch import nn

from ltbench.errors import LtbenchError

_ATTRIBUTE = "layers_of_parameters"


def record_layers(modules: list[nn.Module], model: Any) -> None:
    """Note in modules, made of a timm network, how far below its last layer each of its parameters is.

    Args:
        modules: each has the network, or a part of it, as ``model``.
        model: the timm network; one that names no layers records nothing.
    """
    if not hasattr(model, "group_matcher"):
        return
    layers: dict[str, int] = group_parameters(model, model.group_matcher(coarse=False), reverse=True)
    last = max(layers.values(), default=0)
    for module in modules:
        setattr(module, _ATTRIBUTE, {f"model.{name}": last - layer for name, layer in layers.items()})


def layers_below_last(method: nn.Module) -> Mapping[str, int]:
    """Number of layers between each parameter of a method's backbones and their last layer, by the parameter's name.

    Parameters that are of no backbone (heads, projections) are left out.

    Raises:
        LtbenchError: if timm does not tell the layers of the backbone.
    """
    found = {}
    for prefix, module in method.named_modules():
        below = f"{prefix}." if prefix else ""
        found.update({below + name: layer for name, layer in getattr(module, _ATTRIBUTE, {}).items()})
    if not found:
        raise LtbenchError(
            "the layers of the backbone are not known",
            where="recipe: layer_decay",
            hint="use a backbone of timm, or a recipe with layer_decay = 1",
        )
    return found
