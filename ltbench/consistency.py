"""What the parts of a result must agree on: figures with counts, lists with the number of classes.

The schema in ``ltbench.store`` checks each value by itself; these functions check values against each other. They raise
ValueError, which becomes the message of a file that is left out.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import BaseModel

    from ltbench.store import DataRecord, Metrics, Result

TOLERANCE = 0.01
"""Points by which a stored figure may be rounded."""
BY_ARGMAX = 0.5
"""Points by which the accuracy of the bins may differ: of classes with equal probability another may be first."""
_LARGEST = 2**64
GROUPS = ("many", "medium", "few")


def check_lengths(table: "BaseModel", length: int) -> None:
    """All columns of a table have as many entries."""
    for name in type(table).model_fields:
        found = len(getattr(table, name))
        if found != length:
            raise ValueError(f"{name} has {found} entries, the other columns {length}")


def check_plain(values: dict[str, Any]) -> dict[str, Any]:
    """Numbers in nested values are finite and not enormous."""
    _check_plain(values)
    return values


def _check_plain(value: Any) -> None:
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} is not a finite number")
    elif isinstance(value, int):
        if not -_LARGEST <= value <= _LARGEST:
            raise ValueError(f"an integer of more than {_LARGEST.bit_length() - 1} bits")
    elif isinstance(value, Mapping):
        for item in value.values():
            _check_plain(item)
    elif isinstance(value, list | tuple):
        for item in value:
            _check_plain(item)


def check_data(data: "DataRecord") -> None:
    """Counts and shot groups fit the classes."""
    classes = len(data.classes)
    for name in ("counts", "trained_on"):
        _check_length(f"data.{name}", getattr(data, name), classes)
    if any(used > count for used, count in zip(data.trained_on, data.counts, strict=True)):
        raise ValueError("trained_on has more images of a class than counts")
    if data.shots.keys() != {"many", "few"}:
        raise ValueError("shots must have many and few")
    if tuple(data.groups) != GROUPS:
        raise ValueError(f"groups must be {', '.join(GROUPS)}")
    members = [label for labels in data.groups.values() for label in labels]
    if len(set(members)) != len(members):
        raise ValueError("groups has a class twice")
    if max([*members, *data.without_validation], default=0) >= classes:
        raise ValueError(f"a class label is not below the number of classes, {classes}")


def check_metrics(metrics: "Metrics") -> None:
    """Accuracies follow from ``correct`` and ``total``, calibration errors from the bins."""
    _check_length("correct", metrics.correct, len(metrics.total))
    if any(map(int.__gt__, metrics.correct, metrics.total)):
        raise ValueError("more images of a class are correct than there are")
    images = sum(metrics.total)
    if not images:
        raise ValueError("total has no image")
    accuracies = class_accuracies(metrics)
    top1 = 100 * sum(metrics.correct) / images
    _check_figure("top1", metrics.top1, top1, "correct and total")
    _check_figure("macro", metrics.macro, sum(accuracies.values()) / len(accuracies), "correct and total")
    _check_figure("worst_class", metrics.worst_class, min(accuracies.values()), "correct and total")
    _check_bins(metrics, images, top1)
    for name, distribution in (
        ("mean_probability", metrics.mean_probability),
        *(("expert_mean_probability", expert) for expert in metrics.expert_mean_probability),
    ):
        _check_length(name, distribution, len(metrics.total))


def class_accuracies(metrics: "Metrics") -> dict[int, float]:
    """By class label, percent; classes without test images have none."""
    return {
        label: 100 * correct / total
        for label, (correct, total) in enumerate(zip(metrics.correct, metrics.total, strict=True))
        if total
    }


def _check_bins(metrics: "Metrics", images: int, top1: float) -> None:
    bins = metrics.bins
    if sum(bins.count) != images:
        raise ValueError(f"the bins have {sum(bins.count)} images, total has {images}")
    rows = [row for row in zip(bins.count, bins.confidence, bins.accuracy, strict=True) if row[0]]
    ece = 100 * sum(count * abs(sure - right) for count, sure, right in rows) / images
    _check_figure("ece", metrics.ece, ece, "the bins")
    _check_figure("mce", metrics.mce, 100 * max(abs(sure - right) for _, sure, right in rows), "the bins")
    accuracy = 100 * sum(count * right for count, _, right in rows) / images
    _check_figure("top1", top1, accuracy, "the bins", BY_ARGMAX)


def check_result(result: "Result") -> None:
    """Figures fit the classes and shot groups, and the outcomes of test images their number."""
    _check_plain(result.config.hyperparameters)
    classes, groups = len(result.data.classes), result.data.groups
    for part, metrics in result.metrics.items():
        _check_length(f"metrics.{part}.total", metrics.total, classes)
        accuracies = class_accuracies(metrics)
        for name, members in groups.items():
            there = [accuracies[label] for label in members if label in accuracies]
            found, place = getattr(metrics, name), f"metrics.{part}.{name}"
            if (found is None) != (not there):
                raise ValueError(f"{place} is {found}, and {len(there)} classes of the group have images")
            if found is not None:
                _check_figure(place, found, sum(there) / len(there), "correct and total")
    test = result.metrics.get("test")
    if test is not None and result.outcomes is not None and result.outcomes.images != sum(test.total):
        raise ValueError(f"the outcomes are of {result.outcomes.images} images, metrics.test.total of {sum(test.total)}")
    trials = (result.tuning or {}).get("trials", 0)
    if not isinstance(trials, int) or trials < 0:
        raise ValueError("tuning.trials is no number of trials")


def _check_length(name: str, values: Sequence[object], length: int) -> None:
    if len(values) != length:
        raise ValueError(f"{name} has {len(values)} entries for {length} classes")


def _check_figure(name: str, stored: float, computed: float, source: str, tolerance: float = TOLERANCE) -> None:
    if abs(stored - computed) > tolerance:
        raise ValueError(f"{name} is {stored:g}, and by {source} {computed:g}")
