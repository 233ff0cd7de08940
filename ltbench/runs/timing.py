"""Times the steps and the evaluation of a run on random images; of heavy steps, those of few images."""

import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from ltbench import registry
from ltbench.config import Augment, ResolvedRun
from ltbench.data.images import LabelledImages
from ltbench.data.loading.in_memory import InMemoryLoader
from ltbench.errors import LtbenchWarning
from ltbench.evaluation.predict import predict
from ltbench.evaluation.result_parts import multiply_adds, peak_memory, reset_peak_memory
from ltbench.method import Method
from ltbench.method.build import build_method
from ltbench.progress import ProgressListener, ProgressUpdate
from ltbench.runs.options import RunOptions
from ltbench.runs.resolve import resolve
from ltbench.training.schedule import plan, stages_of
from ltbench.training.step import WORTH_COMPILING
from ltbench.training.trainer import fit

PROBES = (2, 6)
"""Images of the steps that are timed in place of a heavy one, for each gradient-accumulation step of a batch."""

HEAVY = 1e11
"""Multiply-adds of a batch, forwards, above which a CPU takes seconds and gigabytes for a step."""

STEPS = {"cpu": 1}
"""Steps that are timed together, by device: 20 elsewhere, where a step is short and starts while the last one runs."""

EVALUATED = {"cpu": 32}
"""Images whose evaluation is timed, by device: 1024 elsewhere, and the smaller of ``PROBES`` where steps are heavy."""


@dataclass(frozen=True)
class Sizes:
    """What matters of a data set to how long a run takes."""

    counts: tuple[int, ...]
    """(C,) training images of each class; assumed where only their sum is published."""
    images: int
    """Number of training images per epoch."""
    test_images: int
    shape: tuple[int, int, int]
    """Channels, height and width of an image."""
    streamed: bool
    """Whether images stay files, which are decoded again and again."""


@dataclass(frozen=True)
class StageTime:
    """The steps of a stage."""

    name: str
    steps: int
    seconds: tuple[float, ...]
    """Seconds per step: as measured, or the shortest and the longest that follow from smaller batches."""


@dataclass(frozen=True)
class ProcessTime:
    """The training of one of several processes."""

    processes: int
    batch: int
    """Images that it takes of every batch, at most: the others wait for the slowest one."""
    stages: tuple[StageTime, ...]
    execution: str
    """How steps are carried out."""
    peak_memory: int | None
    """Bytes: of the device, or of the process."""
    timed: tuple[int, ...]
    """Images of the batches that were timed; where they are fewer than ``batch``, time and memory follow from them."""

    @property
    def seconds(self) -> float:
        """Seconds of all steps, if each takes as long as the shortest of its stage."""
        return sum(stage.steps * min(stage.seconds) for stage in self.stages)

    @property
    def images_per_second(self) -> float:
        """Images that must be decoded for it a second, at the least."""
        return sum(stage.steps for stage in self.stages) * self.batch / self.seconds if self.seconds else 0.0


