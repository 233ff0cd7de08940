"""One step of training - forward, backward, update - executed as fast as device and method allow.

Three kinds: eager, compiled by torch.compile, and recorded as a CUDA graph (see ``cuda_graph``), which records an eager
or a compiled one. A CPU gains next to nothing from the latter two: its steps are eager.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ltbench.errors import first_line
from ltbench.method import Batch, Method, Progress
from ltbench.training.cuda_graph import InnerStep, RecordedStep, Recorder, batch_shape
from ltbench.training.distributed.batch_norm import sync_group_size
from ltbench.training.gradient import Gradient, SummedGradient
from ltbench.training.options import TrainOptions
from ltbench.training.sharpness import SharpnessAwareGradient, sharpness_aware

WORTH_COMPILING = 5000
"""Steps of a run on a GPU from which compiling, a minute or so, is taken to pay. Not measured yet."""


class EagerStep:
    """Forward pass, backward pass and update, as they are written.

    Args:
        gradient: forward and backward pass, or several.
        optimiser: of what the stage trains.
        sums: (2,) float64; every step adds its loss and the loss's weight.
    """

    def __init__(
        self, gradient: Gradient | SharpnessAwareGradient, optimiser: torch.optim.Optimizer, sums: Tensor
    ) -> None:
        self.gradient, self.optimiser, self.sums = gradient, optimiser, sums

    def __call__(self, batch: Batch, progress: Progress, size: int) -> None:
        """Take the step."""
        total, weight = self.gradient(batch, progress, size)
        self.optimiser.step()
        self.sums[0] += total
        self.sums[1] += weight


class CompiledStep:
    """A step whose forward and backward pass are compiled for each shape of batch.

    Args:
        step: to compile.
        notes: where it is noted if compiling fails; steps are eager from then on.
    """

    def __init__(self, step: EagerStep, notes: list[str]) -> None:
        self.step, self.notes = step, notes
        self.shapes: set[Any] = set()
        self.compiled = True
        step.gradient.forward = torch.compile(step.gradient.method, dynamic=False)

    def __call__(self, batch: Batch, progress: Progress, size: int) -> None:
        """Take the step."""
        shape = batch_shape(batch)
        if self.compiled and shape not in self.shapes:
            self._compile(batch, progress, size)
        else:
            self.step(batch, progress, size)
        self.shapes.add(shape)

    def _compile(self, batch: Batch, progress: Progress, size: int) -> None:
        """The first step of a shape, which is when it is compiled; if it cannot be, the same step eagerly."""
        method = self.step.gradient.method
        buffers = [(buffer, buffer.clone()) for buffer in method.buffers()]
        try:
            self.step(batch, progress, size)
        except torch._dynamo.exc.TorchDynamoException as error:
            self.notes.append(f"not compiled: {first_line(error)}")
            self.compiled, self.step.gradient.forward = False, method
            for buffer, before in buffers:  # the forward pass may have run before the backward pass failed
                buffer.copy_(before)
            self.step(batch, progress, size)


class Step:
    """The training step of one stage, of the fastest kind that is asked for and possible.

    Args:
        method: in training mode.
        optimiser: of what the stage trains; its learning rates are tensors if steps are recorded.
        sums: (2,) float64; every step adds its loss and the loss's weight.
        options: how training is carried out.
        labelled: whether the images have labels; only then steps may be sharpness-aware.
        recorder: of the device; None: steps are not recorded.

    Raises:
        LtbenchError: if steps cannot be sharpness-aware as the settings say.
    """

    def __init__(
        self,
        method: Method,
        optimiser: torch.optim.Optimizer,
        sums: Tensor,
        options: TrainOptions | None = None,
        *,
        labelled: bool = True,
        recorder: Recorder | None = None,
    ) -> None:
        options = options or TrainOptions()
        self.group = options.group
        compiled, recorder, self._notes = _possible(method, options, recorder)
        summed = self.group.size * options.accumulate > 1
        gradient = (SummedGradient if summed else Gradient)(method, optimiser, options)
        eager = EagerStep(sharpness_aware(gradient) if labelled else gradient, optimiser, sums)
        self._compiled = CompiledStep(eager, self._notes) if compiled else None
        fastest: InnerStep = self._compiled or eager
        self.recorded = RecordedStep(fastest, optimiser, recorder, self._notes) if recorder else None
        self._step: InnerStep = self.recorded or fastest
        self._fraction = torch.zeros((), device=sums.device)  # in one place, where recorded steps find it

    @property
    def execution(self) -> str:
        """How steps are executed, and why not faster: "compiled, CUDA graph", "eager; activations recomputed"."""
        compiled = ["compiled"] if self._compiled and self._compiled.compiled else []
        graph = ["CUDA graph"] if self.recorded and self.recorded.recordings else []
        return "; ".join([", ".join([*compiled, *graph]) or "eager", *self._notes])

    def __call__(self, batch: Batch, progress: Progress, size: int | None = None) -> None:
        """Take a step.

        Args:
            batch: prepared; this process's images.
            progress: where training is.
            size: images of the batch in all processes together; None: of this one.
        """
        size = len(batch.labels) if size is None else size
        first = self.group.local_slice(size, least=2).start
        self._step(
            batch, replace(progress, stage_fraction=self._fraction.fill_(progress.stage_fraction), first=first), size
        )


def _possible(
    method: Method, options: TrainOptions, recorder: Recorder | None
) -> tuple[bool, Recorder | None, list[str]]:
    """Whether steps can be compiled, the recorder if they can be recorded, and why not."""
    compiled, several = bool(options.compiled), options.group.size > 1
    notes = ["activations recomputed"] if options.checkpoint_activations else []
    notes += ["parameters divided"] if options.shard else []
    if options.checkpoint_activations or options.shard:
        compiled, recorder = False, None
    if several and recorder:
        notes.append("not recorded as a CUDA graph: several processes")
        recorder = None
    if not method.compiles and (compiled or recorder):
        notes.append("the method's step depends on its data")
        compiled, recorder = False, None
    if several and compiled and (method.couples_batch or sync_group_size(method) > 1):
        notes.append("not compiled: the forward pass takes in other processes' images")
        compiled = False
    return compiled, recorder, notes
