"""Several processes that carry out one run together: who does what, and what they tell each other.

The global batch is the setting. Each process makes and trains on its share of every batch, and what results is the
sum over the shares divided by the weight of the whole batch, so that the number of processes is no setting.

Gradients are added up after the backward pass, as one flat tensor, and not by DistributedDataParallel: that averages
over processes where shares of unequal size and losses with weights need sums, must be wrapped anew for every stage
with other frozen parts, and calls a module's ``forward`` with tensors. The price is that communication does not
overlap with the backward pass.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from ltbench.errors import LtbenchError
from ltbench.method import Method

PATIENCE = timedelta(minutes=30)
"""How long a process waits for another one, which may be evaluating or waiting for a lock, before it gives up."""

T = TypeVar("T")


@dataclass(frozen=True)
class Group:
    """The processes of a run; alone in a group of one, for which all of this does nothing.

    All methods but ``share`` and ``leads`` must be called by every process, in the same order. They raise an
    ``LtbenchError`` when another process has ended or does not answer.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files and speaks to the user."""
        return self.rank == 0

    def local_slice(self, count: int, least: int = 1) -> slice:
        """The part of ``count`` things that is this process's; empty where there are not ``least`` for everyone."""
        parts = min(self.size, max(1, count // least))
        if self.rank >= parts:
            return slice(count, count)
        return shard_slice(count, self.rank, parts)

    def any(self, *wishes: bool) -> tuple[bool, ...]:
        """Of each wish, whether any process has it."""
        if self.size == 1:
            return wishes
        flags = torch.tensor(wishes, dtype=torch.int32)  # on the CPU: the host does not wait for the device
        with all_there():
            dist.all_reduce(flags, dist.ReduceOp.MAX)
        return tuple(bool(flag) for flag in flags)

    def broadcast_object(self, made: Callable[[], T]) -> T:
        """What the first process makes, for all; the others do not call ``made``."""
        if self.size == 1:
            return made()
        found: list[Any] = [made() if self.is_main else None]
        with all_there():
            dist.broadcast_object_list(found, src=0, device=torch.device("cpu"))
        value: T = found[0]
        return value

    def check_alike(self, facts: Mapping[str, object]) -> None:
        """Refuse to begin together what is not the same run for all.

        Args:
            facts: by name, what each process must have like the first one.

        Raises:
            LtbenchError: in every process, if one differs.
        """
        if self.size == 1:
            return
        found: list[Any] = [None] * self.size
        with all_there():
            dist.all_gather_object(found, dict(facts))
        for rank, theirs in enumerate(found):
            for name, there, first in _differences(theirs, found[0]):
                raise LtbenchError(
                    f"process {rank} of this run has another {name} than the first one",
                    where=f"{there} there, {first} in the first one",
                    hint="give every machine the same command, data and version of ltbench",
                )

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their sums over the processes."""
        if self.size > 1:
            _flat(tensors, dist.all_reduce)

    def broadcast(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by the first process's."""
        if self.size > 1:
            _flat(tensors, lambda flat: dist.broadcast(flat, src=0))

    def gather(self, tensor: Tensor) -> Tensor:
        """The tensors of all processes, joined along the first axis, where their lengths may differ.

        Gradients flow back to every process: those of all processes' losses are added up.
        """
        return tensor if self.size == 1 else _gathered(tensor, self._lengths(len(tensor)), self.rank)

    def gather_rows(self, row: Tensor) -> Tensor:
        """(processes, ...): one tensor of each process, all of one shape; as ``gather``, with less talk."""
        return row.unsqueeze(0) if self.size == 1 else _gathered(row.unsqueeze(0), [1] * self.size, self.rank)

    def gather_to_main(self, tables: Sequence[Tensor], own: int) -> None:
        """Fill the first process's tables with the rows of all, in the order of the processes; on the CPU.

        Args:
            tables: whose first rows are this process's; the first process's have room for all. A process without rows
                need not have any.
            own: rows of this process.
        """
        if self.size == 1:
            return
        lengths = self._lengths(own)
        with all_there():
            for table in tables if self.rank and own else ():
                dist.send(table[:own].contiguous(), 0)
            for rank in range(1, self.size) if self.is_main else ():
                begin = sum(lengths[:rank])
                for table in tables if lengths[rank] else ():
                    dist.recv(table[begin : begin + lengths[rank]], rank)

    def _lengths(self, own: int) -> list[int]:
        lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        with all_there():
            dist.all_gather(lengths, torch.tensor([own]))
        return [int(length) for length in lengths]


ALONE = Group()


def _differences(
    one: Mapping[str, Any], other: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, object, object]]:
    """Name and both values of what differs, also in mappings within."""
    for name in {**other, **one}:
        here, there = one.get(name), other.get(name)
        if isinstance(here, Mapping) and isinstance(there, Mapping):
            yield from _differences(here, there, f"{prefix}{name}.")
        elif here != there:
            yield prefix + name, here, there


def shard_slice(count: int, index: int, of: int) -> slice:
    """Which of ``count`` things are in one of so many parts of equal size, up to one."""
    return slice(index * count // of, (index + 1) * count // of)


@contextmanager
def joined(device: str) -> Iterator[Group]:
    """Meet the other processes that ``torchrun`` has started, if it has; they part when the context is left.

    Args:
        device: "auto", "cpu" or "cuda": what the run will compute on.

    Raises:
        LtbenchError: if they cannot be met.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield ALONE
        return
    cuda = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    try:
        dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise LtbenchError(
            f"the processes cannot meet: {str(error).splitlines()[0]}",
            where="WORLD_SIZE and the like in the environment",
            hint="start them by torchrun, with an address and a port that every machine can reach",
        ) from None
    try:
        yield Group(dist.get_rank(), dist.get_world_size())
    except KeyboardInterrupt as stop:
        raise _reason(stop) from None
    dist.destroy_process_group()  # not after an error: others may not be there to part from


def check_divisible(
    cls: type[Method],
    name: str,
    batch_size: int,
    group: Group,
    accumulate: int,
    processes: str = "torchrun --nproc-per-node",
) -> None:
    """Refuse what would change results.

    Args:
        cls: of the method.
        name: of the method.
        batch_size: global.
        group: the processes.
        accumulate: parts of a process's share whose gradients are added up.
        processes: the option that says how many there are.

    Raises:
        LtbenchError: if the loss needs the whole batch at once, or parts would be too small.
    """
    where = "--accumulate" if accumulate != 1 else processes
    if min(group.size, accumulate) < 1:
        message = f"a batch cannot be split into {group.size} x {accumulate} parts"
        raise LtbenchError(message, where=where, hint="give a number from 1")
    if cls.couples_batch and accumulate > 1:
        hint = "leave --accumulate out; more processes or a smaller --batch-size also save memory"
        raise LtbenchError(f"the loss of {name} couples the images of a batch", where=where, hint=hint)
    if cls.couples_batch and not cls.gathers_across_processes and group.size > 1:
        hint = "run it in one process"
        raise LtbenchError(
            f"the loss of {name} couples the images of a batch and takes in one process's", where=where, hint=hint
        )
    if accumulate * group.size > 1 and batch_size < 2 * accumulate * group.size:
        raise LtbenchError(
            f"a batch of {batch_size} images cannot be split into {group.size} x {accumulate} parts of two or more",
            where=where,
            hint="choose smaller numbers or a larger --batch-size",
        )


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, lengths: list[int], rank: int) -> Tensor:
        ctx.lengths, ctx.rank = lengths, rank
        padded = tensor.new_zeros(max(lengths), *tensor.shape[1:])  # equal shapes, as collectives want them
        padded[: len(tensor)] = tensor
        parts = [torch.empty_like(padded) for _ in lengths]
        with all_there():
            dist.all_gather(parts, padded)
        return torch.cat([part[:length] for part, length in zip(parts, lengths, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        gradient = gradients[0].contiguous().clone()
        with all_there():
            dist.all_reduce(gradient)
        return torch.split(gradient, ctx.lengths)[ctx.rank], None, None


def _gathered(tensor: Tensor, lengths: list[int], rank: int) -> Tensor:
    whole: Tensor = _Gather.apply(tensor, lengths, rank)
    return whole


@torch.no_grad()
def _flat(tensors: Sequence[Tensor], exchange: Callable[[Tensor], object]) -> None:
    """Let an exchange change tensors in place: one flat tensor of each type, since many small messages are slow."""
    for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
        same = [tensor for tensor in tensors if tensor.dtype == dtype]
        flat = torch.cat([tensor.reshape(-1) for tensor in same])
        flat = flat.to(torch.uint8) if dtype == torch.bool else flat
        with all_there():
            exchange(flat)
        for tensor, new in zip(same, torch.split(flat, [tensor.numel() for tensor in same]), strict=True):
            tensor.copy_(new.view(tensor.shape))


def _reason(stop: KeyboardInterrupt) -> BaseException:
    """Who is missing, where torchrun's signal to those who are left came while they were about to say so."""
    behind: BaseException | None = stop
    while behind is not None and not isinstance(behind, LtbenchError):
        behind = behind.__context__
    return behind or stop


@contextmanager
def all_there(*, own_work: bool = False) -> Iterator[None]:
    """Say in the user's words that another process is missing.

    Args:
        own_work: whether more than talk with others is done in the context, whose errors are passed on.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        if own_work and not (isinstance(error, dist.DistError) or "gloo" in str(error)):
            raise
        raise LtbenchError(
            "another process of this run has ended or does not answer",
            where=str(error).splitlines()[0],
            hint="what it says tells why; the same command goes on from the last checkpoint, also with another "
            "number of processes",
        ) from None
