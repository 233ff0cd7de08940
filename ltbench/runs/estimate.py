"""How long a run will take on this machine, from measured steps: before the data is there, before days are spent."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch

from ltbench import registry
from ltbench.config import Augment, ResolvedRun, RunConfig, canonical_json
from ltbench.data import long_tail
from ltbench.data.datasets.folder_split import split_not_stored
from ltbench.data.images import ImageFiles
from ltbench.errors import LtbenchError, TrainingFailedError, first_line
from ltbench.evaluation.result_parts import count_parameters, multiply_adds
from ltbench.features.encoder import Encoder
from ltbench.features.loader import ENCODED_TOGETHER
from ltbench.method import Method
from ltbench.runs.data_folder import published_sizes
from ltbench.runs.last_dataset import LastDataset
from ltbench.runs.options import RunOptions
from ltbench.runs.plan import read_images
from ltbench.runs.resolve import resolve
from ltbench.runs.timing import ProcessTime, Sizes, Timer
from ltbench.training.batches import changes_batches
from ltbench.training.device import choose_device
from ltbench.training.distributed.process_group import Group, check_divisible

LESS_FOR_STEPS = (
    "--accumulate, --checkpoint-activations, a smaller --batch-size or more --processes take less; "
    "so does ltbench run --shard, which is not timed here"
)
LESS_FOR_EVALUATION = "a smaller --image-size or --precision bf16 takes less"


@dataclass(frozen=True)
class EncodingTime:
    """The computing of frozen features, once for all methods and seeds that are trained on them."""

    images_of: Mapping[str, int]
    """Number of images by what is computed: of the test set, and of each augmentation, every view counted."""
    seconds_per_image: float

    @property
    def images(self) -> int:
        """All of them."""
        return sum(self.images_of.values())

    @property
    def seconds(self) -> float:
        """Seconds of all of them."""
        return self.images * self.seconds_per_image


@dataclass(frozen=True)
class TimeEstimate:
    """What a run is expected to take; the runs that it starts from are not in it."""

    run: ResolvedRun
    sizes: Sizes
    device: torch.device
    parameters: int
    multiply_adds: int
    """Multiply-adds per image, through all experts."""
    processes: tuple[ProcessTime, ...]
    """The time for each number of processes that was asked for."""
    evaluation_seconds: float
    """Seconds of an evaluation of all test images, in one process."""
    changes_batches: bool
    """Whether each of several processes gets all pixels of a batch and mixes or changes them."""
    gathers_across_processes: bool
    """Whether the loss takes in the images of other processes."""
    starts_from: "tuple[TimeEstimate, ...]"
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
        """Bytes of gradients that processes exchange after each step."""
        return 4 * self.parameters


def estimate(
    config: RunConfig, options: RunOptions, *, processes: Sequence[int] = (1,), rounds: int = 3
) -> TimeEstimate:
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
    options = replace(options, last_dataset=options.last_dataset or LastDataset())
    run = resolve(config)
    config = run.config
    method = registry.method(config.method)
    for count in processes:
        group = Group(size=count)
        check_divisible(method, config.method, run.recipe.batch_size, group, options.accumulate, "--processes")
    sizes = sizes_of(run, options)
    device = choose_device(options.device)
    encoder = _encoder(run, sizes, device)
    shape = sizes.shape if encoder is None else (encoder.num_features, 1, 1)
    timer = Timer(run, method, replace(sizes, shape=shape), device, rounds, options)
    timer.begin(processes)
    found = {}
    for count in sorted(processes, reverse=True):  # the least memory first
        with _explained(config.method, f"--processes {count}", LESS_FOR_STEPS):
            found[count] = timer.steps(count)
    with _explained(config.method, "evaluation", LESS_FOR_EVALUATION):
        built = timer.build()  # not before: a second network would count as memory of the steps
        evaluation_seconds = timer.evaluation_seconds(built)
    return TimeEstimate(
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
        fuse=True,
    )
    return encoder.to(device)


def _encoding(run: ResolvedRun, method: Method, encoder: Encoder, sizes: Sizes, rounds: int) -> EncodingTime:
    """Time the frozen network on random images, and count those that a method's features are computed of."""
    views = run.config.feature_views or 0
    names = {name for stage in method.stages(run.recipe) for name in stage.views or method.views}
    kinds = {run.recipe.views[name] if views else Augment() for name in names}
    images_of = {"test": sizes.test_images}
    for kind in kinds:
        images_of[canonical_json(kind.model_dump(mode="json"))] = (views if kind != Augment() else 1) * sizes.images
    device = next(encoder.parameters()).device
    count = ENCODED_TOGETHER.get(device.type, 256)
    some, taken = torch.rand(count, *sizes.shape, device=device), []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        encoder(some).cpu()
        taken.append(time.perf_counter() - began)
    return EncodingTime(images_of, min(taken) / count)


def sizes_of(run: ResolvedRun, options: RunOptions) -> Sizes:
    """The published sizes of a data set of official lists, which need not be there; those of any other by looking."""
    config = run.config
    source = registry.dataset(config.dataset)
    image_size = config.image_size or source.image_size
    if (published := published_sizes(config)) is not None:
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
        data = read_images(run, options)
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
        raise LtbenchError(f"{method} does not fit: {first_line(error)}", where=where, hint=less) from None
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
