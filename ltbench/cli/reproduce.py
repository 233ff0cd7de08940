"""The command that repeats a stored run."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from ltbench import registry
from ltbench.config import Recipe, RunConfig
from ltbench.config.command_line import label_words, run_words
from ltbench.errors import LtbenchError
from ltbench.files import paths
from ltbench.results.records import BatchSplit
from ltbench.results.schema import Result
from ltbench.runs.resolve import resolve


def reproduce_command(result: Result, path: Path, splits: Sequence[BatchSplit] = ()) -> str:
    """The command that repeats a run; for a recipe of the user's own, from the result file.

    Args:
        result: of the run.
        path: of its result.
        splits: how its batches were split, of which the last way is repeated.
    """
    config, recipe = result.config, result.config.full_recipe
    processes, accumulate = (splits[-1].processes, splits[-1].accumulate) if splits else (1, 1)
    start = ["ltbench", "run"]
    if processes > 1:
        start = ["torchrun", "--standalone", "--nproc-per-node", str(processes), "-m", *start]
    labels = label_words(result.data.labels, result.data.label_columns)
    rest = [*folder_options(config), *labels, *(["--accumulate", str(accumulate)] if accumulate > 1 else []), "--rerun"]
    if not _comes_with_ltbench(recipe, config):
        return shlex.join([*start, "--config", str(path), *rest])
    words = [*start, *run_words(config, methods=config.method, seeds=str(config.seed))]
    return shlex.join([*words, *rest])


def folder_options(config: RunConfig, data_dir: Path | None = None) -> list[str]:
    """The options for folders that a run needs and a result does not name.

    Args:
        config: of the run.
        data_dir: folder of its data, where that is known.
    """
    try:
        known = config.dataset in registry.dataset_names()
        # Whether the usual folder has the user's images, nobody can tell by its looks.
        available = not known or (
            config.dataset != "folder-lt" and registry.dataset(config.dataset).available(paths.data_dir())
        )
    except PermissionError:
        available = False
    if data_dir is not None and (config.dataset == "folder-lt" or data_dir != paths.data_dir()):
        words = ["--data-dir", str(data_dir)]
    else:
        words = [] if available else ["--data-dir", "DIR"]
    if config.method not in registry.method_names() or registry.folder_of(config.method):
        words += ["--methods-dir", str(registry.folder_of(config.method) or "DIR")]
    return words


def _comes_with_ltbench(recipe: Recipe, config: RunConfig) -> bool:
    """Whether flags can name the recipe: a file of the user's may be called standard, too."""
    flags = {flag: getattr(recipe, flag) for flag in ("epochs", "lr", "batch_size")}
    try:
        return resolve(config.replace(recipe=recipe.name, **flags)).recipe == recipe
    except LtbenchError:
        return False
