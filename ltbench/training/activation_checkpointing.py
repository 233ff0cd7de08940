"""Activation checkpointing: the backward pass computes activations again, in less memory and more time.

Chen et al. (2016), "Training deep nets with sublinear memory cost": of each block only its input is kept. timm's
``set_grad_checkpointing`` does this too, but batch norm then counts every batch twice in its running statistics. Here
training is the same bit for bit.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ltbench.errors import LtbenchError
from ltbench.models.blocks import blocks
from ltbench.models.experts import ExpertNetwork
from ltbench.training.distributed.batch_norm import keep_running_statistics


@contextmanager
def activation_checkpointing(network: ExpertNetwork) -> Iterator[None]:
    """Keep only the input of each block of a network for the backward pass, as long as the context lasts.

    Raises:
        LtbenchError: in the forward pass, if a block changes its input in place.
    """
    forwards = [(block, vars(block).get("forward")) for block in blocks(network)]
    for block, _ in forwards:
        block.forward = partial(_forward, block, block.forward)
    try:
        yield
    finally:
        for block, before in forwards:
            if before is None:
                del block.forward
            else:
                block.forward = before


def _forward(block: nn.Module, forward: Callable[..., Any], *args: Any, **options: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*args, **options)
    inputs = [value for value in (*args, *options.values()) if isinstance(value, Tensor)]
    versions = [tensor._version for tensor in inputs]
    # torch restores the draws of dropout and stochastic depth, and autocast.
    output = checkpoint(forward, *args, use_reentrant=False, context_fn=partial(_contexts, block), **options)
    if [tensor._version for tensor in inputs] != versions:
        raise LtbenchError(
            f"a {type(block).__name__} changes its input in place, so that it cannot be computed again",
            where="--checkpoint-activations",
            hint="leave it out; --accumulate also saves memory",
        )
    return output


def _contexts(block: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """The contexts of the forward pass and of its repetition."""
    return nullcontext(), keep_running_statistics(block)
