"""ltbench beside the way research code does the same, the two taking turns; what ``ltbench bench`` prints.

Both sides work on the same random 32-pixel images in 100 classes, with the same network (ResNet-32, three experts),
batch size and number of threads; for loading, on photographs in JPEG files. Machines are noisy: each side's shortest
time counts.
"""

import platform
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tabulate import tabulate
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import transforms

from ltbench import registry
from ltbench.config import Augment, Recipe
from ltbench.data.augmentation.pipeline import augment, draws_needed
from ltbench.data.images import ImageFiles, LabelledImages
from ltbench.data.loading.epoch import Epoch
from ltbench.data.loading.from_files import FileLoader
from ltbench.data.loading.in_memory import InMemoryLoader
from ltbench.data.loading.resize_cache import resized
from ltbench.evaluation.predict import predict
from ltbench.method import Batch, ClassPrior, Method, Shuffled, Stage, at_rest
from ltbench.metrics import calibration
from ltbench.models.backbone import Backbone
from ltbench.results.provenance import hardware
from ltbench.training.cuda_graph import RECORDERS
from ltbench.training.options import TrainOptions
from ltbench.training.step import Step
from ltbench.training.trainer import fit
from ltbench_speed import KINDS, photographs
from ltbench_speed import reference_loop as reference

Work = Callable[[], object]
CLASSES, BATCH = 100, 128
CIFAR_100_LT = 10_847
"""Training images of CIFAR-100-LT with imbalance ratio 100."""
PRECISIONS = ("fp32", "bf16")
"""Of ltbench; the reference loop computes in float32."""
BASIC = Augment(padding=0.125, flip=True, rotation=15)
AUTO_CUTOUT = Augment(padding=0.125, flip=True, policy="cifar10", cutout=0.5)


@dataclass(frozen=True)
class Contest:
    """One row of the table."""

    name: str
    reference: Work
    ours: Work
    threads: int | None = None
    """For both; None leaves them as they are."""


@dataclass(frozen=True)
class Outcome:
    """Seconds that both sides took, a number a round."""

    name: str
    reference: tuple[float, ...]
    ours: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """How many times as fast ltbench is, by the shortest times."""
        return min(self.reference) / min(self.ours)

    @property
    def row(self) -> tuple[str, ...]:
        """Of the table: name, shortest times, their ratio, and the ratios of single rounds."""
        single = sorted(theirs / ours for theirs, ours in zip(self.reference, self.ours, strict=True))
        times = (f"{min(self.reference):.3f}", f"{min(self.ours):.3f}")
        return (self.name, *times, f"{self.ratio:.2f}", f"{single[0]:.2f} to {single[-1]:.2f}")


def contests(kinds: Sequence[str], device: torch.device) -> Iterator[Contest]:
    """The contests of some kinds; see ``ltbench_speed.KINDS``."""
    for kind in kinds:
        yield from _MAKERS[kind](device)


def carry_out(contest: Contest, rounds: int) -> Outcome:
    """Let both sides take turns."""
    before = torch.get_num_threads()
    torch.set_num_threads(contest.threads or before)
    times: tuple[list[float], list[float]] = ([], [])
    try:
        contest.reference()  # caches fill, worker processes start
        contest.ours()
        for _ in range(rounds):
            for work, taken in zip((contest.reference, contest.ours), times, strict=True):
                began = time.perf_counter()
                work()
                taken.append(time.perf_counter() - began)
    finally:
        torch.set_num_threads(before)
    return Outcome(contest.name, tuple(times[0]), tuple(times[1]))


def render(outcomes: Sequence[Outcome], rounds: int, device: torch.device) -> str:
    """A markdown table, under a line on where it comes from."""
    about = hardware(device)
    head = (
        f"{about.get('accelerator', about['processor'])}, {torch.get_num_threads()} threads, "
        f"Python {platform.python_version()}, torch {torch.__version__}, {datetime.now(UTC):%Y-%m-%d}; "
        f"seconds, minima of {rounds} rounds taking turns"
    )
    columns = ("what", "reference", "ltbench", "ratio", "single rounds")
    table = tabulate([one.row for one in outcomes], columns, tablefmt="github", disable_numparse=True)
    return f"{head}\n\n{table}\n"


