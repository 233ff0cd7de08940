"""What a user sees in the terminal while runs are under way, and of a stored run."""

import json
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from optuna.trial import FrozenTrial
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text
from tabulate import tabulate

from ltbench import paths, registry
from ltbench.config import Recipe, RunConfig
from ltbench.errors import LtbenchError, LtbenchWarning
from ltbench.metrics.calibration_error import mce_floor
from ltbench.printable import printable_name
from ltbench.progress import ProgressListener, ProgressUpdate
from ltbench.report.calibration import of_tables
from ltbench.report.collection import shown
from ltbench.report.terminal import Terminal
from ltbench.results import external
from ltbench.results.provenance import hardware
from ltbench.results.schema import Division, FittedFor, Metrics, Result
from ltbench.results.store import Store
from ltbench.runs import sweep
from ltbench.runs import tune as search
from ltbench.runs.estimate import Estimate
from ltbench.runs.options import RunOptions
from ltbench.runs.resolve import resolve

out = Terminal(soft_wrap=True)
FIGURES = {"top1": "top-1", "many": "many", "medium": "medium", "few": "few", "ece": "ECE", "mce": "MCE"}


def run_all(configs: Sequence[RunConfig], options: RunOptions, parallel: int = 1) -> bool:
    """Carry out runs, some at once, behind a progress bar for each; whether all are done."""
    for config in configs:
        resolve(config)  # bad input is found before the first run starts
    if not options.group.is_main:
        with warnings.catch_warnings(action="ignore", category=LtbenchWarning):
            return all(result.status == "done" for result in sweep.run_all(configs, options, lambda *_: None))
    with _bars() as bars:

        def tell(result: Result, recalled: bool) -> None:
            _print_above(bars, line(result, Store(options.out).path(result.config, result.run_id), recalled))

        def name(position: int) -> str:
            return f"{configs[position].method}, seed {configs[position].seed}"

        results = sweep.run_all(configs, replace(options, listener=_bar_for_each_run(bars, name)), tell, parallel)
    return all(result.status == "done" for result in results)


def tune(base: RunConfig, trials: int, folder: Path, options: RunOptions, parallel: int = 1) -> None:
    """Search, with some trials at once, behind a progress bar for each, and say what was found."""
    with _bars() as bars:

        def tell(trial: FrozenTrial) -> None:
            _print_above(bars, _trial(trial))

        options = replace(options, listener=_bar_for_each_run(bars, lambda position: base.method))
        found = search.tune(base, trials, folder, options, tell, parallel)
    out.print(
        f"best of {found.trials} trials ({found.failed} failed): validation macro accuracy {found.accuracy:.2f} %\n"
        f"  {found.best_file}\n"
        f"  {shlex.join(['ltbench', 'run', '--config', str(found.best_file), '--seeds', '0-4', *_folders(base)])}"
    )


def show(result: Result, path: Path) -> None:
    """Print a stored run."""
    result = shown(result)
    config, recipe = result.config, result.config.recipe
    scored, imported = (result.provenance.get(name) for name in (external.SCORED, external.IMPORTED))
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    state = result.status + (f": {result.reason}" if result.reason else "")
    rows = {
        "run": f"{result.run_id} ({state})",
        "file": str(path),
        "method": f"{config.method} {_words(config.hyperparameters)}",
        **({"chosen": _words(result.method.selected)} if result.method.selected else {}),
        "data": f"{config.dataset}, {sum(result.data.trained_on)} training images, "
        f"{max(result.data.counts)} to {min(result.data.counts)} a class",
        **({"scored": f"predictions that ltbench has not made: {_scored(scored)}"} if scored else {}),
        **({"imported": f"weights that ltbench has not trained: {_words(imported)}"} if imported else {}),
        **({"copies": f"of shorter side {config.cache_resized}"} if config.cache_resized else {}),
        **({"decoded": "on a GPU"} if config.decode == "gpu" else {}),
        **({} if scored else {"backbone": f"{config.backbone}, {config.image_size} pixels, {config.precision}"}),
        **_experts(result),
        "recipe": recipe
        if isinstance(recipe, str)
        else f"{recipe.name}: {_words(recipe.model_dump(exclude={'name'}))}",
        "seed": str(config.seed),
        **{name: text for part, metrics in result.metrics.items() for name, text in _of_part(part, metrics).items()},
        **({"cost": _words(result.cost.model_dump(exclude={"divisions"}))} if result.cost else {}),
        **({"divided": _divided(result.cost.divisions)} if result.cost and result.cost.divided else {}),
        "measured with" if scored or imported else "made with": _words(result.provenance.get("versions", {})),
    }
    for name, value in rows.items():
        table.add_row(Text(name), Text(printable_name(value)))
    out.print(table)
    again = external.command(result) or command(config, path, result.cost.divisions if result.cost else ())
    out.print(Text(f"reproduce  {printable_name(again)}"))  # one line, to be copied


