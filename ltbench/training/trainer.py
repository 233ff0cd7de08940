"""The training loop: every method, every stage, one path."""

import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ltbench import rng
from ltbench.config import Recipe
from ltbench.data.loading.base import Loader
from ltbench.data.loading.epoch import Epoch
from ltbench.errors import LtbenchWarning, TrainingFailedError
from ltbench.method import Batch, Method, Progress, Stage
from ltbench.training.activation_checkpointing import recomputed
from ltbench.training.checkpoint import Checkpoint
from ltbench.training.distributed.batch_norm import average_statistics, images_together
from ltbench.training.distributed.process_group import ALONE, Group
from ltbench.training.distributed.sharding import gathered, sharded
from ltbench.training.finite import not_finite
from ltbench.training.history import Division, EpochRecord, History, Watch
from ltbench.training.schedule import PlannedStage, plan
from ltbench.training.signals import stop_requests
from ltbench.training.step import RECORDERS, WORTH_COMPILING, Step, part

_MISFITS = (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError)
"""What comes of a checkpoint that can be read and has another content."""


def fit(
    method: Method,
    train: Loader,
    recipe: Recipe,
    *,
    seed: int,
    checkpoint: Checkpoint,
    precision: str = "fp32",
    compiled: bool | None = None,
    validation: Loader | None = None,
    unlabelled: Loader | None = None,
    watch: Watch = lambda share, words, history: None,
    group: Group = ALONE,
    accumulate: int = 1,
    recompute: bool = False,
    shard: bool = False,
) -> History:
    """Train a method through its stages, going on from the checkpoint if there is one.

    A run that is killed and started again ends with the same weights, bit for bit, on one machine's CPU with
    the same number of threads. Ctrl-C and SIGTERM are obeyed between two steps, after saving; a second one at once.

    Args:
        method: on the device already; trained in place.
        train: the training images.
        recipe: lengths, rates, augmentation.
        seed: of all draws.
        checkpoint: where to save; it holds the trained weights at the end.
        precision: fp32, or bf16 for autocast.
        compiled: whether to compile the steps; None: on a GPU, if the run is long.
        validation: held-out images, for a parameter that a method chooses after training.
        unlabelled: test images without labels, for stages that adapt to them.
        watch: told of progress.
        group: the processes that train together.
        accumulate: pieces of a process's share of a batch whose gradients are added up.
        recompute: whether to compute activations again in the backward pass, for less memory.
        shard: whether the network's parameters are divided over the processes while it trains.

    Raises:
        TrainingFailedError: if the loss or, at the end, a weight is not finite.
        LtbenchError: if the stages do not fit the recipe, or a checkpoint cannot be written.
        KeyboardInterrupt: passed on, once the state is saved.
    """
    with torch.random.fork_rng(), stop_requests() as stop:
        trainer = _Trainer(
            method, train, recipe, seed, checkpoint, precision, compiled, unlabelled, watch, stop, group, accumulate,
            recompute, shard,
        )  # fmt: skip
        trainer.run()
    if validation is not None:
        method.eval()
        with (
            torch.no_grad(),
            torch.autocast(validation.device.type, torch.bfloat16, enabled=precision == "bf16"),
        ):
            trainer.history.selected = dict(method.select(validation))
            group.broadcast(list(method.buffers()))
    trainer.save()
    return trainer.history


