"""How cost grows: time and peak memory against experts, classes, images and stored results.

    python -m ltbench_speed.growth [experts] [classes] [images] [results] [aggregates] [activations] [recomputed]

Every point is measured in a process of its own, whose peak memory is that of the point. Writes growth.csv and a plot
for each into benchmarks/speed.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ltbench import registry
from ltbench.data.images import LabelledImages
from ltbench.data.loading.epoch import Epoch
from ltbench.method import ClassPrior, Method, Shuffled, Stage, at_rest
from ltbench.metrics import calibration
from ltbench.models.backbone import Backbone
from ltbench.report.collection import collect, no_search_for_cycles
from ltbench.report.leaderboard import leaderboards
from ltbench.training.activation_checkpointing import activation_checkpointing
from ltbench.training.step import Step
from ltbench_speed.contests import BASIC, BATCH, CLASSES, images, in_memory, method, sgd

HERE = Path(__file__).parent
RESULTS = HERE.parent.parent / "results/suites/digits-lt/balpoe/"
CPU = torch.device("cpu")


def experts(count: int) -> float:
    """A training step of BalPoE, ResNet-32, batch 128, fp32."""
    return _step(method(CPU, experts=count), CLASSES)


def classes(count: int) -> float:
    """A training step with three experts, and the calibration figures of 2,000 images."""
    seconds = _step(method(CPU, classes=count), count)
    logits = torch.randn(2000, count, generator=torch.Generator().manual_seed(0))
    began = time.perf_counter()
    calibration.calibration(logits, torch.arange(2000) % count)
    return seconds + time.perf_counter() - began


def activations(count: int) -> float:
    """A training step of BalPoE, three experts, ResNet-50, 224 pixels, fp32."""
    return _large_step(count, checkpoint_activations=False)


def recomputed_activations(count: int) -> float:
    """The same step with --checkpoint-activations."""
    return _large_step(count, checkpoint_activations=True)


def _large_step(count: int, *, checkpoint_activations: bool) -> float:
    build = Backbone("resnet50", classes=1000, channels=3, image_size=224, head="cosine")
    cls = registry.method("balpoe")
    made = cls(build, ClassPrior(torch.full((1000,), 10)), cls.Config()).to(memory_format=torch.channels_last)
    with activation_checkpointing(made.network) if checkpoint_activations else nullcontext():
        return _step(made, 1000, images(count, 1000, 224), 2)


def _step(made: Method, classes: int, data: LabelledImages | None = None, times: int = 5) -> float:
    step = Step(made, sgd(made), torch.zeros(2, dtype=torch.float64))
    data = data or images(BATCH, classes)
    batch, progress = next(in_memory(data, CPU).eval_batches(len(data.labels))), at_rest(Stage())
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        step(made.prepare(batch, progress), progress)
        taken.append(time.perf_counter() - began)
    return min(taken)


def images_in_memory(count: int) -> float:
    """An epoch of augmented batches, without the network."""
    data = in_memory(images(count), CPU)
    taken = []
    for number in range(3):
        began = time.perf_counter()
        place = ("train", number)
        epoch = Epoch(
            data,
            {"main": Shuffled(count)},
            views=("train",),
            how={"train": BASIC},
            batch_size=BATCH,
            seed=0,
            place=place,
        )
        for step in range(len(epoch)):
            epoch.batch(step)
        taken.append(time.perf_counter() - began)
    return min(taken)


def results(count: int) -> float:
    """Leaderboards of so many stored runs, files read and all."""
    return sum(_leaderboards(count))


def aggregates(count: int) -> float:
    """Leaderboards of so many runs that have been read: means, intervals, tests and ranks."""
    return _leaderboards(count)[1]


def _leaderboards(count: int) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as folder, no_search_for_cycles():
        store_results(Path(folder), count)
        began = time.perf_counter()
        stored = collect([Path(folder)])
        read = time.perf_counter()
        (board,) = leaderboards(stored)
        done = time.perf_counter()
    assert len(board.rows) == 10
    return read - began, done - read


def store_results(folder: Path, count: int) -> None:
    """Write so many results: stored ones over and over, as ten mixup strengths of the same seeds."""
    texts = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    for i in range(count):
        text = texts[(i + i // 10) % len(texts)]
        text["run_id"], text["config"]["seed"] = f"{i:012x}", i // 10
        text["config"]["hyperparameters"] = {"mixup": i % 10 / 10}
        (folder / f"{i:012x}.json").write_text(json.dumps(text, indent=1) + "\n")


WHAT: dict[str, tuple[Callable[[int], float], tuple[int, ...], str]] = {
    "experts": (experts, (1, 2, 3, 4, 5, 6, 7), "experts"),
    "classes": (classes, (10, 100, 1000, 3000, 8142), "classes"),
    "images": (images_in_memory, (10_000, 30_000, 100_000, 300_000, 1_000_000), "training images of 32 x 32 pixels"),
    "results": (results, (100, 1000, 10_000, 30_000), "stored results"),
    "activations": (activations, (8, 16, 32), "images of a batch"),
    "recomputed": (recomputed_activations, (8, 16, 32), "images of a batch"),
    "aggregates": (aggregates, (100, 1000, 10_000, 30_000), "results"),
}


def measure(what: str) -> pd.DataFrame:
    """Seconds and peak memory of every point, each in a process of its own."""
    rows = []
    for count in WHAT[what][1]:
        command = [sys.executable, "-m", "ltbench_speed.growth", "--point", what, str(count)]
        seconds, peak = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        rows.append({"what": what, "count": count, "seconds": seconds, "peak_gib": peak / 2**30})
        print(rows[-1], file=sys.stderr)
    return pd.DataFrame(rows)


def plot(points: pd.DataFrame, path: Path) -> None:
    """Time and memory side by side, with the line of growth in proportion."""
    import matplotlib.pyplot as plt

    function, counts, name = WHAT[points["what"].iloc[0]]
    scale = "linear" if max(counts) / min(counts) < 100 else "log"
    figure, axes = plt.subplots(1, 2, figsize=(7, 2.8), layout="constrained")
    for axis, column, label in zip(axes, ("seconds", "peak_gib"), ("seconds", "peak memory, GiB"), strict=True):
        axis.plot(points["count"], points[column], "o-", color="#0072b2")
        axis.set(xscale=scale, yscale=scale if column == "seconds" else "linear", xlabel=name, ylabel=label)
        axis.grid(alpha=0.3)
    last = points.iloc[-1]
    line = np.array([points["count"].min(), last["count"]])
    axes[0].plot(line, line * last["seconds"] / last["count"], "--", color="#999999", label="in proportion")
    axes[0].legend(frameon=False)
    axes[1].set_ylim(0, 1.1 * points["peak_gib"].max())
    figure.suptitle((function.__doc__ or "").rstrip("."), fontsize="medium")
    figure.savefig(path)
    plt.close(figure)


def main() -> None:
    """Measure and plot what the command line names, or everything."""
    if sys.argv[1:2] == ["--point"]:
        seconds = WHAT[sys.argv[2]][0](int(sys.argv[3]))
        print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024]))
        return
    table = HERE / "growth.csv"
    points = pd.read_csv(table) if table.exists() else pd.DataFrame()
    for what in sys.argv[1:] or WHAT:
        new = measure(what)
        points = pd.concat([points[points["what"] != what] if len(points) else points, new])
        plot(new, HERE / f"growth-{what}.svg")
        points.to_csv(table, index=False, float_format="%.4g")


if __name__ == "__main__":
    main()
