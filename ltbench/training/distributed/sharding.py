"""Fully sharded data parallel (FSDP): each process keeps a shard of parameters, gradients and momentum.

torch's ``fully_shard`` does it (Zhao et al., VLDB 2023; the third stage of Rajbhandari et al., SC 2020): the parameters
of a block are gathered for its forward and its backward pass, and its gradients are reduced and scattered as soon as
they are there. Trunk and branches of a network are sharded. What a method owns besides, its heads above all, is left
whole, since methods touch it.

A network is sharded for as long as a stage trains. What comes before and after, a method's ``begin`` and ``select``,
evaluation and checkpoints, sees ordinary parameters.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed import fsdp
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, distribute_tensor

from ltbench.errors import LtbenchError, first_line
from ltbench.method import Method
from ltbench.models.blocks import blocks
from ltbench.models.experts import ExpertNetwork
from ltbench.training.distributed.process_group import Group, explain_lost_process


def check_shardable(group: Group) -> None:
    """Refuse to shard a network where that is impossible.

    Raises:
        LtbenchError: if there is one process, or torch is too old.
    """
    if group.size == 1:
        raise LtbenchError(
            "one process has no others to shard the network with",
            where="--shard",
            hint="start several: torchrun --nproc-per-node 2 -m ltbench run --shard ...",
        )
    if not hasattr(getattr(fsdp, "FSDPModule", None), "set_force_sum_reduction_for_comms"):
        raise LtbenchError(
            f"torch {torch.__version__} cannot shard a network so that gradients are sums",
            where="--shard",
            hint="install a newer torch",
        )


@contextmanager
def sharded(method: Method, optimiser: torch.optim.Optimizer, group: Group) -> Iterator[None]:
    """Shard trunk and branches of a method's network over the processes, as long as the context lasts.

    The method has copies of them for that time, and its own parameters are empty: torch cannot undo what
    ``fully_shard`` does to a module. After an error they stay so, since other processes may be lost.

    Args:
        method: on its device, with what trains and what is frozen set; equal in all processes.
        optimiser: of the method's parameters; it gets the copies' in their place, with the momentum.
        group: the processes.

    Raises:
        LtbenchError: if another process has ended, or the method computes with sharded parameters itself.
    """
    network = method.network
    whole = nn.ModuleList([network.trunk, network.branches])
    copies = deepcopy(whole).to(memory_format=torch.contiguous_format)  # as torch wants them
    network.trunk, network.branches = copies  # type: ignore[assignment]
    with _explained(method), explain_lost_process(own_work=True):
        _shard(network, group, method.log_prior.device)
        pairs = list(zip(whole.parameters(), copies.parameters(), strict=True))
        _hand_over(optimiser, dict(pairs))
        layouts = [(weight.shape, weight.stride()) for weight, _ in pairs]
        for weight, _ in pairs:
            weight.grad, weight.data = None, weight.new_empty(0)
        yield
        for (weight, shard), (shape, stride) in zip(pairs, layouts, strict=True):
            weight.data = torch.empty_strided(shape, stride, dtype=shard.dtype, device=shard.device)
            weight.data.copy_(_whole(shard.detach()))
        _hand_over(optimiser, {shard: weight for weight, shard in pairs})
    for buffer, new in zip(whole.buffers(), copies.buffers(), strict=True):
        buffer.copy_(new)
    network.trunk, network.branches = whole  # type: ignore[assignment]


@contextmanager
def _explained(method: Method) -> Iterator[None]:
    """Turn torch's error where ordinary tensors and sharded ones meet into one of the user's words."""
    try:
        yield
    except RuntimeError as error:
        if "DTensor" not in str(error):
            raise
        raise LtbenchError(
            f"{type(method).__name__} computes with parameters of its network while they are sharded",
            where=first_line(error),
            hint="run it without --shard",
        ) from None


def _shard(network: ExpertNetwork, group: Group, device: torch.device) -> None:
    # The branches' features may be views; nothing here changes them in place, they are stacked.
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view", UserWarning)
    mesh = init_device_mesh(device.type, (group.size,))
    for unit in dict.fromkeys([*blocks(network), network.trunk, *network.branches]):
        if next(unit.parameters(), None) is not None:
            made = fsdp.fully_shard(unit, mesh=mesh, reshard_after_forward=True)
            made.set_gradient_divide_factor(1.0)  # a sum over processes, as everywhere here
            made.set_force_sum_reduction_for_comms(True)  # gloo has no other for float32


def _hand_over(optimiser: torch.optim.Optimizer, successors: dict[Tensor, Tensor]) -> None:
    """Replace the parameters of an optimiser by others, sharded or whole as they are; they keep their momentum."""
    for group in optimiser.param_groups:
        group["params"] = [successors.get(weight, weight) for weight in group["params"]]
    for old, new in successors.items():
        for name, value in optimiser.state.pop(old, {}).items():
            if value is not None:  # no momentum yet
                whole = _whole(value)
                optimiser.state[new][name] = _like(whole, new) if whole.ndim else whole  # a number of steps


def _like(tensor: Tensor, other: Tensor) -> Tensor:
    """A whole tensor, sharded as another one is."""
    return distribute_tensor(tensor, other.device_mesh, other.placements) if isinstance(other, DTensor) else tensor


def _whole(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def is_sharded(tensor: Tensor) -> bool:
    """Whether this process has only its shard of a tensor."""
    return isinstance(tensor, DTensor)


def local_shard(tensor: Tensor) -> Tensor:
    """This process's shard of a sharded tensor, else the tensor; in the same memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def gathered(state: Any, group: Group) -> Any:
    """A state with the whole of every sharded tensor, on the CPU, in the main process.

    Every process must call it; the others get None in their places.
    """
    if isinstance(state, DTensor):
        tensor = state.full_tensor()
        return tensor.cpu() if group.is_main else None
    return {name: gathered(value, group) for name, value in state.items()} if isinstance(state, dict) else state
