"""Batch norm of a frozen network, folded into the convolutions before it."""

import copy

import torch
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

_TOLERANCE = 1e-3
"""Largest deviation of a folded network's features, as a fraction of the largest; rounding is far below it."""


@torch.no_grad()
def fold_batch_norm(network: nn.Module, image: Tensor) -> nn.Module:
    """A copy of a network in evaluation mode with batch norm folded into convolutions; the network itself if it fails.

    In evaluation batch norm is a scale and a shift a channel, which the weights and the bias of a convolution can take
    over (Ioffe and Szegedy, ICML 2015, algorithm 2). The network is run once to see which convolution feeds which norm,
    and the copy must compute the same.

    Args:
        network: in evaluation mode, for inference only.
        image: (1, channels, H, W) to run it on.
    """
    folded = copy.deepcopy(network)
    pairs = _pairs(folded, image)
    for convolution, norm in pairs:
        module, parent = folded.get_submodule(convolution), norm.rpartition(".")
        own = folded.get_submodule(norm)
        assert isinstance(module, nn.Conv2d)
        assert isinstance(own, nn.BatchNorm2d)
        assert own.running_mean is not None
        assert own.running_var is not None
        module.weight, module.bias = fuse_conv_bn_weights(
            module.weight, module.bias, own.running_mean, own.running_var, own.eps, own.weight, own.bias
        )
        rest = nn.Sequential(own.drop, own.act) if isinstance(own, BatchNormAct2d) else nn.Identity()
        setattr(folded.get_submodule(parent[0]), parent[2], rest.eval())
    expected, found = network(image), folded(image)
    same = (found - expected).abs().max() <= _TOLERANCE * expected.abs().max()
    return folded if pairs and same else network


def _pairs(network: nn.Module, image: Tensor) -> list[tuple[str, str]]:
    """Names of the convolutions whose output goes to one batch norm, with the names of the norms."""
    made: dict[int, str] = {}
    kept: list[Tensor] = []  # so that no other tensor gets the number of one that is gone
    read: dict[str, list[str]] = {}

    def watch(name: str, module: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def look(_: nn.Module, inputs: tuple[object, ...], output: object) -> None:
            for one in inputs:
                if id(one) in made:
                    read.setdefault(made[id(one)], []).append(name)
            if isinstance(module, nn.Conv2d) and isinstance(output, Tensor):
                kept.append(output)
                made[id(output)] = name

        return module.register_forward_hook(look)

    leaves = [(name, one) for name, one in network.named_modules() if _is_leaf(one)]
    handles = [watch(name, module) for name, module in leaves]
    try:
        network(image)
    finally:
        for handle in handles:
            handle.remove()
    norms = {name for name, one in leaves if isinstance(one, nn.BatchNorm2d) and one.track_running_stats}
    return [(name, readers[0]) for name, readers in read.items() if len(readers) == 1 and readers[0] in norms]


def _is_leaf(module: nn.Module) -> bool:
    return isinstance(module, nn.BatchNorm2d) or not any(True for _ in module.children())
