"""Intervals of a table's rows, from the packed predictions of the test images."""

import warnings
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ltbench.errors import LtbenchWarning
from ltbench.report.collection import Collection
from ltbench.report.compare import accuracy_interval, class_balanced_weights
from ltbench.results.records import Metrics

OF = ("top1", "macro")
"""The metrics that have intervals."""
Classes = tuple[NDArray[np.int64], NDArray[np.int64]]
"""(N,) labels and predicted classes of the test images."""


def of_rows(run_ids: Mapping[str, Iterable[str]], stored: Collection) -> pd.DataFrame:
    """The 95 % interval of each row's mean: columns ``<metric>_low`` and ``<metric>_high``, percent.

    NaN where a run has no packed predictions, or damaged ones (with a warning), or where runs are on different images.

    Args:
        run_ids: the runs of each row, by its setting.
        stored: has them.
    """
    rows = {}
    for setting, members in run_ids.items():
        predictions = [_unpacked(run_id, stored) for run_id in members]
        rows[setting] = _interval([one for one in predictions if one is not None], len(predictions))
    columns = [f"{metric}_{end}" for metric in OF for end in ("low", "high")]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns, dtype=float)


def _interval(predictions: list[Classes], runs: int) -> list[float]:
    labels = {one[0].tobytes() for one in predictions}
    if len(predictions) < runs or len(labels) != 1:
        return [float("nan")] * (2 * len(OF))
    right = np.stack([label == predicted for label, predicted in predictions])
    return [*accuracy_interval(right), *accuracy_interval(right, class_balanced_weights(predictions[0][0]))]


def _unpacked(run_id: str, stored: Collection) -> Classes | None:
    result = stored.results[run_id]
    if result.outcomes is None or not result.outcomes.images:
        return None
    try:
        labels, predicted = result.outcomes.unpack_classes()
    except ValueError as error:
        warnings.warn(f"{stored.paths[run_id]}: {error}; its row has no interval", LtbenchWarning, stacklevel=2)
        return None
    accuracy = 100 * np.count_nonzero(labels == predicted) / len(labels)
    if result.test is not None and abs(accuracy - result.test.top1) > 0.01:
        message = f"the packed predictions (outcomes) give an accuracy of {accuracy:.2f} and not {result.test.top1:.2f}"
        warnings.warn(f"{stored.paths[run_id]}: {message}; its row has no interval", LtbenchWarning, stacklevel=2)
        return None
    if result.test is not None and not _counts_agree(labels, predicted, result.test):
        message = "the packed predictions (outcomes) contradict the figures of the classes (correct, total)"
        warnings.warn(f"{stored.paths[run_id]}: {message}; its row has no interval", LtbenchWarning, stacklevel=2)
        return None
    return labels, predicted


def _counts_agree(labels: NDArray[np.int64], predicted: NDArray[np.int64], test: Metrics) -> bool:
    """Whether the images of each class, and those that are classified correctly, are as many as is stored."""
    classes = len(test.total)
    if labels.max() >= classes or predicted.max() >= classes:
        return False
    counts = (np.bincount(one, minlength=classes) for one in (labels, labels[labels == predicted]))
    return all(np.array_equal(*pair) for pair in zip(counts, (test.total, test.correct), strict=True))
