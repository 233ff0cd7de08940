"""Batch norm folded into the convolution before it: the same predictions from fewer passes over memory."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse

from ltbench.method import Method
from ltbench.models.experts import ExpertNetwork

_TOLERANCE = 1e-2
"""Of the largest logit. Folding is exact up to rounding (which is coarse on a GPU); another network is far off."""


@contextmanager
def folded(method: Method, image: Tensor) -> Iterator[str]:
    """Predict with batch norm folded in wherever it follows a convolution.

    In evaluation batch norm is a scale and a shift per channel (Ioffe and Szegedy, ICML 2015, algorithm 2), which
    the weights and the bias of the convolution before it can take over. The method has its own network back after.

    Args:
        method: in evaluation mode.
        image: (1, channels, H, W), normalised, to compare both networks on.

    Yields:
        "batch norm folded", or why not.
    """
    own = method.network
    quick, words = _folded(own, image)
    method.network = quick
    try:
        yield words
    finally:
        method.network = own


def _folded(network: ExpertNetwork, image: Tensor) -> tuple[ExpertNetwork, str]:
    if not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules()):
        return network, "no batch norm to fold"
    quick = copy.copy(network)
    quick._modules = dict(network._modules)  # a shallow copy would share the dictionary
    try:
        quick.trunk = fuse(network.trunk)
        quick.branches = nn.ModuleList(fuse(branch) for branch in network.branches)
        expected, found = network.experts(image), quick.experts(image)
    except Exception as error:  # tracing meets code that it cannot follow, in as many ways as there are networks
        return network, f"batch norm not folded: {type(error).__name__}"
    if not (found - expected).abs().max() <= _TOLERANCE * expected.abs().max():
        return network, "batch norm not folded: tracing changed the network"
    return quick, "batch norm folded"
