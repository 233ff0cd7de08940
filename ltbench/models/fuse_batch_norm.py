"""Batch norm fused into the convolution before it: the same predictions from fewer passes over memory.

In evaluation batch norm is a scale and a shift per channel, which the weights and the bias of the convolution before it
can take over (Ioffe and Szegedy, ICML 2015, algorithm 2). Networks are fused in two ways. ``fuse_experts`` traces the
code of a trained network. ``fuse_batch_norm`` runs a frozen network, whose code may be of a kind that cannot be traced.
"""

import copy

import torch
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse
from torch.nn.utils.fusion import fuse_conv_bn_weights

from ltbench.models.experts import ExpertNetwork

_FEATURE_TOLERANCE = 1e-3
"""Largest deviation of a fused network's features, as a fraction of the largest; rounding is far below it."""
_LOGIT_TOLERANCE = 1e-2
"""Largest deviation of its logits, as a fraction of the largest. Fusing is exact up to rounding, coarse on a GPU."""


def fuse_experts(network: ExpertNetwork, image: Tensor) -> tuple[ExpertNetwork, str]:
    """A network with batch norm fused into every convolution that it follows; the network itself if that fails.

    Args:
        network: in evaluation mode.
        image: (1, channels, H, W), normalised, to compare both networks on.

    Returns:
        The network, and what was done, as results store it: "batch norm folded", or why not.
    """
    if not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules()):
        return network, "no batch norm to fold"
    fused = copy.copy(network)
    fused._modules = dict(network._modules)  # a shallow copy would share the dictionary
    try:
        fused.trunk = fuse(network.trunk)
        fused.branches = nn.ModuleList(fuse(branch) for branch in network.branches)
        expected, found = network.experts(image), fused.experts(image)
    except Exception as error:  # tracing meets code that it cannot follow, in as many ways as there are networks
        return network, f"batch norm not folded: {type(error).__name__}"
    if not (found - expected).abs().max() <= _LOGIT_TOLERANCE * expected.abs().max():
        return network, "batch norm not folded: tracing changed the network"
    return fused, "batch norm folded"


@torch.no_grad()
def fuse_batch_norm(network: nn.Module, image: Tensor) -> nn.Module:
    """A copy of a network with batch norm fused into convolutions; the network itself if that fails.

    The network is run once to see which convolution feeds which norm, and the copy must compute the same.

    Args:
        network: in evaluation mode, for inference only.
        image: (1, channels, H, W) to run it on.
    """
    fused = copy.deepcopy(network)
    pairs = _pairs(fused, image)
    for convolution, norm in pairs:
        module, parent = fused.get_submodule(convolution), norm.rpartition(".")
        own = fused.get_submodule(norm)
        assert isinstance(module, nn.Conv2d)
        assert isinstance(own, nn.BatchNorm2d)
        assert own.running_mean is not None
        assert own.running_var is not None
        module.weight, module.bias = fuse_conv_bn_weights(
            module.weight, module.bias, own.running_mean, own.running_var, own.eps, own.weight, own.bias
        )
        rest = nn.Sequential(own.drop, own.act) if isinstance(own, BatchNormAct2d) else nn.Identity()
        setattr(fused.get_submodule(parent[0]), parent[2], rest.eval())
    expected, found = network(image), fused(image)
    same = (found - expected).abs().max() <= _FEATURE_TOLERANCE * expected.abs().max()
    return fused if pairs and same else network


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