def images(count: int, classes: int = CLASSES, side: int = 32) -> LabelledImages:
    """Random images, equally many of each class."""
    pixels = np.random.default_rng(0).integers(0, 256, (count, 3, side, side), dtype=np.uint8)
    return LabelledImages(pixels, np.arange(count, dtype=np.int64) % classes)


def method(device: torch.device, experts: int = 3, classes: int = CLASSES) -> Method:
    """BalPoE as a run makes it."""
    cls = registry.method("balpoe")
    build = Backbone("cifar_resnet32", classes=classes, channels=3, image_size=32, head="cosine")
    config = cls.Config.model_validate({"experts": experts})
    return cls(build, ClassPrior(torch.full((classes,), 10)), config).to(device, memory_format=torch.channels_last)


def in_memory(data: LabelledImages, device: torch.device) -> InMemoryLoader:
    """Images on the device."""
    return InMemoryLoader(data, reference.MEAN, reference.STD, device)


def sgd(network: nn.Module) -> torch.optim.SGD:
    """The recipe's optimiser."""
    return torch.optim.SGD(network.parameters(), 0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)


def train(made: Method, data: InMemoryLoader, precision: str) -> None:
    """An epoch of ltbench's training, without a checkpoint."""
    recipe = Recipe(epochs=1, warmup=0, milestones=(), augment=BASIC)
    fit(made, data, recipe, seed=0, options=TrainOptions(precision=precision))


def steps(device: torch.device) -> Iterator[Contest]:
    """One training step on a batch that is there already: mixup, forward, backward, update."""
    theirs = reference.Experts(CLASSES).to(device)
    optimiser, log_prior = sgd(theirs), torch.zeros(CLASSES, device=device)
    data = in_memory(images(BATCH), device)
    batch = next(data.eval_batches(BATCH))
    given = [(batch.images.contiguous(), batch.labels)]
    for precision in PRECISIONS:
        yield Contest(
            f"training step, {precision}",
            partial(reference.train_epoch, theirs, given, optimiser, log_prior),
            _our_step(method(device), batch, precision),
        )


def _our_step(made: Method, batch: Batch, precision: str) -> Work:
    device = batch.labels.device
    made.train()
    sums = torch.zeros(2, dtype=torch.float64, device=device)
    step = Step(made, sgd(made), sums, TrainOptions(precision=precision), recorder=RECORDERS.get(device.type))
    progress = at_rest(Stage())

    def take() -> None:
        step(made.prepare(batch, progress), progress)
        _wait(device)

    return take


def epochs(device: torch.device, count: int = 2560, precisions: Sequence[str] = PRECISIONS) -> Iterator[Contest]:
    """An epoch on images in memory: augmentation, batches, steps."""
    data = images(count)
    theirs = reference.Experts(CLASSES).to(device)
    pil = reference.PilImages(data.images, data.labels, reference.crop_flip_rotate())
    batches, optimiser = reference.loader(pil, train=True), sgd(theirs)
    log_prior = torch.zeros(CLASSES, device=device)

    for precision in precisions:
        yield Contest(
            f"epoch of {count:,} images, {precision}",
            partial(reference.train_epoch, theirs, batches, optimiser, log_prior),
            partial(train, method(device), in_memory(data, device), precision),
        )


def runs(device: torch.device) -> Iterator[Contest]:
    """Epochs as long as CIFAR-100-LT's, of which a run has 200: each round is one."""
    return epochs(device, CIFAR_100_LT, ("bf16",))


def evaluation(device: torch.device, count: int = 10_000) -> Iterator[Contest]:
    """Logits of a test set, from images in memory."""
    data = images(count)
    theirs = reference.Experts(CLASSES).to(device)
    batches = reference.loader(reference.PilImages(data.images, data.labels), train=False)
    for precision in PRECISIONS:
        yield Contest(
            f"evaluation of {count:,} images, {precision}",
            partial(reference.evaluate, theirs, batches),
            partial(predict, method(device), in_memory(data, device), precision),
        )


