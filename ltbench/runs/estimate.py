"""How long a run will take on this machine, from measured steps: before the data is there, before days are spent."""

import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from ltbench import registry
from ltbench.config import Augment, ResolvedRun, RunConfig
from ltbench.data import dataset, long_tail
from ltbench.data.datasets.folder_split import split_not_stored
from ltbench.data.datasets.listed import ListedSource
from ltbench.data.images import ImageFiles, LabelledImages
from ltbench.data.loading.in_memory import InMemoryLoader
from ltbench.errors import LtbenchError, LtbenchWarning, TrainingFailedError
from ltbench.evaluation.predict import predict
from ltbench.evaluation.result_parts import count_parameters, multiply_adds, peak_memory, reset_peak_memory
from ltbench.features.encoder import Encoder
from ltbench.features.loader import ENCODED_TOGETHER
from ltbench.method import Method
from ltbench.method.build import build_method
from ltbench.progress import ProgressListener, ProgressUpdate
from ltbench.runs.options import RunOptions
from ltbench.runs.resolve import resolve
from ltbench.training.batches import changes_batches
from ltbench.training.device import choose_device
from ltbench.training.distributed.process_group import Group, check_divisible
from ltbench.training.schedule import plan
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

LESS_FOR_STEPS = (
    "--accumulate, --checkpoint-activations, a smaller --batch-size or more --processes take less; "
    "so does ltbench run --shard, which is not timed here"
)
LESS_FOR_EVALUATION = "a smaller --image-size or --precision bf16 takes less"


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
        """That must be decoded for it, at the least."""
        return sum(stage.steps for stage in self.stages) * self.batch / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class EncodingTime:
    """The computing of frozen features, once for all methods and seeds that are trained on them."""

    images: int
    """Number of images, each augmented view counted."""
    seconds: float
    """For all of them."""


@dataclass(frozen=True)
class Estimate:
    """What a run is expected to take; the runs that it starts from are not in it."""

    run: ResolvedRun
    sizes: Sizes
    device: torch.device
    parameters: int
    multiply_adds: int
    """Multiply-adds per image, through all experts."""
    processes: tuple[ProcessTime, ...]
    """For each number of processes that was asked for."""
    evaluation_seconds: float
    """For all test images, in one process."""
    changes_batches: bool
    """Whether each of several processes gets all pixels of a batch and mixes or changes them."""
    gathers_across_processes: bool
    """Whether the loss takes in the images of other processes."""
    starts_from: "tuple[Estimate, ...]"
    encoding: EncodingTime | None = None
    """None: the whole network is trained."""

    @property
    def seconds(self) -> float:
        """Training in the first number of processes, features, evaluation, and the runs that it starts from."""
        training = self.processes[0].seconds if self.processes else 0.0
        encoding = self.encoding.seconds if self.encoding else 0.0
        return training + encoding + self.evaluation_seconds + sum(base.seconds for base in self.starts_from)

    @property
    def gradient_bytes(self) -> int:
        """That processes exchange after each step."""
        return 4 * self.parameters


def estimate(config: RunConfig, options: RunOptions, *, processes: Sequence[int] = (1,), rounds: int = 3) -> Estimate:
    """Time the steps of a run on random images.

    Where a step is heavy for a CPU, two of few images are timed, and time and memory are taken to grow linearly from
    the smaller to the larger and beyond.

    Args:
        config: of the run; what it leaves out is filled in.
        options: the device to measure on, ways to save memory, who listens to the progress, and the data folder, for
            data sets whose sizes are not published ones; nothing is written into it.
        processes: for each number: one process's part of every batch is measured, since a step of fewer images takes
            less. What processes tell each other is not, nor the mixing of whole batches in each.
        rounds: how often each stage is timed.

    Raises:
        LtbenchError: for bad input, what a run refuses with so many processes, or steps that fail.
    """
    run = resolve(config)
    config = run.config
    method = registry.method(config.method)
    for count in processes:
        group = Group(size=count)
        check_divisible(method, config.method, run.recipe.batch_size, group, options.accumulate, "--processes")
    sizes = sizes_of(config, options.data_dir)
    device = choose_device(options.device)
    encoder = _encoder(run, sizes, device)
    shape = sizes.shape if encoder is None else (encoder.num_features, 1, 1)
    timer = _Timer(run, method, replace(sizes, shape=shape), device, rounds, options)
    timer.begin(processes)
    found = {}
    for count in sorted(processes, reverse=True):  # the least memory first
        with _explained(config.method, f"--processes {count}", LESS_FOR_STEPS):
            found[count] = timer.steps(count)
    with _explained(config.method, "evaluation", LESS_FOR_EVALUATION):
        built = timer.build()  # not before: a second network would count as memory of the steps
        evaluation_seconds = timer.evaluation_seconds(built)
    return Estimate(
        run=run,
        sizes=sizes,
        device=timer.device,
        parameters=count_parameters(built.network),
        multiply_adds=multiply_adds(built, shape),
        processes=tuple(found[count] for count in processes),
        evaluation_seconds=evaluation_seconds,
        changes_batches=changes_batches(built),
        gathers_across_processes=method.gathers_across_processes,
        starts_from=tuple(
            estimate(base, options, processes=processes, rounds=rounds) for base in method.uses(config).values()
        ),
        encoding=_encoding(run, built, encoder, sizes, rounds) if encoder is not None else None,
    )