class _Trainer:
    def __init__(
        self,
        method: Method,
        train: Loader,
        recipe: Recipe,
        seed: int,
        checkpoint: Checkpoint,
        precision: str,
        compiled: bool | None,
        unlabelled: Loader | None,
        watch: Watch,
        stop: Callable[[], bool],
        group: Group,
        accumulate: int,
        recompute: bool,
        shard: bool,
    ) -> None:
        self.method, self.recipe, self.seed, self.stop = method, recipe, seed, stop
        self.sources = {"train": train, "unlabelled-test": unlabelled}
        self.checkpoint, self.precision, self.watch = checkpoint, precision, watch
        self.group, self.accumulate, self.recompute, self.shard = group, accumulate, recompute, shard
        self.local_slice = partial(group.local_slice, least=2)  # batch norm cannot normalise a single image
        self.device = train.device
        self.stages: Sequence[PlannedStage] = plan(method.stages(recipe), recipe)
        self.history = History()
        self.optimiser: torch.optim.SGD | None = None
        self.take_step: Step | None = None
        self.recorder = None if recompute or shard else RECORDERS.get(self.device.type)
        self.compiled = self._pays(train) if compiled is None else compiled
        self.trainable = {name for name, weight in method.named_parameters() if weight.requires_grad}
        self.resting = [module for module in method.modules() if not module.training]
        self.whole = group.size > 1 and changes_batches(method)  # which are then shared out afterwards
        self.stage, self.epoch, self.step = 0, 0, 0
        self.sums = torch.zeros(2, dtype=torch.float64, device=self.device)  # of the epoch: loss and weight
        self.sound = torch.zeros((), dtype=torch.int64, device=self.device)  # steps of the epoch with finite sums

    def run(self) -> None:
        resumed = self._resume()
        self._note_division()
        for index in range(self.stage, len(self.stages)):
            if not resumed:
                self._start(index)
            resumed = False
            self._run_stage(self.stages[index])
        self.optimiser = self.take_step = None
        self.stage = len(self.stages)
        broken = not_finite(self.method)  # a last step leaves no later loss to tell
        if any(self.group.any(broken is not None)):
            raise TrainingFailedError(f"after training {broken or 'weights of another process are not finite'}")

    def _note_division(self) -> None:
        images = images_together(self.method, self.recipe.batch_size, self.group, self.accumulate)
        own = Division(self.group.size, self.accumulate, images)
        if self.stage < len(self.stages) and self.history.divisions[-1:] != [own]:
            self.history.divisions.append(own)
        if images is not None and images < self.recipe.batch_size:
            message = f"batch norm sees {images} of the {self.recipe.batch_size} images of a batch at a time, which "
            warnings.warn(message + "changes results; they say so", LtbenchWarning, stacklevel=4)

    def _pays(self, train: Loader) -> bool:
        """Whether compiling takes less time than it saves; on a CPU it saves next to nothing."""
        epochs = sum(planned.epochs for planned in self.stages)
        steps = epochs * len(train.labels) / self.recipe.batch_size
        return self.device.type == "cuda" and steps >= WORTH_COMPILING

    def _start(self, index: int) -> None:
        self.stage, self.epoch, self.step = index, 0, 0
        stage = self.stages[index].stage
        self._freeze(stage)
        with rng.global_stream(self.seed, "begin", stage.name):
            self.method.begin(stage, self._data(stage))
        self._freeze(stage)  # begin may have put the network in evaluation mode
        self.group.broadcast([*self.method.parameters(), *self.method.buffers()])
        self.optimiser = self._make_optimiser(stage)

    def _run_stage(self, planned: PlannedStage) -> None:
        assert self.optimiser is not None
        if self.recorder is not None:  # zeros amount to no momentum yet, and the fused optimiser wants all or none
            for weight in (weight for group in self.optimiser.param_groups for weight in group["params"]):
                self.optimiser.state[weight].setdefault("momentum_buffer", torch.zeros_like(weight))
        self.take_step = Step(
            self.method,
            self.optimiser,
            self.sums,
            precision=self.precision,
            compiled=self.compiled,
            recorder=self.recorder,
            group=self.group,
            accumulate=self.accumulate,
            recomputes=self.recompute,
            shard=self.shard,
        )
        with ExitStack() as ways:
            if self.shard:
                ways.enter_context(sharded(self.method, self.optimiser, self.group))
            if self.recompute:
                ways.enter_context(recomputed(self.method.network))
            for epoch in range(self.epoch, planned.epochs):
                self.epoch = epoch
                self._run_epoch(planned)
                self.step = 0
                self.epoch = epoch + 1
                average_statistics(self.method, self.group)
                (saving,) = self.group.any(self.checkpoint.due())
                if saving:
                    self.save()
            if planned is self.stages[-1]:
                self.optimiser.state.clear()  # which no one takes over, and need not be put together

    def _run_epoch(self, planned: PlannedStage) -> None:
        stage, began = planned.stage, time.monotonic()
        seconds, images = self.history.seconds, self.history.images
        data = self._data(stage)
        batches = Epoch(
            data,
            self.method.samplers(data.labels.cpu(), stage),
            views=stage.views or self.method.views,
            how=self.recipe.views,
            batch_size=self.recipe.batch_size,
            seed=self.seed,
            place=(self.stage, self.epoch),
            local_slice=self.local_slice,
            **({"gather": self.group.gather} if self.whole else {}),
        )
        self._set_rate(planned.lrs[self.epoch])
        self.sound.fill_(self.step)
        for step in range(self.step, len(batches)):
            self.step = step
            self._train_step(batches.batch(step), self._progress(planned, len(batches)), batches.sizes[step])
            self.step = step + 1
            words = f"{stage.name}, epoch {self.epoch + 1}/{planned.epochs}"
            self.watch(self._share(len(batches)), words, self.history)
            stopping, saving = self.group.any(self.stop(), self.checkpoint.due())
            if stopping or saving:
                self.history.seconds += time.monotonic() - began
                began = time.monotonic()
                self._mean_loss()
                average_statistics(self.method, self.group)
                self.save()
            if stopping:
                raise KeyboardInterrupt
        loss = self._mean_loss()
        self.history.seconds += time.monotonic() - began
        seconds, images = self.history.seconds - seconds, self.history.images - images
        rate = images / seconds if seconds and images else None
        self.history.curve.append(EpochRecord(stage.name, self.epoch, planned.lrs[self.epoch], loss, rate))
        self.sums.zero_()

    def _train_step(self, batch: Batch, progress: Progress, size: int) -> None:
        assert self.take_step is not None
        batch = self.method.prepare(batch, progress)
        if self.whole:
            batch = part(batch, self.local_slice(size))
        # Dropout and stochastic depth know only the global generator; each process has draws of its own.
        place = (self.stage, self.epoch, self.step, *((self.group.rank,) if self.group.rank else ()))
        torch.manual_seed(rng.key(self.seed, "step", *place))
        self.take_step(batch, progress, size)
        self.sound += self.sums.isfinite().all()
        with torch.no_grad():
            self.method.after_step(progress)
        self.history.images += size
        self.history.steps[progress.stage.name] = self.take_step.how

    def _mean_loss(self) -> float:
        """The epoch's mean loss so far; the one place where the host waits for the device."""
        mean = (self.sums[0] / self.sums[1]).item()
        if not torch.tensor(mean).isfinite():
            name, sound = self.stages[self.stage].stage.name, int(self.sound)
            since = f", from step {sound + 1} on" if sound < self.step else ""
            raise TrainingFailedError(f"the loss is {mean} in epoch {self.epoch + 1} of stage '{name}'{since}")
        return mean

    def _data(self, stage: Stage) -> Loader:
        data = self.sources[stage.source]
        if data is None:
            raise TrainingFailedError(f"stage '{stage.name}' needs {stage.source} images, which this run lacks")
        return data

    def _freeze(self, stage: Stage) -> None:
        """Set what trains and which mode each module is in."""
        for name, weight in self.method.named_parameters():
            weight.requires_grad_(name in self.trainable and name.startswith(stage.trains))
        self.method.train()
        for module in self.resting:
            module.training = False
        if stage.frozen_norms == "eval":
            for prefix, module in self.method.named_modules():
                own = {f"{prefix}.{name}" for name, _ in module.named_parameters(recurse=False)}
                if isinstance(module, nn.modules.batchnorm._NormBase) and own & self.trainable:
                    module.train(any(name.startswith(stage.trains) for name in own))

    def _make_optimiser(self, stage: Stage) -> torch.optim.SGD | None:
        groups: dict[float, list[nn.Parameter]] = {}
        for name, weight in self.method.named_parameters():
            if weight.requires_grad:
                groups.setdefault(_scale(stage, name), []).append(weight)
        if not groups:
            raise TrainingFailedError(f"stage '{stage.name}' trains nothing: no parameter is named {stage.trains}...")
        recorded = self.recorder is not None
        optimiser = torch.optim.SGD(
            [{"params": weights, "scale": scale} for scale, weights in groups.items()],
            lr=torch.tensor(self.recipe.lr, device=self.device) if recorded else self.recipe.lr,
            momentum=self.recipe.momentum,
            nesterov=self.recipe.nesterov,
            weight_decay=self.recipe.weight_decay,
            fused=recorded or None,  # the only one that reads its learning rate from a tensor
        )
        if stage.optimiser == "carried" and self.optimiser is not None:
            for weight in (weight for weights in groups.values() for weight in weights):
                if weight in self.optimiser.state:
                    optimiser.state[weight] = self.optimiser.state[weight]
        return optimiser

    def _set_rate(self, lr: float) -> None:
        assert self.optimiser is not None
        for group in self.optimiser.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(lr * group["scale"])
            else:
                group["lr"] = lr * group["scale"]

    def _progress(self, planned: PlannedStage, steps: int) -> Progress:
        done = (self.epoch + self.step / steps) / planned.epochs
        share = self._share(steps)
        gather: dict[str, Any] = {"gather": self.group.gather} if self.group.size > 1 else {}
        return Progress(self.seed, planned.stage, self.epoch, self.step, torch.tensor(done), share, **gather)

    def _share(self, steps: int) -> float:
        total = sum(planned.epochs for planned in self.stages)
        past = sum(planned.epochs for planned in self.stages[: self.stage])
        return (past + self.epoch + self.step / steps) / total

    def save(self) -> None:
        state: dict[str, Any] = {
            "position": (self.stage, self.epoch, self.step),
            "method": gathered(self.method.state_dict(), self.group),
            "optimiser": gathered(self.optimiser.state_dict(), self.group) if self.optimiser else None,
            "history": asdict(self.history),
            "sums": self.sums,
        }
        self.checkpoint.save(state)

    def _resume(self) -> bool:
        """Go back to the stored state; whether its stage has begun already."""
        state = self.checkpoint.load(self.device)
        if state is None:
            return False
        initial = {name: value.clone() for name, value in self.method.state_dict().items()}
        try:
            return self._take_up(state)
        except _MISFITS as error:
            message = f"the checkpoint {self.checkpoint.path} does not fit the run ({_first_line(error)})"
            warnings.warn(f"{message}: training starts anew", LtbenchWarning, stacklevel=4)
            self.method.load_state_dict(initial)
            self.stage, self.epoch, self.step = 0, 0, 0
            self.optimiser, self.history = None, History()
            self.sums.zero_()
            return False

    def _take_up(self, state: dict[str, Any]) -> bool:
        self.stage, self.epoch, self.step = state["position"]
        if not 0 <= self.stage <= len(self.stages):
            raise ValueError(f"there is no stage {self.stage}")
        self.method.load_state_dict(state["method"])
        stored = state["history"]
        curve = [EpochRecord(**point) for point in stored["curve"]]
        divisions = [Division(**one) for one in stored.get("divisions", ())]
        self.history = History(curve, stored["seconds"], stored["images"], stored["steps"], divisions=divisions)
        self.sums.copy_(state["sums"])
        if self.stage == len(self.stages):
            return False
        stage = self.stages[self.stage].stage
        self._freeze(stage)
        self.optimiser = self._make_optimiser(stage)
        if self.optimiser is not None and state["optimiser"] is not None:
            # Its rates and flags are the recipe's and this device's; only what it has learnt is taken over.
            own = self.optimiser.state_dict()["param_groups"]
            self.optimiser.load_state_dict({"state": state["optimiser"]["state"], "param_groups": own})
            for weight, learnt in self.optimiser.state.items():
                buffer = learnt.get("momentum_buffer")
                if buffer is not None and buffer.shape != weight.shape:
                    raise ValueError(f"a momentum is {tuple(buffer.shape)} and not {tuple(weight.shape)}")
        return True


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _scale(stage: Stage, name: str) -> float:
    """The learning-rate factor of a parameter: that of the longest prefix that fits."""
    fitting = [prefix for prefix in stage.lr_scale if name.startswith(prefix)]
    return stage.lr_scale[max(fitting, key=len)] if fitting else 1.0


def changes_batches(method: Method) -> bool:
    """Whether a method mixes images or changes batches otherwise, for which it must see them whole."""
    mixing = method.config.mixup or method.config.cutmix or method.config.cmo
    return bool(mixing) or type(method).prepare is not Method.prepare


def load_trained(method: Method, checkpoint: Checkpoint, device: torch.device) -> bool:
    """Load the weights of a finished run into a method; False if there is no checkpoint of one."""
    state = checkpoint.load(device)
    if state is None or state.get("optimiser") is not None:
        return False
    try:
        method.load_state_dict(state["method"])
    except _MISFITS:  # of another network, or no weights at all
        return False
    return True
