"""Stored results as a pandas frame, one row a run."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ltbench.config import canonical_json
from ltbench.errors import LtbenchError, unknown
from ltbench.store import Result, read

METRICS = (
    "top1", "macro", "many", "medium", "few", "worst_class",
    "nll", "brier", "ece", "mce", "overconfidence", "adaptive_ece", "classwise_ece",
)  # fmt: skip
COSTS = ("parameters", "multiply_adds", "training_seconds", "training_images_per_second", "peak_memory_bytes")


def load_results(*folders: str | Path) -> pd.DataFrame:
    """Read every result below some folders.

    Args:
        folders: results folders; a run that stands in several is taken from the first in which it is done.

    Returns:
        One row a run: ``run_id``, ``status``, the settings (``recipe.lr``, ``hyperparameters.mixup`` and so on),
        the test metrics in percent, costs, ``path``, ``setting`` (equal for runs that differ in their seed only)
        and ``table`` (equal for runs that may stand in one table). Files that could not be read are listed as
        messages in ``frame.attrs["problems"]``.

    Raises:
        LtbenchError: if a folder is not there.
    """
    rows: dict[str, dict[str, Any]] = {}
    problems: list[str] = []
    for folder in folders or ("results",):
        for path in _files(Path(folder)):
            try:
                result = read(path)
            except LtbenchError as error:
                problems.append(str(error))
            else:
                if result.run_id not in rows or rows[result.run_id]["status"] != "done":
                    rows[result.run_id] = _row(result, path)
    frame = pd.DataFrame(list(rows.values()))
    frame.attrs["problems"] = problems
    return frame


def _files(folder: Path) -> Sequence[Path]:
    if not folder.is_dir():
        raise LtbenchError(
            "the results folder is not there",
            where=folder.absolute(),
            hint="ltbench run makes one; see --results",
        )
    return sorted(path for path in folder.rglob("*.json") if not path.name.startswith("."))


def _row(result: Result, path: Path) -> dict[str, Any]:
    shared = result.config.without_seed()
    metrics = result.test.model_dump(include=set(METRICS)) if result.test else {}
    costs = result.cost.model_dump(include=set(COSTS)) if result.cost else {}
    row = {
        "run_id": result.run_id,
        "status": result.status,
        "reason": result.reason,
        "seed": result.config.seed,
        **flatten(shared),
        "revision": result.method.revision,
        "data": canonical_json(result.data.fingerprints),
        "transductive": result.method.transductive,
        "track": result.method.track or "",
        **{name: metrics.get(name) for name in METRICS},
        **{name: costs.get(name) for name in COSTS},
        "tuning_trials": (result.tuning or {}).get("trials"),
        "path": str(path),
    }
    row["setting"] = canonical_json([shared, row["revision"], row["data"]])
    row["table"] = canonical_json([row[name] for name in TABLE_KEYS])
    return row


def of_methods(runs: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """The runs of some methods.

    Args:
        runs: as ``load_results`` gives them.
        names: of the methods; none for all.

    Raises:
        LtbenchError: if there is no run of one of them.
    """
    there = set(runs["method"]) if len(runs) else set()
    for name in names:
        if name not in there:
            raise unknown("method", name, there, where="--method: the stored runs")
    return runs[runs["method"].isin(names)] if names else runs


TABLE_KEYS = (
    "dataset",
    "imbalance_ratio",
    "data_seed",
    "image_size",
    "validation",
    "recipe.name",
    "transductive",
    "track",
    "data",
)
"""What all rows of one table share; where these differ, accuracies are not comparable."""


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as one level, names joined by dots; lists as JSON text."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat.update(flatten(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = json.dumps(value) if isinstance(value, list) else value
    return flat
