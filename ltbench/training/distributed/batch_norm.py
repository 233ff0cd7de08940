"""Batch norm in several processes: SyncBatchNorm groups, and running statistics that are equal everywhere."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ltbench.errors import LtbenchError
from ltbench.training.distributed.process_group import ALONE, Group, shard_slice

_PLAIN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def batch_norms(network: nn.Module) -> Iterator[_BatchNorm]:
    """The batch norms of a network."""
    return (module for module in network.modules() if isinstance(module, _BatchNorm))


@contextmanager
def keep_running_statistics(network: nn.Module, except_for: Sequence[nn.Module] = ()) -> Iterator[None]:
    """Let norms in training mode, but for some, update copies of their running statistics, which are then dropped.

    Without ``track_running_stats`` they would update none, but then keep fewer tensors for the backward pass, which
    torch's checkpointing refuses.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._NormBase)]
    norms = [norm for norm in norms if not any(norm is one for one in except_for)]
    buffers = [(norm, name, buffer) for norm in norms if norm.training for name, buffer in norm.named_buffers()]
    for norm, name, buffer in buffers:
        setattr(norm, name, buffer.clone())
    try:
        yield
    finally:
        for norm, name, buffer in buffers:
            setattr(norm, name, buffer)


@contextmanager
def dummy_forward(network: nn.Module) -> Iterator[None]:
    """Pass a dummy batch through a network in a process that has no images.

    Norms of this process alone keep their running statistics; synchronised ones take those of the other processes'
    images. Norms that ``exclude_from_sync`` has marked update theirs as everywhere.
    """
    synchronised = [norm for norm in batch_norms(network) if _is_synchronised(norm)]
    excluded = [norm for norm in batch_norms(network) if _is_excluded(norm)]
    for norm in synchronised:
        vars(norm)["dummy_batch"] = True
    try:
        with keep_running_statistics(network, except_for=[*synchronised, *excluded]):
            yield
    finally:
        for norm in synchronised:
            del vars(norm)["dummy_batch"]


def exclude_from_sync(network: nn.Module) -> None:
    """Exclude the norms of a part of a method that gets parameters instead of images, such as prototypes.

    Parameters are equal in all processes: synchronised norms would count each row once a process.
    """
    for norm in batch_norms(network):
        vars(norm)["excluded_from_sync"] = True


def sync_batch_norm(network: nn.Module, group: Group, group_size: int | None = None) -> None:
    """Let batch norms in training mode take their statistics over the images of several processes.

    The modules stay what they are, with the same names and types, so that checkpoints and all that looks at layers
    see no difference. torch's ``SyncBatchNorm`` does this too, but on GPUs alone.

    Args:
        network: changed in place.
        group: the processes.
        group_size: how many neighbouring processes share statistics, a divisor of their number; None: all.

    Raises:
        LtbenchError: for a kind of batch norm that computes more than the usual.
    """
    group_size = group.size if group_size is None else group_size
    if group_size == 1:
        return
    for module in (norm for norm in batch_norms(network) if not _is_excluded(norm)):
        if type(module) not in (*_PLAIN, BatchNormAct2d):
            raise LtbenchError(f"{type(module).__name__} cannot be synchronised", where="--batch-norm-images")
        vars(module)["sync_group_size"] = group_size
        module.forward = partial(_synchronised_forward, module, group)  # type: ignore[method-assign]


def sync_group_size(network: nn.Module) -> int:
    """The number of processes that share statistics: 1 without ``sync_batch_norm``."""
    return next((vars(norm)["sync_group_size"] for norm in batch_norms(network) if _is_synchronised(norm)), 1)


def _is_synchronised(norm: _BatchNorm) -> bool:
    return "sync_group_size" in vars(norm)


def _is_excluded(norm: _BatchNorm) -> bool:
    return "excluded_from_sync" in vars(norm)


def images_per_norm(network: nn.Module, batch_size: int, group: Group, accumulate: int) -> int | None:
    """The number of images of a full batch that share statistics, at least; None without batch norm."""
    if next(batch_norms(network), None) is None:
        return None
    return _images_per_norm(sync_group_size(network), batch_size, group, accumulate)


def check_has_batch_norm(network: nn.Module) -> None:
    """Refuse --batch-norm-images for a network without batch norm."""
    if next(batch_norms(network), None) is None:
        raise LtbenchError("the network has no batch norm", where="--batch-norm-images", hint="leave the option out")


