"""One step of training - forward, backward, update - carried out as fast as device and method allow.

A small network keeps a GPU waiting for its launches: hundreds of kernels a step, each shorter than it takes to start
it. There a step is recorded once for every shape of batch and replayed as one launch. A CPU gains nothing from that:
its steps run as they are written.

A step may be taken in parts: the shares of several processes, and of each share one piece after the other. Every part
adds the gradient of its sum of losses, and the whole is divided by the weight of the whole batch.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from ltbench.errors import TrainingFailedError
from ltbench.method import Batch, Loss, Method, Progress
from ltbench.training.distributed.batch_norm import synchronised, without_images
from ltbench.training.distributed.process_group import ALONE, Group, shard_slice
from ltbench.training.distributed.sharding import is_sharded, local_shard

Work = Callable[[], None]
Recorder = Callable[[Work], Work]
"""Takes work on tensors that stay where they are, and gives what does the same work again."""

WARM_UP = 3
"""Steps of each shape before it is recorded, in which libraries choose algorithms and everything lazy is made."""
WORTH_COMPILING = 5000
"""Steps of a run on a GPU from which compiling, a minute or so, is taken to pay. Not measured yet."""


def cuda_graph(work: Work) -> Work:
    """Record work on the GPU, without doing it, as a CUDA graph."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # other threads may be decoding there
        work()
    return graph.replay


RECORDERS: dict[str, Recorder] = {"cuda": cuda_graph}
"""By the kind of device."""


@dataclass
class _Recorded:
    batch: Batch
    """Where the recorded work finds its images and labels."""
    replay: Work