def _experts(result: Result) -> dict[str, str]:
    """How several experts divide the backbone, as a row; none for one network."""
    if result.experts is not None:
        return {"experts": str(result.experts)}
    count = len(result.test.expert_mean_probability) if result.test else 0
    return {"experts": f"{count}; which stages they share is not on record"} if count > 1 else {}


def show_estimate(found: Estimate) -> None:
    """Print how long a run is expected to take, and what that rests on."""
    config, recipe, sizes = found.config, found.config.recipe, found.sizes
    assert isinstance(recipe, Recipe)
    about = hardware(found.device)
    machine = about.get("accelerator") or f"{about['processor']}, {about['threads']} threads"
    out.print(
        f"[bold]{escape(config.method)}[/bold] on {escape(config.dataset)}: {config.backbone}, {config.image_size} "
        f"pixels, {len(sizes.counts):,} classes, {found.parameters / 1e6:.1f} M parameters, "
        f"{found.multiply_adds / 1e9:.3g} G multiply-adds an image\n"
        f"{recipe.name} recipe: {recipe.epochs} epochs of {sizes.images:,} images, batches of {recipe.batch_size}, "
        f"{config.precision}; measured on {escape(machine)}"
    )
    rows = [
        (
            str(share.processes), str(share.batch), stage.name, f"{stage.steps:,}", f"{min(stage.seconds):.3g}",
            f"{max(stage.seconds):.3g}", _duration(stage.steps * min(stage.seconds)),
            f"{share.batch / min(stage.seconds):.1f}",
            "n/a" if share.peak_memory is None else f"{share.peak_memory / 2**30:.1f}",
        )
        for share in found.processes
        for stage in share.stages
    ]  # fmt: skip
    processes = max(share.processes for share in found.processes)
    titles = ("processes", "images each", "stage", "steps", "s a step", "longest", "in all", "images/s each", "GiB")
    align = ["left" if title == "stage" else "right" for title in titles]
    if rows:
        out.print(escape(tabulate(rows, titles, "simple", disable_numparse=True, colalign=align)))
        made = "decoding and augmentation, where they do not keep pace (ltbench bench --only loading measures them)"
        left = [made if sizes.streamed else "augmentation"]
        if processes > 1:
            left += [
                f"the exchange of {found.gradient_bytes / 1e6:.0f} MB of gradients after each step",
                *(["that of a batch's pixels, which each process mixes or changes as a whole"] * found.changes_batches),
                *(["what the loss takes in from other processes"] * found.gathers_across_processes),
            ]
        out.print(
            f"steps: {'; '.join(dict.fromkeys(share.how for share in found.processes))}. In all: the shortest, so often"
            f"; not in it: {', and '.join(left)}"
        )
    else:
        out.print("it trains nothing of its own")
    evaluation = _duration(found.evaluation_seconds)
    out.print(f"evaluation of {sizes.test_images:,} test images, in one process: {evaluation}")
    for base in found.starts_from:
        out.print("\nit starts from this run, which is trained once for all that do:")
        show_estimate(base)


def _duration(seconds: float) -> str:
    """Two units of time."""
    minutes, hours, days = seconds / 60, seconds / 3600, seconds / 86400
    if days >= 2:
        return f"{days:.1f} days"
    if hours >= 2:
        return f"{hours:.1f} h"
    return f"{minutes:.1f} min" if minutes >= 2 else f"{seconds:.1f} s"


def show_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table: the first column words, the others numbers; the last row are totals."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for position, head in enumerate(columns):
        table.add_column(head, justify="right" if position else "left", overflow="fold")
    for position, row in enumerate(rows):
        table.add_row(
            *(Text(printable_name(cell)) for cell in row), style="bold" if position == len(rows) - 1 else None
        )
    out.print(table)