def augmentation(device: torch.device, count: int = 1024) -> Iterator[Contest]:
    """Varied images from images, one thread, uint8 to uint8."""
    pixels = images(count).images
    crop_flip = reference.crop_flip_rotate()[:2]
    auto = [*crop_flip, transforms.AutoAugment(transforms.AutoAugmentPolicy.CIFAR10, fill=128)]
    recipes = {
        "crop, flip, rotation": (reference.crop_flip_rotate(), 0, BASIC),
        "crop, flip, AutoAugment, cutout": (auto, 16, AUTO_CUTOUT),
    }
    batches = torch.split(torch.from_numpy(pixels).to(device), BATCH)
    for name, (augmented, hole, how) in recipes.items():
        yield Contest(
            f"augmentation of {count:,} images: {name}",
            partial(_with_pil, pixels.transpose(0, 2, 3, 1), transforms.Compose(augmented), hole),
            partial(_batched, batches, how),
            threads=1,
        )


def _with_pil(pixels: np.ndarray, transform: Callable[[Image.Image], Image.Image], hole: int) -> list[np.ndarray]:
    made = []
    for image in pixels:
        augmented = np.array(transform(Image.fromarray(image)))
        if hole:
            y, x = np.random.randint(0, 32, 2)  # noqa: NPY002
            augmented[max(0, y - hole // 2) : y + hole // 2, max(0, x - hole // 2) : x + hole // 2] = 0
        made.append(augmented)
    return made


def _batched(batches: Sequence[Tensor], how: Augment) -> None:
    for batch in batches:
        augment(batch, how, torch.rand(len(batch), draws_needed(how), device=batch.device))
    _wait(batches[0].device)


def loading(device: torch.device, count: int = 512) -> Iterator[Contest]:
    """Batches from photographs in JPEG files, with two workers: decoded, cropped, normalised, on the device.

    The reference always reads the photographs themselves; ltbench once their copies that are there already.
    """
    workers, crop = 2, (0.08, 1.0)
    recipes = {
        "crop, flip": Augment(crop=crop, flip=True),
        "crop, flip, jitter": Augment(crop=crop, flip=True, jitter=(photographs.JITTER,) * 3 + (0.0,)),
    }
    with tempfile.TemporaryDirectory() as name:
        folder, copied_to = Path(name) / "photographs", Path(name) / "copies"
        photographs.write(folder, count)
        names = np.array([file.relative_to(folder).as_posix() for file in sorted(folder.rglob("*.jpg"))])
        files = ImageFiles(folder, names, np.zeros(count, dtype=np.int64))
        data, copied = (
            FileLoader(some, photographs.SIZE, photographs.MEAN, photographs.STD, device, workers=workers)
            for some in (files, resized(files, photographs.COPIED, into=copied_to))
        )
        for what, how in recipes.items():
            theirs = photographs.loader(folder, photographs.training(jitter=any(how.jitter)), workers, train=True)
            for source, ours in {what: data, f"{what}; copies of {photographs.COPIED}": copied}.items():
                yield Contest(
                    f"{count:,} photographs: {source}",
                    partial(_pass_over, theirs, device),
                    partial(_our_pass, ours, how),
                )
        theirs = photographs.loader(folder, photographs.test(), workers, train=False)
        yield Contest(
            f"{count:,} photographs: of a test", partial(_pass_over, theirs, device), partial(_our_test, data)
        )


def _pass_over(batches: DataLoader[tuple[Tensor, int]], device: torch.device) -> None:
    for images, labels in batches:
        images.to(device), labels.to(device)
    _wait(device)


def _our_test(data: FileLoader) -> None:
    for _ in data.eval_batches():
        pass
    _wait(data.device)


def _our_pass(data: FileLoader, how: Augment) -> None:
    samplers = {"main": Shuffled(len(data.labels))}
    epoch = Epoch(
        data, samplers, views=("train",), how={"train": how}, batch_size=photographs.BATCH, seed=0, place=(0,)
    )  # fmt: skip
    for step in range(len(epoch)):
        epoch.batch(step)
    _wait(data.device)


def metrics(device: torch.device) -> Iterator[Contest]:
    """Calibration errors of many logits, on the CPU."""
    logits = torch.randn(50_000, 1000, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(50_000) % 1000

    def ours() -> None:
        confidence, predicted = calibration.top(logits)
        table = calibration.reliability(confidence, predicted == labels)
        assert table.ece <= table.mce

    yield Contest(
        "ECE and MCE of 50,000 x 1,000 logits",
        partial(reference.ece_and_mce, logits.numpy(), labels.numpy()),
        ours,
    )


_MAKERS: dict[str, Callable[[torch.device], Iterator[Contest]]] = dict(
    zip(KINDS, (steps, epochs, runs, evaluation, augmentation, loading, metrics), strict=True)
)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