def sync_group_size_for(images: int, batch_size: int, group: Group, accumulate: int) -> int:
    """The SyncBatchNorm group size, in processes, with which statistics are over so many images.

    Args:
        images: of a full batch that share statistics, in each micro-batch.
        batch_size: of all processes together.
        group: the processes.
        accumulate: gradient-accumulation steps per batch.

    Raises:
        LtbenchError: if no group size gives this number of images.
    """
    numbers = [number for number in range(1, group.size + 1) if not group.size % number]
    found = {_images_per_norm(number, batch_size, group, accumulate): number for number in numbers}
    if images not in found:
        parts = range(1, batch_size // 2 + 1)
        fitting = (
            f"one process and --accumulate {k}" for k in parts if _images_per_norm(1, batch_size, ALONE, k) == images
        )
        raise LtbenchError(
            f"a batch of {batch_size} in {group.size} x {accumulate} parts (processes x --accumulate) can have batch "
            f"norm over {' or '.join(map(str, found))} images, not {images}",
            where="--batch-norm-images",
            hint=f"it takes other parts: {next(fitting, 'more processes, or another --batch-size')}",
        )
    return found[images]


def _images_per_norm(group_size: int, batch_size: int, group: Group, accumulate: int) -> int:
    slices = [range(batch_size)[Group(rank, group.size).local_slice(batch_size, least=2)] for rank in range(group.size)]
    micro_batches = [[len(own[shard_slice(len(own), i, accumulate)]) for i in range(accumulate)] for own in slices]
    return min(
        sum(sizes[i] for sizes in micro_batches[begin : begin + group_size])
        for begin in range(0, group.size, group_size)
        for i in range(accumulate)
    )


def _synchronised_forward(module: _BatchNorm, group: Group, x: Tensor) -> Tensor:
    if not module.training:
        unchanged: Tensor = type(module).forward(module, x)
        return unchanged
    with torch.autocast(x.device.type, enabled=False):
        values = x.to(torch.promote_types(x.dtype, torch.float32))
        mean, variance, count = _statistics(
            values, group, vars(module)["sync_group_size"], counts="dummy_batch" not in vars(module)
        )
        if module.running_mean is not None and module.running_var is not None:
            assert module.num_batches_tracked is not None
            module.num_batches_tracked.add_(1)
            rate = module.momentum if module.momentum is not None else 1 / module.num_batches_tracked.float()
            rate = rate * (count > 0).to(module.running_mean.dtype)
            module.running_mean.lerp_(mean.detach().to(module.running_mean.dtype), rate)
            unbiased = variance.detach() * count / (count - 1)
            module.running_var.lerp_(unbiased.to(module.running_var.dtype), rate)
        scale = (variance + module.eps).rsqrt()
        scale = scale if module.weight is None else scale * module.weight
        shift = -mean * scale if module.bias is None else module.bias - mean * scale
        shape = (1, -1, *[1] * (x.ndim - 2))
        normalised = torch.addcmul(shift.view(shape), values, scale.view(shape)).to(x.dtype)
    if isinstance(module, BatchNormAct2d):
        normalised = module.act(module.drop(normalised))
    return normalised


def _statistics(values: Tensor, group: Group, group_size: int, *, counts: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and biased variance, each (channels,), over a SyncBatchNorm group, and the number of values that count.

    They are put together from those of each process: Chan et al. (1979). Where no values count (dummy batches alone)
    they are of all: what comes of them is dropped, but must be finite.
    """
    channels = values.shape[1]
    variance, mean = torch.var_mean(values, (0, *range(2, values.ndim)), correction=0)
    count = values.new_tensor([values.numel() / channels if counts else 0])
    rows = group.gather_rows(torch.cat([mean, variance, count]))
    begin = group.rank // group_size * group_size
    means, variances, numbers = torch.split(rows[begin : begin + group_size], [channels, channels, 1], 1)
    counted = numbers.sum()
    numbers = torch.where(counted > 0, numbers, 1)
    fractions = numbers / numbers.sum()
    mean = (fractions * means).sum(0)
    return mean, (fractions * (variances + (means - mean).square())).sum(0), counted


def average_running_statistics(network: nn.Module, group: Group) -> None:
    """Give all processes the mean of their running statistics.

    A running mean is linear in what enters it, so that it does not matter how often this is done, as long as it is
    done before the statistics are used or saved, and before a step in which a process has no images.
    """
    training = [norm for norm in batch_norms(network) if norm.training]
    buffers = [buffer for norm in training for buffer in (norm.running_mean, norm.running_var)]
    statistics = [buffer for buffer in buffers if buffer is not None]
    if group.size > 1 and statistics:
        group.all_reduce(statistics)
        torch._foreach_div_(statistics, group.size)