def command(config: RunConfig, path: Path, divisions: Sequence[Division] = ()) -> str:
    """The command that runs the same again; for a recipe of the user's own, from the result file.

    Args:
        config: of the run.
        path: of its result.
        divisions: how its batches were divided, of which the last way is repeated.
    """
    recipe = config.recipe
    assert isinstance(recipe, Recipe)
    processes, accumulate = (divisions[-1].processes, divisions[-1].accumulate) if divisions else (1, 1)
    start = ["ltbench", "run"]
    if processes > 1:
        start = ["torchrun", "--standalone", "--nproc-per-node", str(processes), "-m", *start]
    rest = [*_folders(config), *(["--accumulate", str(accumulate)] if accumulate > 1 else []), "--rerun"]
    if not _comes_with_ltbench(recipe, config):
        return shlex.join([*start, "--config", str(path), *rest])
    words = [*start, "--method", config.method, "--dataset", config.dataset]
    options = (
        "imbalance_ratio",
        "data_seed",
        "image_size",
        "cache_resized",
        "batch_norm_images",
        "backbone",
        "precision",
    )
    for flag in options:
        value = getattr(config, flag)
        if value is not None:
            words += [f"--{flag.replace('_', '-')}", _setting(value)]
    words += ["--recipe", recipe.name, "--epochs", str(recipe.epochs), "--lr", _setting(recipe.lr)]
    words += ["--batch-size", str(recipe.batch_size), "--seeds", str(config.seed)]
    flags = ("pretrained", "validation", "keep_classes_without_test_images")
    words += [f"--{flag.replace('_', '-')}" for flag in flags if getattr(config, flag)]
    words += ["--decode-on-gpu"] if config.decode == "gpu" else []
    for name, value in config.hyperparameters.items():
        words += ["--set", f"{name}={_setting(value)}"]
    return shlex.join([*words, *rest])


def _folders(config: RunConfig) -> list[str]:
    """The options for folders that a run needs and a result does not name."""
    words = []
    try:
        known = config.dataset in registry.dataset_names()
        there = not known or registry.dataset(config.dataset).available(paths.data_dir())
    except PermissionError:
        there = False
    words += [] if there else ["--data-dir", "DIR"]
    if config.method not in registry.method_names() or registry.folder_of(config.method):
        words += ["--methods-dir", str(registry.folder_of(config.method) or "DIR")]
    return words


def _comes_with_ltbench(recipe: Recipe, config: RunConfig) -> bool:
    """Whether flags can name it: a file of the user's may be called standard too."""
    flags = {flag: getattr(recipe, flag) for flag in ("epochs", "lr", "batch_size")}
    try:
        return resolve(config.replace(recipe=recipe.name, **flags)).recipe == recipe
    except LtbenchError:
        return False


def _bar_for_each_run(bars: Progress, name: Callable[[int], str]) -> ProgressListener:
    """A listener that shows a bar for every run under way; a run has ended when its update says no words."""
    tasks: dict[int, TaskID] = {}

    def listener(update: ProgressUpdate) -> None:
        if update.message and update.run not in tasks:
            tasks[update.run] = bars.add_task("", total=1.0)
        if update.message:
            description = f"{name(update.run)}: {update.message}"
            bars.update(tasks[update.run], completed=update.fraction, description=description)
        elif update.run in tasks:
            bars.remove_task(tasks.pop(update.run))

    return listener


@contextmanager
def file_bars() -> Iterator[ProgressListener]:
    """A progress bar for each thing that is done to large files."""
    with _bars() as bars:
        tasks: dict[str, TaskID] = {}

        def listener(update: ProgressUpdate) -> None:
            if update.message not in tasks:
                tasks[update.message] = bars.add_task(update.message)
            bars.update(tasks[update.message], completed=update.done, total=update.total or None)

        yield listener


