"""The training loop: every method, every stage, one path."""

import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch

from ltbench import rng
from ltbench.config import Recipe
from ltbench.data.loading.base import Loader
from ltbench.errors import LtbenchWarning, TrainingFailedError
from ltbench.method import Batch, Method, Progress, Stage
from ltbench.progress import ProgressUpdate
from ltbench.results.records import BatchSplit
from ltbench.training.activation_checkpointing import activation_checkpointing
from ltbench.training.batches import TrainingBatches
from ltbench.training.checkpoint import TrainingState
from ltbench.training.cuda_graph import RECORDERS
from ltbench.training.distributed.batch_norm import average_running_statistics, images_per_norm
from ltbench.training.distributed.sharding import sharded
from ltbench.training.finite import not_finite
from ltbench.training.history import EpochRecord, History
from ltbench.training.optimiser import StageSetup, add_missing_momentum, set_lr
from ltbench.training.options import TrainOptions
from ltbench.training.schedule import PlannedStage, plan, stages_of
from ltbench.training.signals import stop_requests
from ltbench.training.step import WORTH_COMPILING, Step
from ltbench.training.validation_curve import settled


def fit(
    method: Method,
    train: Loader,
    recipe: Recipe,
    *,
    seed: int,
    options: TrainOptions | None = None,
    validation: Loader | None = None,
    unlabelled: Loader | None = None,
) -> History:
    """Train a method through its stages, resuming from the checkpoint if there is one.

    A run that is killed and started again ends with the same weights, bit for bit, on one machine's CPU with
    the same number of threads. Ctrl-C and SIGTERM are obeyed between two steps, after saving; a second one at once.

    Args:
        method: on the device already; trained in place.
        train: the training images.
        recipe: lengths, rates, augmentation.
        seed: of all draws.
        options: how training is carried out.
        validation: held-out images, for a parameter that a method chooses after training.
        unlabelled: test images without labels, for stages that adapt to them.

    Returns:
        What training did; it may have ended early where ``options`` have a validation curve.

    Raises:
        TrainingFailedError: if the loss or, at the end, a weight is not finite.
        LtbenchError: if the stages do not fit the recipe, or a checkpoint cannot be written.
        KeyboardInterrupt: passed on, once the state is saved.
    """
    options = options or TrainOptions()
    with rng.restored(), stop_requests() as stop_requested:
        batches = TrainingBatches(method, train, unlabelled, recipe, seed, options.group)
        trainer = _Trainer(method, batches, recipe, seed, options, stop_requested)
        trainer.run()
    if validation is not None and not trainer.state.history.ended_early:
        method.eval()
        bf16 = options.precision == "bf16"
        with torch.no_grad(), torch.autocast(validation.device.type, torch.bfloat16, enabled=bf16):
            trainer.state.history.selected = dict(method.select(validation))
            options.group.broadcast(list(method.buffers()))
    trainer.state.save(options.checkpoint, options.group)
    return trainer.state.history


