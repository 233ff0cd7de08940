"""Whole commands that a table names: to train what it lacks, on the same data, and to use one of its runs."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ltbench.config import FEATURE_VIEWS, Recipe, RunConfig
from ltbench.config.command_line import label_words, run_words
from ltbench.config.format_settings import format_value
from ltbench.files.paths import DEFAULT_RESULTS
from ltbench.registry.declared import data_set, hyperparameter_defaults, recipe_of
from ltbench.report.collection import Collection
from ltbench.results.schema import Result
from ltbench.results.store import folder_of

_NEED_NO_FOLDER = ("digits-lt",)
"""Data sets that come with ltbench's own dependencies."""


def run_commands(run_ids: Iterable[str], stored: Collection, *, seeds: str, epochs: int | None = None) -> list[str]:
    """Commands that train the settings of some runs with other seeds, one for all methods at their defaults.

    Args:
        run_ids: one run of each setting.
        stored: has them.
        seeds: for ``--seeds``.
        epochs: length of the training; None for that of the runs.
    """
    groups: dict[tuple[str, ...], list[str]] = {}
    for run_id in run_ids:
        words = _words(stored.results[run_id], stored.paths[run_id], seeds, epochs)
        groups.setdefault(words, []).append(stored.results[run_id].config.method)
    return [
        shlex.join(
            ["ltbench", "run", *(",".join(dict.fromkeys(methods)) if word is _METHODS else word for word in words)]
        )
        for words, methods in groups.items()
    ]


_METHODS = "METHODS"
"""Stands for the methods of a command."""


def predict_command(result: Result, path: Path) -> str:
    """The command that labels new images with a run."""
    folder = folder_of(Path(path), result.config)
    config = result.config
    own = hyperparameter_defaults(config.method, config.dataset, config.imbalance_ratio) is None
    words = ["--methods-dir", "DIR"] if own else []
    words += [] if folder == DEFAULT_RESULTS else ["--results", str(folder)]
    return shlex.join(["ltbench", "predict", result.run_id, "NEW_IMAGES", *words])


def _words(result: Result, path: Path, seeds: str, epochs: int | None) -> tuple[str, ...]:
    """The options; those of settings that differ in their method only are equal."""
    config, recipe = result.config, result.recipe
    own = hyperparameter_defaults(config.method, config.dataset, config.imbalance_ratio)
    defaults = result.method.defaults if own is None else own
    ours = [] if own is not None else ["--methods-dir", "DIR"]
    folder = [] if config.dataset in _NEED_NO_FOLDER else ["--data-dir", result.data.folder or "DIR"]
    where = folder_of(Path(path), config)
    folder += label_words(result.data.labels, result.data.label_columns)
    rest = [*folder, *ours, *([] if where == DEFAULT_RESULTS else ["--out", str(where)])]
    usual = recipe_of(recipe.name, config.dataset, config.train) if recipe else None
    if recipe is None or usual is None or not _flags_tell(recipe, usual):
        longer = [] if epochs is None else ["--epochs", str(epochs)]
        return ("--config", str(path), *longer, "--seeds", seeds, *rest)
    if epochs is not None:
        recipe = recipe.model_copy(update={"epochs": epochs})
        config = config.model_copy(update={"recipe": recipe})
    left_out = {name for name, value in (defaults or {}).items() if config.hyperparameters.get(name) == value}
    left_out |= {name for name in ("epochs", "lr", "batch_size") if getattr(recipe, name) == getattr(usual, name)}
    left_out |= {name for name, value in _usual_of_run(config).items() if getattr(config, name) == value}
    return (*run_words(config, methods=_METHODS, seeds=seeds, leave_out=left_out), *rest)


def _usual_of_run(config: RunConfig) -> Mapping[str, Any]:
    known = data_set(config.dataset)
    of_data = {"image_size": known.image_size, "backbone": known.backbone} if known else {}
    if config.starts_from_weights:  # which have a size of their own
        of_data.pop("image_size", None)
    return {"data_seed": 0, "precision": "fp32", "feature_views": FEATURE_VIEWS, **of_data}


def _flags_tell(recipe: Recipe, usual: Recipe) -> bool:
    """Whether flags can name a recipe: what they cannot say, it has as usual; the head is the method's."""
    flags = {name: getattr(recipe, name) for name in ("epochs", "lr", "batch_size", "head")}
    return usual.model_copy(update=flags) == recipe


def seeds_text(seeds: Sequence[int]) -> str:
    """Seeds as ``--seeds`` takes them, e.g. "0-4" or "0,2"."""
    ordered = sorted(seeds)
    if ordered == list(range(ordered[0], ordered[-1] + 1)) and len(ordered) > 1:
        return f"{ordered[0]}-{ordered[-1]}"
    return ",".join(format_value(seed) for seed in ordered)