class Step:
    """The steps of one stage.

    What a method or a machine cannot have is left out, and ``notes`` says why.

    Args:
        method: in training mode.
        optimiser: of what the stage trains; its learning rates are tensors if steps are recorded.
        sums: (2,) float64; every step adds its loss and the loss's weight.
        precision: fp32, or bf16 for autocast: weights, batch-norm statistics and the loss stay float32.
        compiled: whether to compile the forward and backward pass.
        recorder: of the device; None for none.
        group: the processes that take the step together, each on its share of the batch.
        accumulate: pieces of this process's share, at most; each has two images or more.
        recomputes: whether the network computes its activations again in the backward pass; such steps are eager.
        shard: whether the network's parameters are divided over the processes; likewise.
    """

    def __init__(
        self,
        method: Method,
        optimiser: torch.optim.Optimizer,
        sums: Tensor,
        *,
        precision: str = "fp32",
        compiled: bool = False,
        recorder: Recorder | None = None,
        group: Group = ALONE,
        accumulate: int = 1,
        recomputes: bool = False,
        shard: bool = False,
    ) -> None:
        self.method, self.optimiser, self.sums, self.precision = method, optimiser, sums, precision
        self.shard = shard
        self.group, self.accumulate = group, accumulate
        self.count = 1  # of pieces, in every process alike, since a forward pass may speak to other processes
        self.left_out = False  # whether some process has no images
        self.needs_all = group.size > 1 and (shard or method.couples_batch or synchronised(method) > 1)  # in every pass
        self.notes: list[str] = []
        self.notes += ["activations recomputed"] if recomputes else []
        self.notes += ["parameters divided"] if shard else []
        if recomputes or shard:
            compiled, recorder = False, None
        if group.size > 1 and recorder:
            self.notes.append("not recorded as a CUDA graph: several processes")
            recorder = None
        if not method.compiles and (compiled or recorder):
            self.notes.append("the method's step depends on its data")
            compiled, recorder = False, None
        if group.size > 1 and compiled and (method.couples_batch or synchronised(method) > 1):
            self.notes.append("not compiled: the forward pass takes in other processes' images")
            compiled = False
        self.recorder = recorder
        self.forward: Callable[[Batch, Progress], Loss] = method
        self.compiled = compiled
        if compiled:
            self.forward = torch.compile(method, dynamic=False)
        self.taken: Counter[Any] = Counter()
        self.recorded: dict[Any, _Recorded] = {}
        self.fraction = torch.zeros((), device=sums.device)

    @property
    def how(self) -> str:
        """How steps are carried out, and why not faster."""
        ways = [*(["compiled"] if self.compiled else []), *(["CUDA graph"] if self.recorded else [])]
        return "; ".join([", ".join(ways) or "eager", *self.notes])

    def __call__(self, batch: Batch, progress: Progress, size: int | None = None) -> None:
        """Take a step.

        Args:
            batch: prepared; this process's share of it.
            progress: where training is.
            size: images of the whole batch; None: of this one.
        """
        size = len(batch.labels) if size is None else size
        self.count = min(self.accumulate, max(1, size // (2 * self.group.size)))
        self.left_out = size < 2 * self.group.size
        first = self.group.local_slice(size, least=2).start
        progress = replace(progress, stage_fraction=self.fraction.fill_(progress.stage_fraction), first=first)
        shape = _shape(batch)
        if shape not in self.recorded and self.recorder is not None and self.taken[shape] >= WARM_UP:
            self._record(shape, batch, progress)
        if shape in self.recorded:
            _overwrite(self.recorded[shape].batch, batch)
            self.recorded[shape].replay()
        elif self.compiled and not self.taken[shape]:
            self._try_compiled(batch, progress)
        else:
            self._take(batch, progress)
        self.taken[shape] += 1

    def _take(self, batch: Batch, progress: Progress) -> None:
        total: Tensor
        weight: Tensor | float
        if self.group.size * self.accumulate > 1:
            total, weight = self._backward_in_parts(batch, progress)
        else:
            loss = self._loss(batch, progress)
            self.optimiser.zero_grad(set_to_none=True)
            loss.mean.backward()  # type: ignore[no-untyped-call]
            total, weight = loss.total.detach(), loss.weight
        self.optimiser.step()
        self.sums[0] += total
        self.sums[1] += weight

    def _loss(self, batch: Batch, progress: Progress) -> Loss:
        with torch.autocast(self.sums.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            loss = self.forward(batch, progress)
        if not isinstance(loss, Loss):
            raise TrainingFailedError(f"forward must return a Loss, as batch.loss does, not a {type(loss).__name__}")
        return loss

    def _backward_in_parts(self, batch: Batch, progress: Progress) -> tuple[Tensor, Tensor]:
        """Leave the gradient of the whole batch's mean loss; gives that loss as a sum and its weight."""
        self.optimiser.zero_grad(set_to_none=True)
        sums = torch.zeros_like(self.sums)
        for piece in micro_batches(batch, self.count):
            loss = self._loss(piece, progress)
            loss.total.backward()  # type: ignore[no-untyped-call]
            sums[0] += loss.total.detach()
            sums[1] += loss.weight
        if self.needs_all and not len(batch.labels):
            self._take_part(batch, progress)
        gradients = self._gradients()
        self.group.add([sums, *(gradient for gradient in gradients if not is_sharded(gradient))])
        own = [local_shard(gradient) for gradient in gradients]
        torch._foreach_div_(own, sums[1].to(own[0].dtype))
        return sums[0], sums[1]

    def _take_part(self, batch: Batch, progress: Progress) -> None:
        """Tell the other processes, in a forward and a backward pass, what they wait for: there are no images here."""
        progress = replace(progress, gather=lambda own: self.group.gather(own[:0]), first=0)
        with without_images(self.method):
            (0 * self._loss(dummy_batch(batch), progress).total).backward()  # type: ignore[no-untyped-call]

    def _gradients(self) -> list[Tensor]:
        """Those of all parameters that the loss reaches, zero in a process whose share is empty."""
        weights = [weight for group in self.optimiser.param_groups for weight in group["params"]]
        if self.left_out:
            reached = self.group.broadcast_object(lambda: [weight.grad is not None for weight in weights])
            for weight, has in zip(weights, reached, strict=True):
                if has and weight.grad is None:
                    weight.grad = torch.zeros_like(weight)
        return [weight.grad for weight in weights if weight.grad is not None]

    def _try_compiled(self, batch: Batch, progress: Progress) -> None:
        """The first step of a shape, which is when it is compiled; if it cannot be, the same step without."""
        buffers = [(buffer, buffer.clone()) for buffer in self.method.buffers()]
        try:
            self._take(batch, progress)
        except torch._dynamo.exc.TorchDynamoException as error:
            self._note("not compiled", error)
            self.compiled, self.forward = False, self.method
            for buffer, before in buffers:  # the forward pass may have run before the backward pass failed
                buffer.copy_(before)
            self._take(batch, progress)

    def _record(self, shape: Any, batch: Batch, progress: Progress) -> None:
        assert self.recorder is not None
        own = _copied(batch)
        self.optimiser.zero_grad(set_to_none=True)  # so that gradients become part of the recorded work
        try:
            self.recorded[shape] = _Recorded(own, self.recorder(lambda: self._take(own, progress)))
        except RuntimeError as error:
            self._note("not recorded as a CUDA graph", error)
            self.recorder = None
            self.recorded.clear()
            self.optimiser.zero_grad(set_to_none=True)

    def _note(self, what: str, error: Exception) -> None:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        self.notes.append(f"{what}: {lines[0]}")


def part(batch: Batch, which: slice) -> Batch:
    """Some of the images of a batch, with all that belongs to them."""
    weight = batch.weight if batch.weight is None or batch.weight.ndim == 0 else batch.weight[which]
    return replace(
        batch,
        views=tuple(view[which] for view in batch.views),
        indices=batch.indices[which],
        labels=batch.labels[which],
        mixed_labels=None if batch.mixed_labels is None else batch.mixed_labels[which],
        weight=weight,
        streams={name: part(stream, which) for name, stream in batch.streams.items()},
    )


def dummy_batch(batch: Batch) -> Batch:
    """Two images of nothing, of the first class, in place of an empty batch."""

    def made(tensor: Tensor) -> Tensor:
        return tensor.new_zeros(2, *tensor.shape[1:])

    return replace(
        batch,
        views=tuple(made(view) for view in batch.views),
        indices=made(batch.indices),
        labels=made(batch.labels),
        mixed_labels=None if batch.mixed_labels is None else made(batch.mixed_labels),
        weight=batch.weight if batch.weight is None or batch.weight.ndim == 0 else made(batch.weight),
        streams={name: dummy_batch(stream) for name, stream in batch.streams.items()},
    )


def micro_batches(batch: Batch, count: int) -> Iterator[Batch]:
    """A batch in pieces of equal size, up to one image; an empty batch has none."""
    size = len(batch.labels)
    for i in range(count if size else 0):
        yield part(batch, shard_slice(size, i, count))


def _tensors(batch: Batch) -> dict[str, Tensor]:
    """All tensors of a batch and its streams, by a name."""
    found: dict[str, Tensor] = {}
    for part in fields(batch):
        value = getattr(batch, part.name)
        if isinstance(value, Tensor):
            found[part.name] = value
    found |= {f"views.{i}": view for i, view in enumerate(batch.views)}
    for name, stream in batch.streams.items():
        found |= {f"streams.{name}.{inner}": tensor for inner, tensor in _tensors(stream).items()}
    return found


def _shape(batch: Batch) -> Any:
    """What must be equal for recorded work to serve."""
    return tuple((name, tensor.shape, tensor.dtype) for name, tensor in _tensors(batch).items())


def _copied(batch: Batch) -> Batch:
    """A batch of its own tensors, no two of which share memory, as pasted labels and those of a stream may."""
    tensors = {part.name: getattr(batch, part.name) for part in fields(batch)}
    cloned = {name: value.clone() for name, value in tensors.items() if isinstance(value, Tensor)}
    views = tuple(view.clone() for view in batch.views)
    return replace(batch, views=views, streams={name: _copied(part) for name, part in batch.streams.items()}, **cloned)


def _overwrite(own: Batch, batch: Batch) -> None:
    new = _tensors(batch)
    for name, tensor in _tensors(own).items():
        tensor.copy_(new[name], non_blocking=True)
