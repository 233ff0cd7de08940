"""Batch norm fused into the convolution before it: the same predictions from fewer passes over memory."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse

from ltbench.method import Method
from ltbench.models.experts import ExpertNetwork

_TOLERANCE = 1e-2
"""Largest deviation, as a fraction of the largest logit. Fusing is exact up to rounding (which is coarse on a GPU)."""


@contextmanager
def fused_batch_norm(method: Method, image: Tensor) -> Iterator[str]:
    """Predict with batch norm fused into every convolution that it follows.

    In evaluation batch norm is a scale and a shift per channel (Ioffe and Szegedy, ICML 2015, algorithm 2), which
    the weights and the bias of the convolution before it can take over. The method gets its own network back.

    Args:
        method: in evaluation mode.
        image: (1, channels, H, W), normalised, to compare both networks on.

    Yields:
        "batch norm folded", or why not.
    """
    own = method.network
    method.network, execution = _fused(own, image)
    try:
        yield execution
    finally:
        method.network = own


def _fused(network: ExpertNetwork, image: Tensor) -> tuple[ExpertNetwork, str]:
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
    if not (found - expected).abs().max() <= _TOLERANCE * expected.abs().max():
        return network, "batch norm not folded: tracing changed the network"
    return fused, "batch norm folded"
