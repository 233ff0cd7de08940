"""The numbers behind the pictures of a row, summed over its seeds and small however many classes there are."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltbench.metrics.calibration_noise import consistency_bars
from ltbench.results.records import DataRecord
from ltbench.results.schema import Result

FEW_CLASSES = 20
"""Up to so many are shown one by one, with numbers."""
_CELLS = 100
"""Largest side of a confusion matrix as a picture."""
_LISTED = 10
_LEVELS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


@dataclass(frozen=True)
class ClassRow:
    """One class of a setting."""

    name: str
    images: int
    """Training images."""
    group: str
    accuracy: float | None
    """Percent, over the test images of all seeds; None for a class without test images."""


def ranked(data: DataRecord) -> list[int]:
    """Class labels, those with most training images first."""
    return sorted(range(len(data.counts)), key=lambda label: -data.counts[label])


def class_rows(results: Sequence[Result]) -> list[ClassRow]:
    """Every class, those with most training images first."""
    data = results[0].data
    tests = [result.test for result in results if result.test]
    correct = np.sum([test.correct for test in tests], axis=0)
    total = np.sum([test.total for test in tests], axis=0)
    group = {label: name for name, labels in data.groups.items() for label in labels}
    return [
        ClassRow(
            data.classes[label],
            data.counts[label],
            group.get(label, ""),
            100 * float(correct[label] / total[label]) if total[label] else None,
        )
        for label in ranked(data)
    ]


def lowest(rows: Sequence[ClassRow]) -> list[ClassRow]:
    """The classes with the lowest accuracy, at most ten."""
    return sorted((row for row in rows if row.accuracy is not None), key=lambda row: row.accuracy or 0.0)[:_LISTED]


def confusion(results: Sequence[Result]) -> NDArray[np.int64] | None:
    """(C, C) test images by class (down) and predicted class (across), summed over the seeds.

    Returns:
        None where a result keeps no outcome of its test images.

    Raises:
        ValueError: if the packed predictions are damaged, or contradict the accuracy of a class.
    """
    classes = len(results[0].data.classes)
    matrix = np.zeros(classes * classes, dtype=np.int64)
    for result in results:
        if result.outcomes is None:
            return None
        labels, predicted = result.outcomes.unpack_classes()
        if len(labels) and max(labels.max(), predicted.max()) >= classes:
            raise ValueError("the packed predictions (outcomes) name unknown classes")
        matrix += np.bincount(labels * classes + predicted, minlength=classes * classes)
    square = matrix.reshape(classes, classes)
    tests = [result.test for result in results if result.test]
    correct, total = (np.sum([getattr(test, name) for test in tests], axis=0) for name in ("correct", "total"))
    if not (np.array_equal(square.diagonal(), correct) and np.array_equal(square.sum(1), total)):
        raise ValueError("the packed predictions (outcomes) contradict the figures of the classes (correct, total)")
    return square


@dataclass(frozen=True)
class Mistake:
    """Images of one class that are taken for another."""

    true: str
    predicted: str
    images: int
    fraction: float
    """Percentage of the images of the true class."""


def mistakes(matrix: NDArray[np.int64], names: Sequence[str]) -> list[Mistake]:
    """The most frequent ones, at most ten."""
    true, predicted = np.nonzero(matrix)  # few of the pairs of thousands of classes occur
    wrong = true != predicted
    true, predicted = true[wrong], predicted[wrong]
    images = matrix[true, predicted]
    of_class = matrix.sum(axis=1)
    most = np.argsort(-images, kind="stable")[:_LISTED]
    return [
        Mistake(names[label], names[guess], count, 100 * count / int(of_class[label]))
        for label, guess, count in zip(true[most], predicted[most], images[most].tolist(), strict=True)
    ]


def confusion_view(matrix: NDArray[np.int64], order: Sequence[int]) -> dict[str, Any]:
    """A confusion matrix in the order of training images, for the page's script.

    Up to 20 classes: ``counts``, the matrix. More: ``levels``, a row of characters for each row, 64 levels (base64's
    letters) of the square root of the fraction of the row's images; neighbouring classes share a cell where there are
    more than 100.
    """
    ordered = matrix[np.ix_(order, order)]
    if len(order) <= FEW_CLASSES:
        return {"counts": ordered.tolist()}
    starts = np.unique(np.linspace(0, len(order), min(len(order), _CELLS), endpoint=False).astype(int))
    cells = np.add.reduceat(np.add.reduceat(ordered, starts, axis=0), starts, axis=1)
    fraction = cells / np.maximum(cells.sum(axis=1, keepdims=True), 1)
    levels = np.ceil(np.sqrt(fraction) * (len(_LEVELS) - 1)).astype(int)
    return {"levels": ["".join(_LEVELS[level] for level in row) for row in levels]}


def reliability_view(results: Sequence[Result]) -> dict[str, Any] | None:
    """Bins of confidence of the test images of all seeds: images, mean confidence and accuracy, 0 to 1.

    ``low`` and ``high`` are consistency bars: of a calibrated model the accuracy lies between them in 95 of 100 cases.
    They are those of one seed's images, since all seeds are tested on the same.

    Returns:
        None where the seeds have bins of their own.
    """
    tables = [result.test.bins for result in results if result.test]
    if len({len(table.count) for table in tables}) != 1:
        return None
    count = np.array([table.count for table in tables])
    total = count.sum(axis=0)
    means = (
        (np.array([getattr(table, name) for table in tables]) * count).sum(axis=0) / np.maximum(total, 1)
        for name in ("confidence", "accuracy")
    )
    confidence, accuracy = (mean.round(4).tolist() for mean in means)
    bars = consistency_bars(total / len(tables), np.array(confidence))
    low, high = (np.nan_to_num(ends).round(4).tolist() for ends in bars)
    return {"images": total.tolist(), "confidence": confidence, "accuracy": accuracy, "low": low, "high": high}


def classes_view(rows: Sequence[ClassRow]) -> dict[str, Any] | None:
    """Accuracy by class, for a picture; None where the classes are few enough for a table."""
    if len(rows) <= FEW_CLASSES:
        return None
    return {"accuracy": [None if row.accuracy is None else round(row.accuracy, 1) for row in rows]}
