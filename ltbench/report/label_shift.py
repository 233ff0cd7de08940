"""Accuracy and calibration on test sets with other class frequencies, from the stored figures."""

import math
import warnings
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ltbench.data.label_shift import DISTRIBUTIONS, shifted
from ltbench.errors import LtbenchWarning
from ltbench.metrics.calibration_noise import confidence_table, ece_floor
from ltbench.metrics.confidence_bins import bin_of
from ltbench.report.collection import Collection
from ltbench.report.leaderboard import Leaderboard
from ltbench.report.numbers import spread
from ltbench.report.table import Table
from ltbench.results.records import ShiftTable

PRIORS = {
    "unknown": "nothing is known of the shifted sets",
    "known": "predictions are corrected by the shifted set's class frequencies, which are taken as known",
    "estimated": "predictions are corrected by class frequencies estimated from the shifted set's images without "
    "labels: transductive",
}
_METRICS = {"top1": "Accuracy", "ece": "ECE"}
SETS = ("distribution", "images", "classes")
"""What tells one shifted test set from another: another version may draw one of the same name."""
_SET = (*SETS, "prior")


def under_shift(leaderboard: Leaderboard, stored: Collection, *, floors: bool = True) -> pd.DataFrame:
    """Mean and standard deviation over seeds on every shifted test set.

    Args:
        leaderboard: the table.
        stored: the results that it was made of.
        floors: whether the noise floors are wanted, which take the longest; else they are NaN.

    Returns:
        Columns ``setting, label, distribution, images, classes, prior, top1, top1_sd, ece, ece_sd, ece_floor``
        (percent; the noise floor of the ECE is NaN where a run of an older version has none), in the order of the
        leaderboard and of the stored sets; only settings all of whose runs have such figures.
    """
    rows = []
    for row in leaderboard.records:
        alike: dict[tuple[tuple[Any, ...], ...], list[list[list[float]]]] = {}
        for run_id in row["run_ids"]:
            if (shift := stored.shift(run_id)) is not None:
                sets = tuple(tuple(getattr(shift, name)) for name in _SET)
                known = _floors(stored, run_id, shift) if floors else [math.nan] * len(shift.ece)
                alike.setdefault(sets, []).append([*(getattr(shift, name) for name in _METRICS), known])
        runs: dict[tuple[Any, ...], list[NDArray[np.float64]]] = {}
        for sets, figures in alike.items():
            for one, measured in zip(zip(*sets, strict=True), np.array(figures).transpose(2, 0, 1), strict=True):
                runs.setdefault(one, []).append(measured)
        rows += [
            (row["setting"], row["label"], *one, *_over_seeds(np.concatenate(measured)))
            for one, measured in runs.items()
            if sum(map(len, measured)) == row["n"]
        ]
    deviations = [f"{name}_sd" for name in _METRICS]
    return pd.DataFrame(rows, columns=["setting", "label", *_SET, *_METRICS, *deviations, "ece_floor"])


def _over_seeds(values: NDArray[np.float64]) -> list[float]:
    """Means of the metrics, their standard deviations, and the mean of the noise floor.

    Args:
        values: (n, 3) metrics and noise floor of n seeds.
    """
    means = values.mean(0)
    deviations = values[:, :-1].std(0, ddof=1) if len(values) > 1 else np.full(len(_METRICS), math.nan)
    return [*means[:-1], *deviations, means[-1]]


def shift_tables(leaderboard: Leaderboard, stored: Collection) -> list[Table]:
    """A table for each metric and for what is known of the shifted class frequencies; none without such figures."""
    found = under_shift(leaderboard, stored)
    kinds = [prior for prior in PRIORS if (found["prior"] == prior).any()]
    return [
        _table(leaderboard, found[found["prior"] == prior], prior, metric) for prior in kinds for metric in _METRICS
    ]


