"""How long a run will take on this machine, from measured steps: before the data is there, before days are spent."""

import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ltbench import registry
from ltbench.config import Augment, Recipe, RunConfig
from ltbench.data import dataset, long_tail
from ltbench.data.datasets.listed import Listed
from ltbench.data.images import ImageFiles, LabelledImages
from ltbench.data.loading.base import InMemoryLoader
from ltbench.errors import LtbenchError, LtbenchWarning, TrainingFailedError
from ltbench.evaluation.predict import predict
from ltbench.evaluation.records import multiply_adds, peak_memory
from ltbench.method import Method
from ltbench.method.build import build_method
from ltbench.runs.resolve import resolve
from ltbench.training.batches import changes_batches
from ltbench.training.device import choose_device
from ltbench.training.distributed.process_group import Group, check_divisible
from ltbench.training.options import TrainOptions
from ltbench.training.schedule import plan
from ltbench.training.step import WORTH_COMPILING
from ltbench.training.trainer import fit

STEPS = {"cpu": 1}
"""Steps that are timed together, by device: 20 elsewhere, where a step is short and starts while the last one runs."""

EVALUATED = {"cpu": 32}
"""Images whose evaluation is timed, by device: 1024 elsewhere."""

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
    """Of an epoch."""
    test_images: int
    shape: tuple[int, int, int]
    """Of an image: channels, height, width."""
    streamed: bool
    """Whether images stay files, which are decoded again and again."""


@dataclass(frozen=True)
class StageTime:
    """The steps of a stage."""

    name: str
    steps: int
    seconds: tuple[float, ...]
    """Of a step, measured one time after the other."""


@dataclass(frozen=True)
class Share:
    """What one of so many processes has to do."""

    processes: int
    batch: int
    """Images that it takes of every batch, at most: the others wait for the slowest one."""
    stages: tuple[StageTime, ...]
    how: str
    """How steps are carried out."""
    peak_memory: int | None
    """Bytes: of the device, or of the process so far."""

    @property
    def seconds(self) -> float:
        """Of all steps, by the shortest of each stage."""
        return sum(stage.steps * min(stage.seconds) for stage in self.stages)

    @property
    def images_per_second(self) -> float:
        """That must be decoded for it, at the least."""
        return sum(stage.steps for stage in self.stages) * self.batch / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class Estimate:
    """What a run is expected to take; the runs that it starts from are not in it."""

    config: RunConfig
    sizes: Sizes
    device: torch.device
    parameters: int
    multiply_adds: int
    """Of one image, through all experts."""
    shares: tuple[Share, ...]
    evaluation_seconds: float
    """For all test images, in one process."""
    changes_batches: bool
    """Whether each of several processes gets all pixels of a batch and mixes or changes them."""
    gathers: bool
    """Whether the loss takes in the images of other processes."""
    starts_from: "tuple[Estimate, ...]"

    @property
    def gradient_bytes(self) -> int:
        """That processes exchange after each step."""
        return 4 * self.parameters


def estimate(
    config: RunConfig,
    folder: Path,
    *,
    device: str = "auto",
    processes: Sequence[int] = (1,),
    rounds: int = 3,
    accumulate: int = 1,
    checkpoint_activations: bool = False,
    compiled: bool | None = None,
) -> Estimate:
    """Time the steps of a run on random images.

    Args:
        config: of the run; what it leaves out is filled in.
        folder: --data-dir, for data sets whose sizes are not published ones.
        device: to measure on.
        processes: for each number: one process's share of every batch is measured, since a step of fewer images takes
            less. What processes tell each other is not, nor the mixing of whole batches in each.
        rounds: how often each stage is timed.
        accumulate: parts of a share whose gradients are added up.
        checkpoint_activations: whether they are computed again in the backward pass.
        compiled: whether to compile steps; None: as the run would.

    Raises:
        LtbenchError: for bad input, what a run refuses with so many processes, or steps that fail.
    """
    config = resolve(config)
    assert isinstance(config.recipe, Recipe)
    cls = registry.method(config.method)
    for count in processes:
        check_divisible(cls, config.method, config.recipe.batch_size, Group(size=count), accumulate, "--processes")
    sizes, where = sizes_of(config, folder), choose_device(device)
    ways = _Ways(config, config.recipe, sizes, where, rounds, accumulate, checkpoint_activations, compiled)
    found = {}
    for count in sorted(processes, reverse=True):  # the least memory first
        with _explained(config.method, f"--processes {count}", LESS_FOR_STEPS):
            found[count] = ways.share(count)
    with _explained(config.method, "evaluation", LESS_FOR_EVALUATION):
        method = ways.method()  # not before: a second network would count as memory of the steps
        evaluation_seconds = ways.evaluation_seconds(method)
    return Estimate(
        config,
        sizes,
        where,
        sum(weight.numel() for weight in method.network.parameters()),
        multiply_adds(method, sizes.shape),
        tuple(found[count] for count in processes),
        evaluation_seconds,
        changes_batches(method),
        cls.gathers_across_processes,
        tuple(
            estimate(
                base, folder, device=device, processes=processes, rounds=rounds, accumulate=accumulate,
                checkpoint_activations=checkpoint_activations, compiled=compiled,
            )
            for base in cls.uses(config).values()
        ),
    )  # fmt: skip