def _encoder(run: ResolvedRun, sizes: Sizes, device: torch.device) -> Encoder | None:
    """The frozen network whose features a head is trained on; None: the whole network is trained."""
    if run.config.train != "head":
        return None
    encoder = Encoder(
        run.backbone,
        run.weights,
        channels=sizes.shape[0],
        image_size=run.image_size,
        precision=run.config.precision,
        fold=True,
    )
    return encoder.to(device)


def _encoding(run: ResolvedRun, method: Method, encoder: Encoder, sizes: Sizes, rounds: int) -> EncodingTime:
    """Time the frozen network on random images, and count those that a method's features are computed of."""
    views = run.config.feature_views or 0
    names = {name for stage in method.stages(run.recipe) for name in stage.views or method.views}
    kinds = {run.recipe.views[name] for name in names}
    images = sizes.test_images + sum(views if views and kind != Augment() else 1 for kind in kinds) * sizes.images
    device = next(encoder.parameters()).device
    count = ENCODED_TOGETHER.get(device.type, 256)
    some, taken = torch.rand(count, *sizes.shape, device=device), []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        encoder(some).cpu()
        taken.append(time.perf_counter() - began)
    return EncodingTime(images, images * min(taken) / count)


def sizes_of(config: RunConfig, folder: Path) -> Sizes:
    """The published sizes of a data set of official lists, which need not be there; those of any other by looking."""
    source = registry.dataset(config.dataset)
    image_size = config.image_size or source.image_size
    if isinstance(source, ListedSource) and config.imbalance_ratio is None:
        published = source.published
        images, test_images, classes = (
            published.parts["train"].size,
            published.parts["test"].size,
            published.class_count,
        )
        counts = published.train_counts
        if counts is None:  # a tail of any kind: what matters is the number of classes
            counts = tuple(long_tail.profile(5 * images // classes, classes, 100).tolist())
        return Sizes(counts, images, test_images, (3, image_size, image_size), True)
    with split_not_stored():
        data = dataset.load(source, config, folder)
    return Sizes(
        tuple(data.train_counts.tolist()),
        len(data.train),
        len(data.test),
        data.shape,
        isinstance(data.train, ImageFiles),
    )


@contextmanager
def _explained(method: str, where: str, less: str) -> Iterator[None]:
    """Say in the user's words why something cannot be measured for which a run would be stored as failed."""
    try:
        yield
    except LtbenchError:
        raise
    except torch.OutOfMemoryError as error:
        raise LtbenchError(f"{method} does not fit: {str(error).splitlines()[0]}", where=where, hint=less) from None
    except TrainingFailedError as error:
        hint = "the images are random: see whether ltbench run --epochs 1 fails, too"
        raise LtbenchError(f"{method} fails: {error}", where=where, hint=hint) from None
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # also of a method that calls sys.exit
        place = registry.error_location(error, registry.method(method))
        if place is None:
            raise
        raise LtbenchError(f"{method} fails: {type(error).__name__}: {error}", where=place) from None


@dataclass
class _Timer:
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
        return replace(_extrapolated(one, other, batch), processes=processes)

    def _timed(self, batch: int) -> ProcessTime:
        """Time steps of a number of images."""
        recipe, method = self.run.recipe, self.build()
        planned = plan(method.stages(recipe), recipe)
        steps = -(-self.sizes.images // recipe.batch_size)
        together = STEPS.get(self.device.type, 20)
        images, short = self._images(together * batch), [replace(one.stage, epochs=self._rounds()) for one in planned]
        length = max(1, sum(one.epochs or 0 for one in short if one.schedule is None))
        method.stages = lambda recipe: short  # type: ignore[method-assign]  # as many epochs as rounds
        total = steps * sum(one.epochs for one in planned)
        pays = self.device.type == "cuda" and total >= WORTH_COMPILING
        still = {"augment": Augment(), "contrast": Augment()}
        reset_peak_memory(self.device)
        with warnings.catch_warnings(action="ignore", category=LtbenchWarning):  # the run will say
            history = fit(
                method,
                images,
                # The images are made elsewhere and at the same time: decoded by workers, varied by them or by the GPU.
                recipe.model_copy(update={**still, "batch_size": batch, "epochs": length, "lr": 1e-4}),
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
        """For all test images, by the shortest time of some."""
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


def _extrapolated(one: ProcessTime, other: ProcessTime, batch: int) -> ProcessTime:
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