def _table(leaderboard: Leaderboard, found: pd.DataFrame, prior: str, metric: str) -> Table:
    sets = [tuple(row[name] for name in SETS) for row in _dicts(found.drop_duplicates(list(SETS)))]
    key = ("setting", *SETS)
    cells = {tuple(row[name] for name in key): spread(row[metric], row[f"{metric}_sd"]) for row in _dicts(found)}
    rows = [
        [str(row["label"]), *(cells.get((row["setting"], *one), "n/a") for one in sets)] for row in leaderboard.records
    ]
    listed = ", ".join(f"{short(name)} {images}/{classes}" for name, images, classes in sets)
    about = (
        f"F: forward, B: backward long-tailed test sets of that imbalance ratio; {PRIORS[prior]}. Images/classes "
        f"present: {listed}."
    )
    return Table(
        f"{_METRICS[metric]} under label shift, prior {prior}: {leaderboard.title}",
        ["Method", *(short(name) for name, _, _ in sets)],
        rows,
        about if metric == "top1" else f"The same sets.{noise_floors(found)}",
        level=2,
        expendable=["F5", "B5", "F25", "B25", "F2", "B2", "F10", "B10"],
    )


def noise_floors(found: pd.DataFrame) -> str:
    """A sentence on what a perfectly calibrated model measures on each set; empty where that is not known.

    Args:
        found: figures of some settings with one kind of prior, as ``under_shift`` gives them.
    """
    floors = found.groupby("distribution", sort=False)["ece_floor"].agg(["min", "max"]).dropna()
    if floors.empty:
        return " Their noise floors are not known: ltbench evaluate --store works them out."
    listed = ", ".join(f"{short(name)} {low:.1f} to {high:.1f}" for name, low, high in floors.itertuples())
    return (
        " Noise floor, the ECE that a perfectly calibrated model measures on so few images, least and greatest of the "
        f"rows: {listed}."
    )


def short(distribution: object) -> str:
    """For example "F50" for forward-50."""
    name, _, ratio = str(distribution).partition("-")
    return f"{name[:1].upper()}{ratio}" if ratio else name.capitalize()


def _floors(stored: Collection, run_id: str, shift: ShiftTable) -> list[float]:
    """The noise floor of each ECE; where a result does not store it, from its images if nothing corrects them."""
    if shift.ece_floor:
        return shift.ece_floor
    floors = np.full(len(shift.ece), np.nan)
    plain = [place for place, prior in enumerate(shift.prior) if prior == "unknown"]
    result = stored.results[run_id]
    if result.outcomes is None or not plain:
        return floors.tolist()
    try:
        labels, _, confidence = result.outcomes.unpack()
    except ValueError as error:
        message = f"{stored.paths[run_id]}: {error}; the noise floors of its ECE under label shift are not known"
        warnings.warn(message, LtbenchWarning, stacklevel=2)
        return floors.tolist()
    images = _images_of_sets(labels.tobytes(), tuple(result.data.trained_on))
    cells = bin_of(confidence)
    tables = {}
    for place in plain:
        index = images.get(shift.distribution[place], _NONE)
        if len(index) and len(index) == shift.images[place]:
            tables[place] = confidence_table(confidence[index], cells[index])
    if tables:
        count, mean = (np.stack(column) for column in zip(*tables.values(), strict=True))
        floors[list(tables)] = ece_floor(count, mean)
    shown: list[float] = floors.tolist()
    return shown


_NONE = np.array([], dtype=np.int64)


@lru_cache(maxsize=32)
def _images_of_sets(labels: bytes, trained_on: tuple[int, ...]) -> Mapping[str, NDArray[np.int64]]:
    """The images of every shifted test set by its name; runs on the same data share them."""
    whole, counts = np.frombuffer(labels, dtype=np.int64), np.array(trained_on)
    return {one.name: shifted(whole, counts, one) for one in DISTRIBUTIONS}


def _dicts(rows: pd.DataFrame) -> list[dict[Any, Any]]:
    return rows.to_dict("records")
