"""What ``ltbench estimate`` prints: the timed steps, and what they say of a whole run."""

from typing import Any

from rich.markup import escape
from tabulate import tabulate

from ltbench.cli.console import console, print_text
from ltbench.config import Recipe, ResolvedRun, RunConfig
from ltbench.report.collection import Collection
from ltbench.results.provenance import hardware
from ltbench.runs.estimate import TimeEstimate

_HEADER = {
    "processes": "right",
    "images\neach": "right",
    "stage": "left",
    "steps": "right",
    "s/step": "right",
    "longest": "right",
    "total": "right",
    "images/s\neach": "right",
    "GiB": "right",
}
"""Column -> its alignment."""


def show_estimate(found: TimeEstimate, stored: Collection) -> None:
    """Print how long a run is expected to take, and what the estimate rests on and leaves out.

    Args:
        found: the estimate.
        stored: results, whose rates on GPUs stand beside it.
    """
    print_text(_answer(found, stored))
    print_text(_setup(found))
    rows = _rows(found)
    if rows:
        table = tabulate(rows, list(_HEADER), "simple", disable_numparse=True, colalign=list(_HEADER.values()))
        console.print(escape(table))
        print_text(_how(found))
    else:
        print_text("the method trains nothing of its own")
    evaluation = duration(found.evaluation_seconds)
    print_text(f"evaluation of {found.sizes.test_images:,} test images, in one process: {evaluation}")
    if found.encoding is not None:
        print_text(
            f"features of {found.encoding.images:,} images, augmented views among them, once for all methods and "
            f"seeds: {duration(found.encoding.seconds)}, without decoding and augmentation"
        )
    for base in found.starts_from:
        print_text("\nit starts from this run, which is trained once for all methods that start from it:")
        show_estimate(base, stored)


def _answer(found: TimeEstimate, stored: Collection) -> str:
    """How long a run takes, in a line for this machine and for each GPU on which its rate was measured."""
    device = "GPU" if found.device.type == "cuda" else "CPU"
    counts = [one.processes for one in found.processes]
    where = f"this {device}" if counts[0] == 1 else f"{counts[0]} such {device}s"
    lines = [f"[bold]{escape(found.run.config.method)}: about {duration(found.seconds)} on {where}[/bold]"]
    for accelerator, rate in sorted(measured_rates(found.run, stored).items()):
        training = found.processes[0]
        images = sum(stage.steps for stage in training.stages) * found.run.recipe.batch_size
        lines.append(
            f"{duration(images / rate)} of training on {escape(accelerator)}, at the {rate:,.0f} images/s of a "
            "stored result"
        )
    return "\n".join(lines)


def measured_rates(run: ResolvedRun, stored: Collection) -> dict[str, float]:
    """Training images per second by GPU, the highest of results of one process whose steps are those of a run.

    Args:
        run: whose length, seed and images do not matter.
        stored: results.
    """
    rates: dict[str, float] = {}
    for result in stored.results.values():
        accelerator = result.provenance.get("hardware", {}).get("accelerator")
        rate = result.cost.training_images_per_second if result.cost else None
        alone = result.cost is not None and all(one.processes == 1 for one in result.cost.divisions)
        if accelerator and rate and alone and result.status == "done" and _step(result.config) == _step(run.config):
            rates[accelerator] = max(rate, rates.get(accelerator, 0.0))
    return rates


def _step(config: RunConfig) -> dict[str, Any]:
    """What makes a training step of a run as long as it is."""
    batch = config.recipe.batch_size if isinstance(config.recipe, Recipe) else None
    names = {
        *("method", "hyperparameters", "dataset", "backbone", "image_size", "precision"),
        *("cache_resized", "decode", "train"),
    }
    return {**config.model_dump(include=names), "batch_size": batch}


def _setup(found: TimeEstimate) -> str:
    """What would be trained, and on which machine steps were timed; rich's markup."""
    config, recipe, sizes = found.run.config, found.run.recipe, found.sizes
    about = hardware(found.device)
    machine = about.get("accelerator") or f"{about['processor']}, {about['threads']} threads"
    return (
        f"[bold]{escape(config.method)}[/bold] on {escape(config.dataset)}: {config.backbone}, {config.image_size} "
        f"pixels, {len(sizes.counts):,} classes, {found.parameters / 1e6:.1f} M parameters, "
        f"{found.multiply_adds / 1e9:.3g} G multiply-adds per image\n"
        f"{recipe.name} recipe: {recipe.epochs} epochs of {sizes.images:,} images, batch size {recipe.batch_size}, "
        f"{config.precision}; measured on {escape(machine)}"
    )


def _rows(found: TimeEstimate) -> list[tuple[str, ...]]:
    """A row for each number of processes and each stage."""
    rows: list[tuple[str, ...]] = []
    for one in found.processes:
        for stage in one.stages:
            shortest = min(stage.seconds)
            memory = "n/a" if one.peak_memory is None else f"{one.peak_memory / 2**30:.1f}"
            rows.append(
                (
                    str(one.processes),
                    str(one.batch),
                    stage.name,
                    f"{stage.steps:,}",
                    f"{shortest:.3g}",
                    f"{max(stage.seconds):.3g}",
                    duration(stage.steps * shortest),
                    f"{one.batch / shortest:.1f}",
                    memory,
                )
            )
    return rows


def _how(found: TimeEstimate) -> str:
    """How steps are carried out, and what the total leaves out."""
    loading = "decoding and augmentation, where they do not keep pace (ltbench bench --only loading measures them)"
    not_timed = [loading if found.sizes.streamed else "augmentation"]
    if max(one.processes for one in found.processes) > 1:
        not_timed.append(f"the exchange of {found.gradient_bytes / 1e6:.0f} MB of gradients after each step")
        if found.changes_batches:
            not_timed.append("the exchange of the pixels of batches that are mixed or changed as a whole")
        if found.gathers_across_processes:
            not_timed.append("what the loss gathers from other processes")
    how = "; ".join(dict.fromkeys(one.execution for one in found.processes))
    timed = next((one.timed for one in found.processes if one.timed != (one.batch,)), None)
    small = ""
    if timed is not None:
        images = " and ".join(map(str, timed))
        small = f" Steps of {images} images were timed; time and memory of a batch follow from them on a straight line."
    return f"steps: {how}.{small} Total: steps times the shortest step, without {', and '.join(not_timed)}"


def duration(seconds: float) -> str:
    """A time in the unit that suits it."""
    minutes, hours, days = seconds / 60, seconds / 3600, seconds / 86400
    if days >= 2:
        return f"{days:,.0f} days" if days >= 20 else f"{days:.1f} days"
    if hours >= 2:
        return f"{hours:.1f} h"
    return f"{minutes:.1f} min" if minutes >= 2 else f"{seconds:.1f} s"
