"""The gradient of a batch's mean loss: in one backward pass, or in several of micro-batches and processes."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from ltbench.errors import TrainingFailedError
from ltbench.method import Batch, Loss, Method, Progress
from ltbench.training.distributed.batch_norm import dummy_forward, sync_group_size
from ltbench.training.distributed.sharding import is_sharded, local_shard
from ltbench.training.micro_batches import dummy_batch, micro_batches
from ltbench.training.options import TrainOptions

LossPart = Callable[[Loss], Tensor]
"""Takes from a loss what is differentiated, a sum over the batch."""


def whole(loss: Loss) -> Tensor:
    """All of a loss."""
    return loss.total


class Gradient:
    """One forward and one backward pass, which leave the gradient of the mean loss in the parameters.

    Args:
        method: in training mode.
        optimiser: of the parameters that the stage trains.
        options: how training is carried out.
    """

    def __init__(self, method: Method, optimiser: torch.optim.Optimizer, options: TrainOptions) -> None:
        self.method, self.optimiser, self.options = method, optimiser, options
        self.forward: Callable[[Batch, Progress], Loss] = method
        """The method, or what torch.compile has made of it."""

    def __call__(
        self, batch: Batch, progress: Progress, size: int, part: LossPart = whole
    ) -> tuple[Tensor, Tensor | float]:
        """Compute the gradient.

        Args:
            batch: prepared; this process's images.
            progress: where training is.
            size: images of the batch in all processes together.
            part: what is differentiated.

        Returns:
            The batch's loss as a sum, and the weight to divide it by.
        """
        loss = self._loss(batch, progress)
        self.optimiser.zero_grad(set_to_none=True)
        (part(loss) / loss.weight).backward()  # type: ignore[no-untyped-call]
        return loss.total.detach(), loss.weight

    def _loss(self, batch: Batch, progress: Progress) -> Loss:
        bf16 = self.options.precision == "bf16"
        with torch.autocast(batch.labels.device.type, torch.bfloat16, enabled=bf16):
            loss = self.forward(batch, progress)
        if not isinstance(loss, Loss):
            raise TrainingFailedError(f"forward must return a Loss, as batch.loss does, not a {type(loss).__name__}")
        return loss


class SummedGradient(Gradient):
    """The gradient of a batch that is divided into micro-batches and over processes.

    Every part adds the gradient of its sum of losses; the whole is divided by the weight of the whole batch.
    """

    def __init__(self, method: Method, optimiser: torch.optim.Optimizer, options: TrainOptions) -> None:
        super().__init__(method, optimiser, options)
        communicates = options.shard or method.couples_batch or sync_group_size(method) > 1
        self.collective_forward = options.group.size > 1 and communicates
        """Whether a forward pass exchanges tensors, so that every process must make one."""

    def __call__(
        self, batch: Batch, progress: Progress, size: int, part: LossPart = whole
    ) -> tuple[Tensor, Tensor | float]:
        """Compute the gradient; see ``Gradient``. The loss and the weight are those of all processes together."""
        group = self.options.group
        # As many in every process, since a forward pass may be collective.
        count = min(self.options.accumulate, max(1, size // (2 * group.size)))
        self.optimiser.zero_grad(set_to_none=True)
        sums = torch.zeros(2, dtype=torch.float64, device=batch.labels.device)
        for micro_batch in micro_batches(batch, count):
            loss = self._loss(micro_batch, progress)
            part(loss).backward()  # type: ignore[no-untyped-call]
            sums[0] += loss.total.detach()
            sums[1] += loss.weight
        if self.collective_forward and not len(batch.labels):
            self._pass_dummy_batch(batch, progress, part)
        gradients = self._gradients(some_process_is_empty=size < 2 * group.size)
        group.all_reduce([sums, *(gradient for gradient in gradients if not is_sharded(gradient))])
        shards = [local_shard(gradient) for gradient in gradients]
        torch._foreach_div_(shards, sums[1].to(shards[0].dtype))
        return sums[0], sums[1]

    def _pass_dummy_batch(self, batch: Batch, progress: Progress, part: LossPart) -> None:
        """Take part in the other processes' collectives with a forward and a backward pass that change nothing."""
        group = self.options.group
        progress = replace(progress, gather=lambda rows: group.gather(rows[:0]), first=0)
        with dummy_forward(self.method):
            (0 * part(self._loss(dummy_batch(batch), progress))).backward()  # type: ignore[no-untyped-call]

    def _gradients(self, *, some_process_is_empty: bool) -> list[Tensor]:
        """The gradients of all parameters that the loss reaches, zero in a process without images."""
        weights = [weight for group in self.optimiser.param_groups for weight in group["params"]]
        if some_process_is_empty:
            reached = self.options.group.broadcast_object(lambda: [weight.grad is not None for weight in weights])
            for weight, has_gradient in zip(weights, reached, strict=True):
                if has_gradient and weight.grad is None:
                    weight.grad = torch.zeros_like(weight)
        return [weight.grad for weight in weights if weight.grad is not None]