def _bars() -> Progress:
    parts = (TextColumn("{task.description:<28}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    return Progress(
        *parts,
        console=Terminal(stderr=True),
        transient=True,
        redirect_stdout=False,  # results go to standard output, which this would send to standard error
        disable=not sys.stderr.isatty(),
    )


def _print_above(bars: Progress, text: str) -> None:
    bars.stop()
    out.print(text)
    bars.start()


def line(result: Result, path: Path, recalled: bool = False) -> str:
    """A result in a few words, and where it is stored."""
    config = result.config
    head = f"[bold]{_named(config.method)}[/bold] on {_named(config.dataset)}, seed {config.seed}: "
    if result.test is None:
        return head + f"{_named(f'{result.status}: {result.reason}')}\n  {_named(path)}"
    note = " (stored already, not run again; --rerun forces it)" if recalled else ""
    return f"{head}{_figures(result.test)}\n  {_named(path)}{note}"


def _named(text: object) -> str:
    """A name from outside as markup of rich's: in one line, its brackets no tags."""
    return escape(printable_name(str(text)))


def _of_part(part: str, metrics: Metrics) -> dict[str, str]:
    """Lines on the figures of one set of images."""
    lines = {part: _figures(metrics), f"{part}, noise": _noise(metrics), f"{part}, scaled": _scaled(metrics)}
    return {name: text for name, text in lines.items() if text is not None}


def _figures(metrics: Metrics) -> str:
    values = {name: getattr(metrics, field) for field, name in FIGURES.items()}
    shown = {name: f"{name} {'n/a' if value is None else f'{value:.2f}'}" for name, value in values.items()}
    noise = of_tables([metrics.bins])
    if noise is not None:
        shown["ECE"] += f" (noise floor {noise.floor:.2f})"
    return "  ".join(shown.values())


def _noise(metrics: Metrics) -> str | None:
    """What a calibrated model measures on these images."""
    noise = of_tables([metrics.bins])
    if noise is None:
        return None
    mce = mce_floor(np.array(metrics.bins.count, dtype=float), np.array(metrics.bins.confidence))
    return (
        f"a perfectly calibrated model with these confidences measures ECE {noise.floor:.2f} (95 % below "
        f"{noise.floor_limit:.2f}), MCE {mce:.2f}; without noise ECE {noise.debiased:.2f} "
        f"(95 % interval {noise.low:.2f} to {noise.high:.2f})"
    )


def _scaled(metrics: Metrics) -> str | None:
    """What temperature scaling gives, and what the temperature is fitted for."""
    scaled = metrics.temperature_scaled
    about = (scaled or {}).get("fitted_for")
    if scaled is None or not isinstance(about, FittedFor):
        return None
    figures = {name: scaled.get(key) for name, key in {"T": "temperature", "ECE": "ece", "MCE": "mce"}.items()}
    words = "  ".join(f"{name} {value:.2f}" for name, value in figures.items() if isinstance(value, float))
    return f"{words}; {_fitted_for(about)}"


def _fitted_for(about: FittedFor) -> str:
    if about.prior == "validation":
        return "fitted for the class frequencies of the validation images"
    lacking = about.classes_without_images
    return (
        f"fitted on {about.validation_images} validation images, weighted for the class frequencies of the test set "
        f"({about.prior})"
        + ("" if about.effective_images is None else f", worth {about.effective_images:.0f} equally weighted ones")
        + (f"; {lacking} classes have none" if lacking else "")
    )


def _divided(divisions: Sequence[Division]) -> str:
    """How batches were divided over processes and parts."""
    return "; then ".join(
        f"processes={one.processes}, accumulate={one.accumulate}"
        + (f", batch norm over {one.batch_norm_images} images" if one.batch_norm_images else "")
        for one in divisions
    )


def _scored(about: dict[str, str]) -> str:
    return f"{about['file']} (SHA-256 {about['sha256'][:12]}...), labels {about['labels']}"


def _trial(trial: FrozenTrial) -> str:
    reason = trial.user_attrs.get("reason")
    outcome = reason or f"macro {trial.value:.2f}  ECE {trial.user_attrs['ece']:.2f}"
    return _named(f"trial {trial.number}: {_words(trial.user_attrs['hyperparameters'])}: {outcome}")


def _words(values: object) -> str:
    if not isinstance(values, dict):
        return ""
    return ", ".join(f"{name}={f'{v:g}' if isinstance(v, float) else _setting(v)}" for name, v in values.items())


def _setting(value: object) -> str:
    """A value as ``--set`` takes it."""
    if isinstance(value, list | tuple):
        nested = any(isinstance(item, list | tuple) for item in value)
        return json.dumps(value, separators=(",", ":")) if nested or len(value) < 2 else ",".join(map(_setting, value))
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return str(value).removesuffix(".0")
    return "null" if value is None else str(value)