def sizes_of(config: RunConfig, folder: Path) -> Sizes:
    """The published sizes of a data set of official lists, which need not be there; those of any other by looking."""
    source = registry.dataset(config.dataset)
    assert config.image_size is not None
    if isinstance(source, Listed) and config.imbalance_ratio is None:
        published = source.train_counts()
        images, test_images = source.parts["train"].size, source.parts["test"].size
        if published is None:  # a tail of any kind: what matters is the number of classes
            published = long_tail.profile(5 * images // source.class_count, source.class_count, 100).tolist()
        return Sizes(tuple(published), images, test_images, (3, config.image_size, config.image_size), True)
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


@dataclass(frozen=True)
class _Ways:
    """How the steps of a run are measured."""

    config: RunConfig
    recipe: Recipe
    sizes: Sizes
    device: torch.device
    rounds: int
    accumulate: int
    checkpoint_activations: bool
    compiled: bool | None

    def method(self) -> Method:
        """The untrained method, and for those that it starts from untrained ones too."""
        return self._made(self.config)

    def _made(self, config: RunConfig) -> Method:
        with warnings.catch_warnings(action="ignore", category=LtbenchWarning):  # the run will say
            method = build_method(config, self.sizes.counts, self.sizes.shape, self.device)
        bases = registry.method(config.method).uses(config)
        if bases:
            method.start_from({name: self._made(resolve(base)) for name, base in bases.items()})
        return method

    def share(self, processes: int) -> Share:
        """Time the share of one of so many processes."""
        method, batch = self.method(), -(-self.recipe.batch_size // processes)
        planned = plan(method.stages(self.recipe), self.recipe)
        steps = -(-self.sizes.images // self.recipe.batch_size)
        together = STEPS.get(self.device.type, 20)
        images, short = self._images(together * batch), [replace(one.stage, epochs=1 + self.rounds) for one in planned]
        length = max(1, sum(one.epochs or 0 for one in short if one.schedule is None))
        method.stages = lambda recipe: short  # type: ignore[method-assign]  # as many epochs as rounds
        total = steps * sum(one.epochs for one in planned)
        compiled = self.device.type == "cuda" and total >= WORTH_COMPILING if self.compiled is None else self.compiled
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        with warnings.catch_warnings(action="ignore", category=LtbenchWarning):  # the run will say
            history = fit(
                method,
                images,
                # The images are made elsewhere and at the same time: decoded by workers, varied by them or by the GPU.
                self.recipe.model_copy(
                    update={"batch_size": batch, "epochs": length, "lr": 1e-4, "augment": Augment(),
                            "contrast": Augment()}
                ),
                seed=0,
                options=TrainOptions(
                    precision=self.config.precision, compiled=compiled, accumulate=self.accumulate,
                    checkpoint_activations=self.checkpoint_activations,
                ),
                unlabelled=images,
            )  # fmt: skip
        times = []
        for one in planned:
            curve = [point for point in history.curve if point.stage == one.stage.name][1:]  # the first one warms up
            seconds = tuple(batch / point.images_per_second for point in curve if point.images_per_second)
            times.append(StageTime(one.stage.name, steps * one.epochs, seconds))
        return Share(processes, batch, tuple(times), history.execution or "nothing to train", peak_memory(self.device))

    def evaluation_seconds(self, method: Method) -> float:
        """For all test images, by the shortest time of some."""
        count = EVALUATED.get(self.device.type, 1024)
        images, taken = self._images(count), []
        for _ in range(1 + self.rounds):
            began = time.perf_counter()
            predict(method, images, self.config.precision)
            taken.append(time.perf_counter() - began)
        return self.sizes.test_images * min(taken) / count

    def _images(self, count: int) -> InMemoryLoader:
        pixels = np.random.default_rng(0).integers(0, 256, (count, *self.sizes.shape), dtype=np.uint8)
        labels = np.arange(count, dtype=np.int64) % len(self.sizes.counts)
        channels = self.sizes.shape[0]
        return InMemoryLoader(LabelledImages(pixels, labels), (0.5,) * channels, (0.25,) * channels, self.device)
