"""Training steps that are recorded as CUDA graphs and replayed.

A small network keeps a GPU waiting for its launches: hundreds of kernels a step, each shorter than it takes to start
it. A step is recorded once for every shape of batch and replayed as one launch. A CPU gains nothing from that.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from ltbench.errors import first_line
from ltbench.method import Batch, Progress

Work = Callable[[], None]
Recorder = Callable[[Work], Work]
"""Takes work on tensors that stay where they are, and gives what does the same work again."""

WARM_UP = 3
"""Steps of each shape before it is recorded, in which libraries choose algorithms and everything lazy is made."""


def cuda_graph(work: Work) -> Work:
    """Record work on the GPU, without doing it, as a CUDA graph."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # other threads may be decoding there
        work()
    return graph.replay


RECORDERS: dict[str, Recorder] = {"cuda": cuda_graph}
"""What records the steps on a device, by its type."""


class InnerStep(Protocol):
    """A step on this process's images of a batch of ``size``."""

    def __call__(self, batch: Batch, progress: Progress, size: int) -> None:
        """Forward, backward, update."""


@dataclass
class Recording:
    """A recorded step, and the batch that it reads its images and labels from."""

    batch: Batch
    replay: Work


class RecordedStep:
    """Records another step for each shape of batch that comes often enough, and replays it.

    Args:
        step: to record; it changes nothing but tensors.
        optimiser: of the step; its learning rates are tensors.
        recorder: of the device.
        notes: where it is noted if recording fails; steps are then taken as they are.
    """

    def __init__(self, step: InnerStep, optimiser: torch.optim.Optimizer, recorder: Recorder, notes: list[str]) -> None:
        self.step, self.optimiser, self.notes = step, optimiser, notes
        self.recorder: Recorder | None = recorder
        self.counts: Counter[Any] = Counter()
        """Steps taken, by the shape of their batches."""
        self.recordings: dict[Any, Recording] = {}

    def __call__(self, batch: Batch, progress: Progress, size: int) -> None:
        """Replay the step if batches of this shape are recorded, else take it."""
        shape = batch_shape(batch)
        if shape not in self.recordings and self.recorder is not None and self.counts[shape] >= WARM_UP:
            self._record(shape, self.recorder, batch, progress, size)
        if shape in self.recordings:
            _overwrite(self.recordings[shape].batch, batch)
            self.recordings[shape].replay()
        else:
            self.step(batch, progress, size)
        self.counts[shape] += 1

    def _record(self, shape: Any, recorder: Recorder, batch: Batch, progress: Progress, size: int) -> None:
        clone = _cloned(batch)
        self.optimiser.zero_grad(set_to_none=True)  # so that gradients become part of the recorded work
        try:
            self.recordings[shape] = Recording(clone, recorder(lambda: self.step(clone, progress, size)))
        except RuntimeError as error:
            self.notes.append(f"not recorded as a CUDA graph: {first_line(error)}")
            self.recorder = None
            self.recordings.clear()
            self.optimiser.zero_grad(set_to_none=True)


def batch_shape(batch: Batch) -> Any:
    """What two batches must have in common for a recorded or compiled step to serve both."""
    return tuple((name, tensor.shape, tensor.dtype) for name, tensor in _tensors(batch).items())


def _tensors(batch: Batch) -> dict[str, Tensor]:
    """All tensors of a batch and its streams, by a name."""
    found: dict[str, Tensor] = {}
    for one in fields(batch):
        value = getattr(batch, one.name)
        if isinstance(value, Tensor):
            found[one.name] = value
    found |= {f"views.{i}": view for i, view in enumerate(batch.views)}
    for name, stream in batch.streams.items():
        found |= {f"streams.{name}.{inner}": tensor for inner, tensor in _tensors(stream).items()}
    return found


def _cloned(batch: Batch) -> Batch:
    """A batch of its own tensors, no two of which share memory, as pasted labels and those of a stream may."""
    values = {one.name: getattr(batch, one.name) for one in fields(batch)}
    clones = {name: value.clone() for name, value in values.items() if isinstance(value, Tensor)}
    views = tuple(view.clone() for view in batch.views)
    streams = {name: _cloned(stream) for name, stream in batch.streams.items()}
    return replace(batch, views=views, streams=streams, **clones)


def _overwrite(recorded: Batch, batch: Batch) -> None:
    new = _tensors(batch)
    for name, tensor in _tensors(recorded).items():
        tensor.copy_(new[name], non_blocking=True)
