"""The processes that carry out one run together: their shares of every batch, and their collectives.

The batch of all processes together is the setting. Each process makes and trains on its slice of every batch; the sum
of their gradients is divided by the weight of the whole batch, so that the number of processes is no setting.

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

from ltbench.errors import LtbenchError, first_line
from ltbench.method import Method

TIMEOUT = timedelta(minutes=30)
"""How long a process waits for another one, which may be evaluating or waiting for a lock, before it gives up."""

T = TypeVar("T")


@dataclass(frozen=True)
class Group:
    """The processes of a run; in a group of one, collectives do nothing.

    Every process must call all methods but ``local_slice`` and ``is_main``, in the same order. They raise an
    ``LtbenchError`` when another process has ended or does not answer.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files and speaks to the user."""
        return self.rank == 0

    def local_slice(self, count: int, least: int = 1) -> slice:
        """This process's slice of ``count`` things; empty where there are not ``least`` for every process."""
        shards = min(self.size, max(1, count // least))
        if self.rank >= shards:
            return slice(count, count)
        return shard_slice(count, self.rank, shards)

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Whether each flag is set in any process."""
        if self.size == 1:
            return flags
        tensor = torch.tensor(flags, dtype=torch.int32)  # on the CPU: the host does not wait for the device
        with explain_lost_process():
            dist.all_reduce(tensor, dist.ReduceOp.MAX)
        return tuple(bool(flag) for flag in tensor)

    def broadcast_object(self, make: Callable[[], T]) -> T:
        """The object that the main process makes, for all; the others do not call ``make``."""
        if self.size == 1:
            return make()
        found: list[Any] = [make() if self.is_main else None]
        with explain_lost_process():
            dist.broadcast_object_list(found, src=0, device=torch.device("cpu"))
        value: T = found[0]
        return value

    def check_same_run(self, facts: Mapping[str, object]) -> None:
        """Refuse to train together if processes were started with different settings.

        Args:
            facts: by name, the values that must be equal in all processes.

        Raises:
            LtbenchError: in every process, if one differs.
        """
        if self.size == 1:
            return
        found: list[Any] = [None] * self.size
        with explain_lost_process():
            dist.all_gather_object(found, dict(facts))
        for rank, theirs in enumerate(found):
            for name, there, first in _differences(theirs, found[0]):
                raise LtbenchError(
                    f"process {rank} of this run has another {name} than the first one",
                    where=f"{there} there, {first} in the first one",
                    hint="give every machine the same command, data and version of ltbench",
                )

    def all_reduce(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their sums over the processes."""
        if self.size > 1:
            _exchange_flat(tensors, dist.all_reduce)

    def broadcast(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by the main process's."""
        if self.size > 1:
            _exchange_flat(tensors, lambda flat: dist.broadcast(flat, src=0))

    def gather(self, tensor: Tensor) -> Tensor:
        """The tensors of all processes, concatenated along the first axis, where their lengths may differ.

        Gradients flow back to every process: those of all processes' losses are added up.
        """
        return tensor if self.size == 1 else _all_gather(tensor, self._lengths(len(tensor)), self.rank)

    def gather_rows(self, row: Tensor) -> Tensor:
        """(processes, ...): one tensor of each process, all of one shape; as ``gather``, with one message less."""
        return row.unsqueeze(0) if self.size == 1 else _all_gather(row.unsqueeze(0), [1] * self.size, self.rank)

    def gather_to_main(self, tables: Sequence[Tensor], count: int) -> None:
        """Fill the main process's tables with the rows of all, in the order of the processes; on the CPU.

        Args:
            tables: whose first rows are this process's; those of the main process have room for all rows. A process
                without rows need not have any.
            count: rows of this process.
        """
        if self.size == 1:
            return
        lengths = self._lengths(count)
        with explain_lost_process():
            for table in tables if self.rank and count else ():
                dist.send(table[:count].contiguous(), 0)
            for rank in range(1, self.size) if self.is_main else ():
                begin = sum(lengths[:rank])
                for table in tables if lengths[rank] else ():
                    dist.recv(table[begin : begin + lengths[rank]], rank)

    def _lengths(self, count: int) -> list[int]:
        lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        with explain_lost_process():
            dist.all_gather(lengths, torch.tensor([count]))
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
    """The slice of ``count`` things that is shard ``index`` of ``of`` shards of equal size, up to one."""
    return slice(index * count // of, (index + 1) * count // of)


@contextmanager
def process_group(device: str) -> Iterator[Group]:
    """Join the processes that ``torchrun`` has started, if it has, until the context is left.

    Args:
        device: "auto", "cpu" or "cuda": what the run will compute on.

    Raises:
        LtbenchError: if they cannot be reached.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield ALONE
        return
    cuda = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    try:
        dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=TIMEOUT)
    except (RuntimeError, ValueError) as error:
        raise LtbenchError(
            f"the processes cannot reach each other: {first_line(error)}",
            where="WORLD_SIZE and the like in the environment",
            hint="start them by torchrun, with an address and a port that every machine can reach",
        ) from None
    try:
        yield Group(dist.get_rank(), dist.get_world_size())
    except KeyboardInterrupt as stop:
        raise _reason(stop) from None
    dist.destroy_process_group()  # not after an error: others may have ended


def check_divisible(
    cls: type[Method],
    name: str,
    batch_size: int,
    group: Group,
    accumulate: int,
    processes: str = "torchrun --nproc-per-node",
) -> None:
    """Refuse to divide batches so that results would change.

    Args:
        cls: the method's class.
        name: the method's name, for messages.
        batch_size: of all processes together.
        group: the processes.
        accumulate: gradient-accumulation steps per batch.
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


class _AllGather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, lengths: list[int], rank: int) -> Tensor:
        ctx.lengths, ctx.rank = lengths, rank
        padded = tensor.new_zeros(max(lengths), *tensor.shape[1:])  # equal shapes, as collectives want them
        padded[: len(tensor)] = tensor
        parts = [torch.empty_like(padded) for _ in lengths]
        with explain_lost_process():
            dist.all_gather(parts, padded)
        return torch.cat([part[:length] for part, length in zip(parts, lengths, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        gradient = gradients[0].contiguous().clone()
        with explain_lost_process():
            dist.all_reduce(gradient)
        return torch.split(gradient, ctx.lengths)[ctx.rank], None, None


def _all_gather(tensor: Tensor, lengths: list[int], rank: int) -> Tensor:
    whole: Tensor = _AllGather.apply(tensor, lengths, rank)
    return whole


@torch.no_grad()
def _exchange_flat(tensors: Sequence[Tensor], exchange: Callable[[Tensor], object]) -> None:
    """Let a collective change tensors in place: one flat tensor of each dtype, since many small messages are slow."""
    for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
        same = [tensor for tensor in tensors if tensor.dtype == dtype]
        flat = torch.cat([tensor.reshape(-1) for tensor in same])
        flat = flat.to(torch.uint8) if dtype == torch.bool else flat
        with explain_lost_process():
            exchange(flat)
        for tensor, new in zip(same, torch.split(flat, [tensor.numel() for tensor in same]), strict=True):
            tensor.copy_(new.view(tensor.shape))


def _reason(stop: KeyboardInterrupt) -> BaseException:
    """The lost process, where torchrun's signal to the others came while they were about to report it."""
    behind: BaseException | None = stop
    while behind is not None and not isinstance(behind, LtbenchError):
        behind = behind.__context__
    return behind or stop


@contextmanager
def explain_lost_process(*, own_work: bool = False) -> Iterator[None]:
    """Turn the errors of a collective into one that says that another process has ended.

    Args:
        own_work: whether the context does more than call collectives; other errors are passed on then.
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
            where=first_line(error),
            hint="what it says tells why; the same command resumes from the last checkpoint, also with another "
            "number of processes",
        ) from None
