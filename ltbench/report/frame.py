"""Stored results as a pandas frame, one row a run."""

from pathlib import Path
from typing import Any

import pandas as pd

from ltbench.config import canonical_json
from ltbench.config.format_settings import flatten
from ltbench.config.recipes import PAPER
from ltbench.files.paths import DEFAULT_RESULTS
from ltbench.printable import printable_name
from ltbench.registry.declared import data_set
from ltbench.report.collection import LONG, Collection, collect
from ltbench.results.schema import Result

METRICS = (
    "top1",
    "macro",
    "many",
    "medium",
    "few",
    "worst_class",
    "nll",
    "brier",
    "ece",
    "mce",
    "overconfidence",
    "adaptive_ece",
    "classwise_ece",
)
COSTS = ("parameters", "multiply_adds", "training_seconds", "training_images_per_second", "peak_memory_bytes")


def load_results(*folders: str | Path) -> pd.DataFrame:
    """Read every result below some folders; see ``frame`` for the columns.

    Args:
        folders: results folders; a run that stands in several is taken once, or not at all if its copies contradict
            each other.

    Returns:
        One row a run. Files that could not be read or count are listed as messages in ``frame.attrs["problems"]``.

    Raises:
        LtbenchError: if a folder is not there.
    """
    stored = collect(folders or (DEFAULT_RESULTS,), LONG)
    rows = frame(stored)
    rows.attrs["problems"] = stored.left_out
    return rows


def frame(stored: Collection) -> pd.DataFrame:
    """One row a run.

    Columns: ``run_id``, ``status``, the settings (``recipe.lr``, ``hyperparameters.mixup`` and so on), the test metrics
    in percent, costs, ``hardware`` (as JSON), ``path``, ``setting`` (equal for runs that differ in their seed only) and
    ``table`` (equal for runs that one leaderboard may hold).
    """
    shared: dict[tuple[Any, ...], dict[str, Any]] = {}
    rows, keys = [], []
    hardware = _JsonOfShared()
    for run_id, result in stored.results.items():
        keys.append(_settings_key(result))
        if keys[-1] not in shared:
            shared[keys[-1]] = _settings(result)
        rows.append(_row(result, stored.paths[run_id], hardware))
    own = pd.DataFrame(rows)
    place = {key: i for i, key in enumerate(shared)}
    settings = pd.DataFrame(list(shared.values())).take([place[key] for key in keys]).reset_index(drop=True)
    return pd.concat([own.iloc[:, :4], settings, own.iloc[:, 4:]], axis=1)


class _JsonOfShared:
    """``canonical_json``, worked out once for an object that many results share; as long as these are there."""

    def __init__(self) -> None:
        self._known: dict[int, str] = {}

    def __call__(self, value: object) -> str:
        if (text := self._known.get(id(value))) is None:
            text = self._known[id(value)] = canonical_json(value)
        return text


def _row(result: Result, path: Path, json_of: _JsonOfShared) -> dict[str, Any]:
    """What a run has for itself."""
    test, cost = (vars(part) if part else {} for part in (result.test, result.cost))
    return {
        "run_id": result.run_id,
        "status": result.status,
        "reason": result.reason,
        "seed": result.config.seed,
        **{name: test.get(name) for name in METRICS},
        **{name: cost.get(name) for name in COSTS},
        "hardware": json_of(result.provenance.get("hardware", _UNKNOWN)) + _processes(result),
        "tuning_trials": (result.tuning or {}).get("trials"),
        "path": printable_name(str(path)),
    }


_UNKNOWN: dict[str, Any] = {}


def _processes(result: Result) -> str:
    """For example " x 8" for training in 8 processes, whose times do not compare with those of one."""
    most = max((one.processes for one in result.cost.divisions), default=1) if result.cost else 1
    return f" x {most}" if most > 1 else ""


def _settings_key(result: Result) -> tuple[Any, ...]:
    """Equal for runs that differ in their seed only, if they share their recipe, whose JSON takes long."""
    config, method, cost = result.config, result.method, result.cost
    return (
        id(config.recipe),
        config.model_dump_json(exclude=_OF_A_RUN),
        method.revision,
        tuple(result.data.fingerprints.items()),
        method.transductive,
        method.track,
        batch_norm_images(result),
        cost.parameters if cost else None,
    )


_OF_A_RUN = {"seed", "recipe"}


def batch_norm_images(result: Result) -> str | None:
    """Number of images per group of batch-norm statistics, where that was less than a batch and so changes results."""
    if result.cost is None or not result.cost.divided:
        return None
    shared = dict.fromkeys(one.batch_norm_images for one in result.cost.divisions)
    whole = shared.keys() <= {None, result.recipe.batch_size if result.recipe else None}
    return None if whole else ", then ".join(map(str, shared))


def _settings(result: Result) -> dict[str, Any]:
    """The columns that runs share which differ in their seed only."""
    settings = result.config.model_dump(mode="json", exclude={"seed"})
    if isinstance(settings["recipe"], str):  # a scored model names a recipe and has no settings of it
        settings["recipe"] = {"name": settings["recipe"]}
    settings["backbone"] = settings["backbone"] or declared_backbone(
        settings["dataset"], settings["recipe"].get("epochs")
    )
    data, revision = canonical_json(result.data.fingerprints), result.method.revision
    batch_norm, parameters = batch_norm_images(result), result.cost.parameters if result.cost else None
    row = {
        **flatten(settings),
        "revision": revision,
        "data": data,
        "transductive": result.method.transductive,
        "comparison_group": result.method.track or "",
        "batch_norm_images": batch_norm or settings["batch_norm_images"],
        # Equal settings and another number of parameters: experts that share other stages of the backbone.
        "setting": canonical_json([settings, revision, data, *([batch_norm] if batch_norm else []), parameters]),
    }
    # Authors train for as long as each sees fit; other recipes are compared at one length.
    row["table_epochs"] = None if row["recipe.name"] == PAPER else row.get("recipe.epochs")
    return {**row, "table": canonical_json([row[name] for name in TABLE_KEYS])}


def declared_backbone(dataset: str, epochs: int | None) -> str | None:
    """The backbone of a scored model whose recipe is declared: that of the data set, as for the rows beside it.

    Args:
        dataset: its name.
        epochs: of the declared recipe; None: there is none.
    """
    known = data_set(dataset)
    return known.backbone if known is not None and epochs is not None else None


TABLE_KEYS = (
    "dataset",
    "imbalance_ratio",
    "imbalance",
    "class_order",
    "data_seed",
    "image_size",
    "backbone",
    "pretrained",
    "weights",
    "precision",
    "validation",
    "recipe.name",
    "table_epochs",
    "transductive",
    "comparison_group",
    "data",
)
"""What all rows of one leaderboard share; where these differ, accuracies are not comparable."""
