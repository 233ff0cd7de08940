"""Feature networks divided over the processes: each keeps its share of their parameters, gradients and momentum.

torch's ``fully_shard`` does it (Zhao et al., VLDB 2023; the third stage of Rajbhandari et al., SC 2020): the parameters
of a block are put together for its forward and its backward pass, and its gradients are added up and divided again as
soon as they are there. What a method owns besides, its heads above all, is left whole, since methods touch it.

A network is divided for as long as a stage trains. What comes before and after, a method's ``begin`` and ``select``,
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

from ltbench.errors import LtbenchError
from ltbench.method import Method
from ltbench.models.blocks import blocks
from ltbench.models.experts import ExpertNetwork
from ltbench.training.distributed.process_group import Group, all_there


def check_shardable(group: Group) -> None:
    """Refuse to divide a network where that cannot be.

    Raises:
        LtbenchError: if there is one process, or torch is too old.
    """
    if group.size == 1:
        raise LtbenchError(
            "one process has no others to divide a network with",
            where="--shard",
            hint="start several: torchrun --nproc-per-node 2 -m ltbench run --shard ...",
        )
    if not hasattr(getattr(fsdp, "FSDPModule", None), "set_force_sum_reduction_for_comms"):
        raise LtbenchError(
            f"torch {torch.__version__} cannot divide a network so that gradients are sums",
            where="--shard",
            hint="install a newer torch",
        )


@contextmanager
def sharded(method: Method, optimiser: torch.optim.Optimizer, group: Group) -> Iterator[None]:
    """Divide trunk and branches of a method's network over the processes, as long as the context lasts.

    The method has copies of them for that time, and its own parameters are empty: torch cannot take back what
    ``fully_shard`` does to a module. After an error they stay so, since others may not be there to put them together.

    Args:
        method: on its device, with what trains and what is frozen set; equal in all processes.
        optimiser: of the method's parameters; it goes on with those of the copies and their momentum.
        group: the processes.

    Raises:
        LtbenchError: if another process is missing, or the method computes with divided parameters itself.
    """
    network = method.network
    own = nn.ModuleList([network.trunk, network.branches])
    shares = deepcopy(own).to(memory_format=torch.contiguous_format)  # as torch wants them
    network.trunk, network.branches = shares  # type: ignore[assignment]
    with _explained(method), all_there(own_work=True):
        _divide(network, group, method.log_prior.device)
        pairs = list(zip(own.parameters(), shares.parameters(), strict=True))
        _hand_over(optimiser, dict(pairs))
        layouts = [(weight.shape, weight.stride()) for weight, _ in pairs]
        for weight, _ in pairs:
            weight.grad, weight.data = None, weight.new_empty(0)
        yield
        for (weight, share), (shape, stride) in zip(pairs, layouts, strict=True):
            weight.data = torch.empty_strided(shape, stride, dtype=share.dtype, device=share.device)
            weight.data.copy_(_whole(share.detach()))
        _hand_over(optimiser, {share: weight for weight, share in pairs})
    for buffer, new in zip(own.buffers(), shares.buffers(), strict=True):
        buffer.copy_(new)
    network.trunk, network.branches = own  # type: ignore[assignment]


@contextmanager
def _explained(method: Method) -> Iterator[None]:
    """Say in the user's words that ordinary tensors and divided ones have met."""
    try:
        yield
    except RuntimeError as error:
        if "DTensor" not in str(error):
            raise
        raise LtbenchError(
            f"{type(method).__name__} computes with parameters of its network while they are divided",
            where=str(error).splitlines()[0],
            hint="run it without --shard",
        ) from None


def _divide(network: ExpertNetwork, group: Group, device: torch.device) -> None:
    # Of the branches' features, which may be views; nothing here changes them in place, they are stacked.
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view", UserWarning)
    mesh = init_device_mesh(device.type, (group.size,))
    for unit in dict.fromkeys([*blocks(network), network.trunk, *network.branches]):
        if next(unit.parameters(), None) is not None:
            made = fsdp.fully_shard(unit, mesh=mesh, reshard_after_forward=True)
            made.set_gradient_divide_factor(1.0)  # a sum over processes, as everywhere here
            made.set_force_sum_reduction_for_comms(True)  # gloo has no other for float32


def _hand_over(optimiser: torch.optim.Optimizer, successors: dict[Tensor, Tensor]) -> None:
    """Let an optimiser go on with other tensors for the same parameters, divided or whole as they are."""
    for group in optimiser.param_groups:
        group["params"] = [successors.get(weight, weight) for weight in group["params"]]
    for old, new in successors.items():
        for name, value in optimiser.state.pop(old, {}).items():
            if value is not None:  # no momentum yet
                optimiser.state[new][name] = _like(_whole(value), new)


def _like(tensor: Tensor, other: Tensor) -> Tensor:
    """A whole tensor, divided if another one is."""
    return distribute_tensor(tensor, other.device_mesh, other.placements) if isinstance(other, DTensor) else tensor


def _whole(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def is_sharded(tensor: Tensor) -> bool:
    """Whether this process has only its share of a tensor."""
    return isinstance(tensor, DTensor)


def local_shard(tensor: Tensor) -> Tensor:
    """This process's share of a tensor that is divided, else the tensor; it shares memory with it."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def gathered(state: Any, group: Group) -> Any:
    """A state with the whole of every divided tensor, on the CPU, in the first process.

    All processes must ask for it; the others get nothing in their places.
    """
    if isinstance(state, DTensor):
        tensor = state.full_tensor()
        return tensor.cpu() if group.is_main else None
    return {name: gathered(value, group) for name, value in state.items()} if isinstance(state, dict) else state
