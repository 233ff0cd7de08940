"""What ``ltbench show`` prints of a stored run: settings, metrics, costs, and the command that repeats it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from rich.table import Table
from rich.text import Text

from ltbench.cli.console import console
from ltbench.cli.reproduce import reproduce_command
from ltbench.cli.result_line import metrics_line
from ltbench.config import Recipe
from ltbench.config.format_settings import format_settings
from ltbench.metrics.calibration_noise import mce_floor
from ltbench.printable import printable_name
from ltbench.registry.declared import display_name
from ltbench.report.calibration import of_tables
from ltbench.report.collection import shown
from ltbench.report.search_budget import search_budget
from ltbench.results import external
from ltbench.results.records import BatchSplit, FittedFor, Metrics
from ltbench.results.schema import Result


def show(result: Result, path: Path) -> None:
    """Print a stored run as a table, and the command that repeats it."""
    result = shown(result)
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _rows(result, path).items():
        table.add_row(Text(name), Text(printable_name(value)))
    console.print(table)
    splits = result.cost.divisions if result.cost else ()
    again = external.command(result) or reproduce_command(result, path, splits)
    console.print(Text(f"reproduce  {printable_name(again)}"))  # one line, to be copied


def _rows(result: Result, path: Path) -> dict[str, str]:
    config, recipe, cost = result.config, result.config.recipe, result.cost
    scored, imported = (result.provenance.get(name) for name in (external.SCORED, external.IMPORTED))
    data = result.data
    state = result.status + (f": {result.reason}" if result.reason else "")
    rows = {
        "run": f"{result.run_id} ({state})",
        "file": str(path),
        "method": f"{_method(result)} {format_settings(config.hyperparameters)}",
        "selected": format_settings(result.method.selected),
        "data": f"{config.dataset}, {sum(data.trained_on)} training images, {max(data.counts)} to {min(data.counts)} "
        "per class",
        "scored": f"predictions of a model that ltbench has not trained: {_scored(scored)}" if scored else "",
        "imported": f"weights that ltbench has not trained: {format_settings(imported)}" if imported else "",
        "resize cache": f"shorter side {config.cache_resized}" if config.cache_resized else "",
        "decoding": "on a GPU" if config.decode == "gpu" else "",
        "backbone": "" if scored else f"{config.backbone}, {config.image_size} pixels, {config.precision}",
        "experts": _experts(result),
        "recipe": _recipe(recipe),
        "augmentation": _augmentation(recipe, "augment"),
        "contrast views": _augmentation(recipe, "contrast"),
        "seed": str(config.seed),
        "tuned by": search_budget(result.tuning),
    }
    for part, metrics in result.metrics.items():
        rows |= _metrics_rows(part, metrics)
    if cost is not None:
        rows["cost"] = format_settings(cost.model_dump(exclude={"divisions"}))
        rows["batches"] = _splits(cost.divisions) if cost.divided else ""
    versions = result.provenance.get("versions", {})
    rows["measured with" if scored or imported else "made with"] = (
        format_settings(versions) if isinstance(versions, dict) else ""
    )
    required = ("made with", "measured with", "method")
    return {name: text for name, text in rows.items() if text or name in required}


def _recipe(recipe: Recipe | str) -> str:
    if isinstance(recipe, str):
        return recipe
    return f"{recipe.name}: {format_settings(recipe.model_dump(exclude={'name', 'augment', 'contrast'}))}"


def _augmentation(recipe: Recipe | str, views: Literal["augment", "contrast"]) -> str:
    """How images are augmented: what is not at its default, which is off; empty where that is not on record."""
    augment = None if isinstance(recipe, str) else getattr(recipe, views)
    return "" if augment is None else format_settings(augment.model_dump(exclude_defaults=True)) or "none"


def _method(result: Result) -> str:
    """The name of a method, with that of papers where it is another."""
    name = result.config.method
    shown = result.method.name or display_name(name)
    return name if shown == name else f"{name} ({shown})"


def _experts(result: Result) -> str:
    """How several experts share the backbone; empty for one network."""
    if result.experts is not None:
        return str(result.experts)
    count = len(result.test.expert_mean_probability) if result.test else 0
    return f"{count}; the stages that they share are not on record" if count > 1 else ""


def _metrics_rows(part: str, metrics: Metrics) -> dict[str, str]:
    """Rows on the metrics of one set of images."""
    return {part: metrics_line(metrics), f"{part}, noise": _noise(metrics), f"{part}, scaled": _scaled(metrics)}


def _noise(metrics: Metrics) -> str:
    """What a calibrated model measures on these images; empty where it is not known."""
    noise = of_tables([metrics.bins])
    if noise is None:
        return ""
    mce = mce_floor(np.array(metrics.bins.count, dtype=float), np.array(metrics.bins.confidence))
    return (
        f"a perfectly calibrated model with these confidences measures ECE {noise.floor:.2f} (95 % below "
        f"{noise.floor_limit:.2f}), MCE {mce:.2f}; debiased ECE {noise.debiased:.2f} "
        f"(95 % interval {noise.low:.2f} to {noise.high:.2f})"
    )


def _scaled(metrics: Metrics) -> str:
    """The temperature, what it gives, and what it is fitted for; empty without one."""
    scaled = metrics.temperature_scaled
    about = (scaled or {}).get("fitted_for")
    if scaled is None or not isinstance(about, FittedFor):
        return ""
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


def _splits(splits: Sequence[BatchSplit]) -> str:
    """How batches were split over processes and gradient-accumulation steps."""
    return "; then ".join(
        f"processes={one.processes}, accumulate={one.accumulate}"
        + (f", batch norm over {one.batch_norm_images} images" if one.batch_norm_images else "")
        for one in splits
    )


def _scored(about: dict[str, str]) -> str:
    return f"{about['file']} (SHA-256 {about['sha256'][:12]}...), labels {about['labels']}"
