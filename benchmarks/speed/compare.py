"""ltbench's loop beside the reference loop, interleaved; prints a table of ratios.

python benchmarks/speed/compare.py [--rounds 3] [--images 2560]

Both sides see the same random 32-pixel images in 100 classes, the same network (ResNet-32, three experts), batch size
and number of threads. Minima over the rounds.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import reference_loop as reference
import torch
from tabulate import tabulate
from torch import nn

from ltbench import registry
from ltbench.config import Augment, Recipe
from ltbench.data.loading import Resident
from ltbench.data.source import LabelledImages
from ltbench.evaluate import calibration
from ltbench.evaluate.predict import expert_logits
from ltbench.method import ClassPrior, Method
from ltbench.models.experts import Backbone
from ltbench.train.fit import fit
from ltbench.train.state import Checkpoint

RECIPE = Recipe(epochs=1, warmup=0, milestones=(), augment=Augment(padding=0.125, flip=True, rotation=15))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=2560)
    options = parser.parse_args()
    contests = [*training(options.images), *evaluation(options.images), metrics()]
    rows = []
    for name, theirs, ours in contests:
        seconds = interleaved(theirs, ours, options.rounds)
        rows.append((name, *(f"{one:.3f}" for one in seconds), f"{seconds[0] / seconds[1]:.2f}"))
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, minima of {options.rounds} rounds, seconds")
    print(tabulate(rows, ("what", "reference", "ltbench", "ratio"), tablefmt="github"))


def interleaved(theirs: Callable[[], object], ours: Callable[[], object], rounds: int) -> tuple[float, float]:
    """The shortest of each side's times, the sides taking turns."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for run, taken in zip((theirs, ours), times, strict=True):
            began = time.perf_counter()
            run()
            taken.append(time.perf_counter() - began)
    return min(times[0]), min(times[1])


def images(count: int) -> LabelledImages:
    """Random images, equally many of each class."""
    pixels = np.random.default_rng(0).integers(0, 256, (count, 3, 32, 32)).astype(np.uint8)
    return LabelledImages(pixels, np.arange(count, dtype=np.int64) % 100)


def method() -> Method:
    """BalPoE with three experts, in the memory layout that ltbench trains in."""
    cls = registry.method("balpoe")
    build = Backbone("cifar_resnet32", classes=100, channels=3, image_size=32, head="cosine")
    made = cls(build, ClassPrior(torch.full((100,), 10)), cls.Config())
    return made.to(memory_format=torch.channels_last)


def network() -> nn.Module:
    """The same network in the default layout."""
    return method().network.to(memory_format=torch.contiguous_format)


def training(count: int) -> list[tuple[str, Callable[[], object], Callable[[], object]]]:
    """An epoch of training."""
    data = images(count)
    theirs, ours = network(), method()
    batches = reference.loader(reference.PilImages(data.images, data.labels, train=True), train=True)
    optimiser = torch.optim.SGD(theirs.parameters(), 0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    log_prior = ClassPrior(torch.full((100,), 10)).log
    resident = Resident(data, reference.MEAN, reference.STD, torch.device("cpu"))

    def ltbench(precision: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = Checkpoint(Path(folder) / "checkpoint.pt", every=1e9)
            fit(ours, resident, RECIPE, seed=0, checkpoint=checkpoint, precision=precision)

    def reference_epoch() -> None:
        reference.train_epoch(theirs, batches, optimiser, log_prior)

    reference_epoch()  # starts the worker processes
    return [
        (f"epoch of {count} images, {precision} against fp32", reference_epoch, lambda p=precision: ltbench(p))
        for precision in ("fp32", "bf16")
    ]


def evaluation(count: int) -> list[tuple[str, Callable[[], object], Callable[[], object]]]:
    """Logits of a test set."""
    data = images(count)
    theirs, ours = network(), method()
    batches = reference.loader(reference.PilImages(data.images, data.labels, train=False), train=False)
    resident = Resident(data, reference.MEAN, reference.STD, torch.device("cpu"))
    reference.evaluate(theirs, batches)
    return [
        (
            f"evaluation of {count} images, {precision} against fp32",
            lambda: reference.evaluate(theirs, batches),
            lambda p=precision: expert_logits(ours, resident, p),
        )
        for precision in ("fp32", "bf16")
    ]


def metrics() -> tuple[str, Callable[[], object], Callable[[], object]]:
    """ECE and MCE of many logits."""
    logits = torch.randn(50_000, 1000, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(50_000) % 1000
    arrays = logits.numpy(), labels.numpy()
    return (
        "ECE and MCE of 50,000 x 1,000 logits",
        lambda: reference.ece_and_mce(*arrays),
        lambda: calibration.reliability(calibration.probabilities(logits), labels),
    )


if __name__ == "__main__":
    main()
