"""Batch norm in several processes: whose images share statistics, and running statistics that agree."""

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
def statistics_at_rest(network: nn.Module, but: Sequence[nn.Module] = ()) -> Iterator[None]:
    """Let norms in training mode, but for some, update copies of their running statistics, which are then forgotten.

    Without ``track_running_stats`` they would update none, but then keep fewer tensors for the backward pass, which
    torch's checkpointing refuses.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._NormBase)]
    norms = [norm for norm in norms if not any(norm is one for one in but)]
    own = [(norm, name, buffer) for norm in norms if norm.training for name, buffer in norm.named_buffers()]
    for norm, name, buffer in own:
        setattr(norm, name, buffer.clone())
    try:
        yield
    finally:
        for norm, name, buffer in own:
            setattr(norm, name, buffer)


@contextmanager
def without_images(network: nn.Module) -> Iterator[None]:
    """Pass something through a network in place of images that this process lacks.

    Norms of its own keep their running statistics; synchronised ones take those of their neighbours' images.
    Those of parameters go on as everywhere.
    """
    synchronised = [norm for norm in batch_norms(network) if _is_synchronised(norm)]
    of_parameters = [norm for norm in batch_norms(network) if _sees_parameters(norm)]
    for norm in synchronised:
        vars(norm)["without_images"] = True
    try:
        with statistics_at_rest(network, but=[*synchronised, *of_parameters]):
            yield
    finally:
        for norm in synchronised:
            del vars(norm)["without_images"]


def sees_parameters(network: nn.Module) -> None:
    """Say of a part of a method that it sees parameters, equal in all processes, in place of images.

    Its norms need no synchronising, which would count each row once a process.
    """
    for norm in batch_norms(network):
        vars(norm)["sees_parameters"] = True


def synchronise(network: nn.Module, group: Group, together: int | None = None) -> None:
    """Let batch norms in training mode take their statistics over the images of several processes.

    The modules stay what they are, with the same names and types, so that checkpoints and all that looks at layers
    see no difference. torch's ``SyncBatchNorm`` does this too, but on GPUs alone.

    Args:
        network: changed in place.
        group: the processes.
        together: how many of them, neighbours, share statistics, a divisor of their number; all by default.

    Raises:
        LtbenchError: for a kind of batch norm that computes more than the usual.
    """
    together = group.size if together is None else together
    if together == 1:
        return
    for module in (norm for norm in batch_norms(network) if not _sees_parameters(norm)):
        if type(module) not in (*_PLAIN, BatchNormAct2d):
            raise LtbenchError(f"{type(module).__name__} cannot be synchronised", where="--batch-norm-images")
        vars(module)["together"] = together
        module.forward = partial(_over_neighbours, module, group)  # type: ignore[method-assign]


def synchronised(network: nn.Module) -> int:
    """How many processes share statistics: 1 unless ``synchronise`` has been at it."""
    return next((vars(norm)["together"] for norm in batch_norms(network) if _is_synchronised(norm)), 1)


def _is_synchronised(norm: _BatchNorm) -> bool:
    return "together" in vars(norm)


def _sees_parameters(norm: _BatchNorm) -> bool:
    return "sees_parameters" in vars(norm)


def images_together(network: nn.Module, batch_size: int, group: Group, accumulate: int) -> int | None:
    """How many images of a full batch share statistics, at least; None without batch norm."""
    if next(batch_norms(network), None) is None:
        return None
    return _images_together(synchronised(network), batch_size, group, accumulate)


def check_has_batch_norm(network: nn.Module) -> None:
    """Refuse a network that a number of images would mean nothing to."""
    if next(batch_norms(network), None) is None:
        raise LtbenchError("the network has no batch norm", where="--batch-norm-images", hint="leave the option out")


def processes_together(images: int, batch_size: int, group: Group, accumulate: int) -> int:
    """How many processes must share statistics for them to be of a number of images.

    Args:
        images: of a full batch, in each of its passes.
        batch_size: global.
        group: the processes.
        accumulate: parts of a process's share of a batch.

    Raises:
        LtbenchError: if no number of processes will do.
    """
    numbers = [number for number in range(1, group.size + 1) if not group.size % number]
    found = {_images_together(number, batch_size, group, accumulate): number for number in numbers}
    if images not in found:
        parts = range(1, batch_size // 2 + 1)
        fitting = (
            f"one process and --accumulate {k}" for k in parts if _images_together(1, batch_size, ALONE, k) == images
        )
        raise LtbenchError(
            f"a batch of {batch_size} in {group.size} x {accumulate} parts (processes x --accumulate) can have batch "
            f"norm over {' or '.join(map(str, found))} images, not {images}",
            where="--batch-norm-images",
            hint=f"it takes other parts: {next(fitting, 'more processes, or another --batch-size')}",
        )
    return found[images]


def _images_together(together: int, batch_size: int, group: Group, accumulate: int) -> int:
    shares = [range(batch_size)[Group(rank, group.size).local_slice(batch_size, least=2)] for rank in range(group.size)]
    micro_batches = [
        [len(share[shard_slice(len(share), i, accumulate)]) for i in range(accumulate)] for share in shares
    ]
    return min(
        sum(own[i] for own in micro_batches[begin : begin + together])
        for begin in range(0, group.size, together)
        for i in range(accumulate)
    )


def _over_neighbours(module: _BatchNorm, group: Group, x: Tensor) -> Tensor:
    if not module.training:
        unchanged: Tensor = type(module).forward(module, x)
        return unchanged
    with torch.autocast(x.device.type, enabled=False):
        values = x.to(torch.promote_types(x.dtype, torch.float32))
        mean, variance, count = _statistics(
            values, group, vars(module)["together"], counts="without_images" not in vars(module)
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


def _statistics(values: Tensor, group: Group, together: int, *, counts: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and biased variance (C,) over the neighbours whose values count, from those of each: Chan et al. (1979).

    Where none of them count, over all: what comes of it is thrown away, but must be finite.
    """
    channels = values.shape[1]
    variance, mean = torch.var_mean(values, (0, *range(2, values.ndim)), correction=0)
    count = values.new_tensor([values.numel() / channels if counts else 0])
    rows = group.gather_rows(torch.cat([mean, variance, count]))
    begin = group.rank // together * together
    means, variances, numbers = torch.split(rows[begin : begin + together], [channels, channels, 1], 1)
    counted = numbers.sum()
    numbers = torch.where(counted > 0, numbers, 1)
    shares = numbers / numbers.sum()
    mean = (shares * means).sum(0)
    return mean, (shares * (variances + (means - mean).square())).sum(0), counted


def average_statistics(network: nn.Module, group: Group) -> None:
    """Give all processes the mean of their running statistics.

    A running mean is linear in what enters it, so that it does not matter how often this is done, as long as it is
    done before the statistics are used or saved.
    """
    training = [norm for norm in batch_norms(network) if norm.training]
    found = [statistic for norm in training for statistic in (norm.running_mean, norm.running_var)]
    statistics = [statistic for statistic in found if statistic is not None]
    if group.size > 1 and statistics:
        group.add(statistics)
        torch._foreach_div_(statistics, group.size)