@dataclass
class Timer:
    """Times the steps and the evaluation of a run on random images."""

    run: ResolvedRun
    method: type[Method]
    sizes: Sizes
    device: torch.device
    rounds: int
    options: RunOptions
    heavy: bool = False
    """Whether steps of fewer images are timed than a batch has."""
    work: int = 0
    """Images of all batches that are timed."""
    done: int = 0
    """Images of those that have begun."""
    probes: dict[int, ProcessTime] = field(default_factory=dict)
    """Steps that were timed in place of heavy ones, by their images."""

    def begin(self, processes: Sequence[int]) -> None:
        """Find out whether steps are heavy."""
        if self.device.type == "cpu":
            batch = -(-self.run.recipe.batch_size // min(processes))
            few = self._few()[-1]
            try:
                self.heavy = batch > few and multiply_adds(self.build(), self.sizes.shape) * batch > HEAVY
            except KeyboardInterrupt:
                raise
            except BaseException:  # a fault of the method will come up where it is explained
                self.heavy = False
        batches = [-(-self.run.recipe.batch_size // count) for count in processes]
        self.work = sum(self._few() if self.heavy else batches) + self._evaluated()

    def _few(self) -> list[int]:
        """Images of the batches that are timed in place of heavy ones."""
        return [images * self.options.accumulate for images in PROBES]

    def _evaluated(self) -> int:
        """Images whose evaluation is timed."""
        return PROBES[0] if self.heavy else EVALUATED.get(self.device.type, 1024)

    def _rounds(self) -> int:
        """How often something is timed, with a first round that warms up, unless it takes long."""
        return self.rounds + (not self.heavy)

    def listener(self, message: str, images: int) -> ProgressListener:
        """A listener to the timing of some images, which is the next."""
        began = self.done
        self.done += images

        def tell(update: ProgressUpdate) -> None:
            fraction = (began + images * update.fraction) / max(self.work, self.done)
            self.options.listener(ProgressUpdate(message, fraction))

        tell(ProgressUpdate(message, 0.0))
        return tell

    def build(self) -> Method:
        """The method with random weights; those that it starts from have random weights too."""
        return self._built(self.method, self.run)

    def _built(self, method: type[Method], run: ResolvedRun) -> Method:
        with warnings.catch_warnings(action="ignore", category=LtbenchWarning):  # the run will say
            built = build_method(method, run, self.sizes.counts, self.sizes.shape, self.device)
        bases = method.uses(run.config)
        if bases:
            built.start_from(
                {name: self._built(registry.method(base.method), resolve(base)) for name, base in bases.items()}
            )
        return built

    def steps(self, processes: int) -> ProcessTime:
        """Time the steps of one of several processes."""
        batch = -(-self.run.recipe.batch_size // processes)
        few = self._few()
        if not self.heavy or batch <= few[-1]:
            return replace(self._timed(batch), processes=processes)
        for images in few:
            if images not in self.probes:
                self.probes[images] = self._timed(images)
        one, other = (self.probes[images] for images in few)
        return replace(extrapolated(one, other, batch), processes=processes)

    def _timed(self, batch: int) -> ProcessTime:
        """Time steps of a number of images."""
        recipe, method = self.run.recipe, self.build()
        planned = plan(stages_of(method, recipe), recipe)
        steps = -(-self.sizes.images // recipe.batch_size)
        together = STEPS.get(self.device.type, 20)
        images, short = self._images(together * batch), [replace(one.stage, epochs=self._rounds()) for one in planned]
        length = max(1, sum(one.epochs or 0 for one in short if one.schedule is None))
        method.stages = lambda recipe: short  # type: ignore[method-assign]  # as many epochs as rounds
        total = steps * sum(one.epochs for one in planned)
        pays = self.device.type == "cuda" and total >= WORTH_COMPILING
        still = {"augment": Augment(), "contrast": Augment()}
        lengths = {"epochs": length, "head_epochs": 0}  # the stage of the head is among the short ones
        reset_peak_memory(self.device)
        with warnings.catch_warnings(action="ignore", category=LtbenchWarning):  # the run will say
            history = fit(
                method,
                images,
                # The images are made elsewhere and at the same time: decoded by workers, augmented by them or the GPU.
                recipe.model_copy(update={**still, **lengths, "batch_size": batch, "lr": 1e-4}),
                seed=0,
                options=replace(
                    self.options,
                    precision=self.run.config.precision,
                    compiled=pays if self.options.compiled is None else self.options.compiled,
                    listener=self.listener(f"timing steps of {batch} images", batch),
                ),
                unlabelled=images,
            )
        times = []
        for one in planned:
            curve = [point for point in history.curve if point.stage == one.stage.name][-self.rounds :]
            seconds = tuple(batch / point.images_per_second for point in curve if point.images_per_second)
            times.append(StageTime(one.stage.name, steps * one.epochs, seconds))
        execution = history.execution or "nothing to train"
        return ProcessTime(1, batch, tuple(times), execution, peak_memory(self.device), (batch,))

    def evaluation_seconds(self, method: Method) -> float:
        """Seconds for all test images, by the shortest time of some."""
        count = self._evaluated()
        tell = self.listener(f"timing the evaluation of {count} images", count)
        images, taken, rounds = self._images(count), [], self._rounds()
        for k in range(rounds):
            began = time.perf_counter()
            predict(method, images, self.run.config.precision)
            taken.append(time.perf_counter() - began)
            tell(ProgressUpdate("", k + 1, rounds))
        return self.sizes.test_images * min(taken) / count

    def _images(self, count: int) -> InMemoryLoader:
        pixels = np.random.default_rng(0).integers(0, 256, (count, *self.sizes.shape), dtype=np.uint8)
        labels = np.arange(count, dtype=np.int64) % len(self.sizes.counts)
        channels = self.sizes.shape[0]
        return InMemoryLoader(LabelledImages(pixels, labels), (0.5,) * channels, (0.25,) * channels, self.device)


def extrapolated(one: ProcessTime, other: ProcessTime, batch: int) -> ProcessTime:
    """The steps of a batch, if time and memory grow linearly from one number of images to the other and beyond."""

    def at_batch(small: float, large: float) -> float:
        slope = (large - small) / (other.batch - one.batch)
        slope = min(max(slope, 0.0), large / other.batch)  # a step costs something however few its images are
        return large + slope * (batch - other.batch)

    stages = tuple(
        replace(b, seconds=(at_batch(min(a.seconds), min(b.seconds)), at_batch(max(a.seconds), max(b.seconds))))
        for a, b in zip(one.stages, other.stages, strict=True)
    )
    peak = None
    if one.peak_memory is not None and other.peak_memory is not None:
        peak = round(at_batch(one.peak_memory, other.peak_memory))
    return replace(other, batch=batch, stages=stages, peak_memory=peak, timed=(one.batch, other.batch))