class _Trainer:
    """The loop over stages, epochs and steps."""

    def __init__(
        self,
        method: Method,
        batches: TrainingBatches,
        recipe: Recipe,
        seed: int,
        options: TrainOptions,
        stop_requested: Callable[[], bool],
    ) -> None:
        self.method, self.batches, self.recipe, self.seed = method, batches, recipe, seed
        self.stop_requested = stop_requested
        self.stages = plan(stages_of(method, recipe), recipe)
        if options.compiled is None:
            options = replace(options, compiled=self._worth_compiling())
        self.options, self.group = options, options.group
        device = batches.train.device
        eager_only = options.checkpoint_activations or options.shard or recipe.optimizer != "sgd"
        self.recorder = None if eager_only else RECORDERS.get(device.type)
        self.setup = StageSetup(method, recipe, device, recorded=self.recorder is not None)
        self.state = TrainingState(method, torch.zeros(2, dtype=torch.float64, device=device))
        self.finite_steps = torch.zeros((), dtype=torch.int64, device=device)
        """Steps of the epoch whose sums are finite."""

    def run(self) -> None:
        """Train through all stages."""
        resumed = self.state.resume(self.options.checkpoint, len(self.stages), self._resume_stage)
        self._record_division()
        if self.options.validation_curve is not None:
            self.state.history.measured_by(self.options.validation_curve.metric)
        for index in range(self.state.stage, len(self.stages)):
            if not resumed:
                self._begin_stage(index)
            resumed = False
            self._run_stage(self.stages[index])
            if self.state.history.ended_early:
                return
        self.state.optimiser = None
        self.state.stage = len(self.stages)
        broken = not_finite(self.method)  # a last step leaves no later loss to tell
        if any(self.group.any(broken is not None)):
            raise TrainingFailedError(f"after training {broken or 'weights of another process are not finite'}")
        if any(self.group.any(self.stop_requested())):  # since the last step
            self._save()
            raise KeyboardInterrupt

    def _worth_compiling(self) -> bool:
        """Whether compiling takes less time than it saves; on a CPU it saves next to nothing."""
        train, epochs = self.batches.train, sum(planned.epochs for planned in self.stages)
        steps = epochs * len(train.labels) / self.recipe.batch_size
        return train.device.type == "cuda" and steps >= WORTH_COMPILING

    def _record_division(self) -> None:
        """Note how batches are divided, and warn where batch norm sees less than a batch."""
        accumulate, batch_size = self.options.accumulate, self.recipe.batch_size
        images = images_per_norm(self.method, batch_size, self.group, accumulate)
        division = BatchSplit(processes=self.group.size, accumulate=accumulate, batch_norm_images=images)
        divisions = self.state.history.divisions
        if self.state.stage < len(self.stages) and divisions[-1:] != [division]:
            divisions.append(division)
        if images is not None and images < batch_size:
            message = f"batch norm sees {images} of the {batch_size} images of a batch at a time, which "
            warnings.warn(message + "changes results; the result records it", LtbenchWarning, stacklevel=4)

    def _begin_stage(self, index: int) -> None:
        state, stage = self.state, self.stages[index].stage
        state.stage, state.epoch, state.step = index, 0, 0
        self.setup.freeze(stage)
        with rng.global_stream(self.seed, "begin", stage.name):
            self.method.begin(stage, self.batches.source(stage))
        self.setup.freeze(stage)  # begin may have put the network in evaluation mode
        self.group.broadcast([*self.method.parameters(), *self.method.buffers()])
        state.optimiser = self.setup.optimiser(stage, state.optimiser)

    def _resume_stage(self, index: int) -> torch.optim.Optimizer:
        self.setup.freeze(self.stages[index].stage)
        return self.setup.optimiser(self.stages[index].stage)

    def _run_stage(self, planned: PlannedStage) -> None:
        state, optimiser = self.state, self.state.optimiser
        assert optimiser is not None
        if self.recorder is not None:
            add_missing_momentum(optimiser)
        labelled = planned.stage.source == "train"
        take_step = Step(self.method, optimiser, state.sums, self.options, labelled=labelled, recorder=self.recorder)
        with ExitStack() as stack:
            if self.options.shard:
                stack.enter_context(sharded(self.method, optimiser, self.group))
            if self.options.checkpoint_activations:
                stack.enter_context(activation_checkpointing(self.method.network))
            for epoch in range(state.epoch, planned.epochs):
                state.epoch = epoch
                if self._ends_early():
                    state.history.ended_early = True
                    return
                set_lr(optimiser, planned.lrs[epoch])
                self._run_epoch(planned, take_step)
                state.step = 0
                state.epoch = epoch + 1
                average_running_statistics(self.method, self.group)
                self._measure(planned.stage)
                (save_due,) = self.group.any(self.options.checkpoint.due())
                if save_due:
                    self._save()
            if planned is self.stages[-1]:
                optimiser.state.clear()  # no later stage carries it over, so that it need not be gathered

    def _run_epoch(self, planned: PlannedStage, take_step: Step) -> None:
        stage, state, history = planned.stage, self.state, self.state.history
        began, seconds, images = time.monotonic(), history.seconds, history.images
        batches = self.batches.epoch(stage, (state.stage, state.epoch))
        self.finite_steps.fill_(state.step)
        for step in range(state.step, len(batches)):
            state.step = step
            if batches.sizes[step] < 2 * self.group.size:  # one without images adds nothing to its statistics
                average_running_statistics(self.method, self.group)
            self._train_step(take_step, batches.batch(step), self._progress(stage, len(batches)), batches.sizes[step])
            state.step = step + 1
            message = f"{stage.name}, epoch {state.epoch + 1}/{planned.epochs}"
            loss = history.curve[-1].loss if history.curve else None
            self.options.listener(
                ProgressUpdate(message, self._fraction_done(len(batches)), history=history, loss=loss)
            )
            stopping, save_due = self.group.any(self.stop_requested(), self.options.checkpoint.due())
            if stopping or save_due:
                history.seconds += time.monotonic() - began
                began = time.monotonic()
                self._mean_loss()
                average_running_statistics(self.method, self.group)
                self._save()
            if stopping:
                raise KeyboardInterrupt
        loss = self._mean_loss()
        history.seconds += time.monotonic() - began
        seconds, images = history.seconds - seconds, history.images - images
        rate = images / seconds if seconds and images else None
        history.curve.append(EpochRecord(stage.name, state.epoch, planned.lrs[state.epoch], loss, rate))
        state.sums.zero_()

    def _measure(self, stage: Stage) -> None:
        """Add a point to the validation curve, once figures have settled."""
        if self.options.validation_curve is None or len(self.state.history.curve) < settled(self.stages):
            return
        value = self.options.validation_curve.measure()
        self.state.history.curve[-1].validation = self.group.broadcast_object(lambda: value)
        self.setup.freeze(stage)  # to measure takes evaluation mode

    def _ends_early(self) -> bool:
        """Whether the validation curve ends training before the next epoch."""
        curve, values = self.options.validation_curve, self.state.history.validation_curve
        if curve is None or not values:
            return False
        return curve.ends(values, settled(self.stages), sum(planned.epochs for planned in self.stages))

    def _train_step(self, take_step: Step, batch: Batch, progress: Progress, size: int) -> None:
        batch = self.batches.prepare(batch, progress, size)
        # Dropout and stochastic depth know only the global generator; each process has draws of its own.
        rank = (self.group.rank,) if self.group.rank else ()
        torch.manual_seed(rng.key(self.seed, "step", self.state.stage, self.state.epoch, self.state.step, *rank))
        take_step(batch, progress, size)
        self.finite_steps += self.state.sums.isfinite().all()
        with torch.no_grad():
            self.method.after_step(progress)
        self.state.history.images += size
        self.state.history.steps[progress.stage.name] = take_step.execution

    def _mean_loss(self) -> float:
        """The epoch's mean loss so far; the one place where the host waits for the device.

        Raises:
            TrainingFailedError: if it is not finite; says from which step on.
        """
        state = self.state
        mean = (state.sums[0] / state.sums[1]).item()
        if not torch.tensor(mean).isfinite():
            name, finite = self.stages[state.stage].stage.name, int(self.finite_steps)
            since = f", from step {finite + 1} on" if finite < state.step else ""
            raise TrainingFailedError(f"the loss is {mean} in epoch {state.epoch + 1} of stage '{name}'{since}")
        return mean

    def _progress(self, stage: Stage, steps: int) -> Progress:
        state = self.state
        done = 0.0 if stage.is_head_first else (state.epoch + state.step / steps) / self.stages[state.stage].epochs
        of_stage = torch.tensor(done)
        gather: dict[str, Any] = {"gather": self.group.gather} if self.group.size > 1 else {}
        return Progress(self.seed, stage, state.epoch, state.step, of_stage, self._fraction_done(steps), **gather)

    def _fraction_done(self, steps: int) -> float:
        """The fraction of all training that is done.

        Args:
            steps: of the epoch.
        """
        total = sum(planned.epochs for planned in self.stages)
        past = sum(planned.epochs for planned in self.stages[: self.state.stage])
        return (past + self.state.epoch + self.state.step / steps) / total

    def _save(self) -> None:
        self.state.save(self.options.checkpoint, self.group)
