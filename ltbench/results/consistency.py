"""Consistency of a result: metrics agree with counts and bins, lists with the number of classes.

The schema in ``ltbench.results.schema`` checks the range of each value; ``check`` checks values against each other, in
one pass, since reports read thousands of results.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from ltbench.results.predictions import PackedPredictions
from ltbench.results.records import DataRecord, Metrics

TOLERANCE = 0.01
"""Largest rounding error of a stored figure, percentage points."""
TIES = 0.5
"""Largest difference of the accuracy of the bins, points: equal probabilities may come from logits that differ."""
SUM = 0.01
"""Largest difference of a predicted distribution's sum to 1: its entries, one a class, may be rounded."""
GROUPS = ("many", "medium", "few")
_LARGEST = {"nll": math.inf, "brier": 2.0001, "temperature": math.inf}
"""Largest values of the figures of scaled logits that are no percentages."""
_BITS = 64


def check(
    settings: Mapping[str, Any],
    data: DataRecord,
    metrics: Mapping[str, Metrics],
    outcomes: PackedPredictions | None,
) -> None:
    """Check the records of a result against each other.

    Args:
        settings: by name, plain data whose numbers must be finite and of ordinary size.
        data: of the result.
        metrics: by part: validation, test.
        outcomes: what was predicted for each test image.

    Raises:
        ValueError: what contradicts what.
    """
    for name, values in settings.items():
        if values and not _is_ordinary(values.values()):  # names are put together only where one is needed
            _check_numbers(name, values)
    _check_data(data)
    for part, own in metrics.items():
        try:
            _check_metrics(own, data)
        except ValueError as error:
            raise ValueError(f"metrics.{part}.{error}") from None
    test = metrics.get("test")
    if test is not None and outcomes is not None and outcomes.images != sum(test.total):
        raise ValueError(f"outcomes has {outcomes.images} images, metrics.test.total {sum(test.total)}")


def _is_ordinary(values: Iterable[Any]) -> bool:
    """Whether numbers in nested values are finite and not enormous."""
    for value in values:  # a call for each would take three times as long
        kind = type(value)
        if kind is str or kind is bool or value is None:
            continue
        if kind is float:
            if not math.isfinite(value):
                return False
        elif kind is int:
            if value.bit_length() > _BITS:
                return False
        elif (kind is dict and not _is_ordinary(value.values())) or (kind is list and not _is_ordinary(value)):
            return False
    return True


def _check_numbers(name: str, value: Any) -> None:
    """Check that numbers in nested values are finite and not enormous."""
    kind = type(value)
    if kind is dict:
        for key, item in value.items():
            if type(item) is not str:
                _check_numbers(f"{name}.{key}", item)
    elif kind is float:
        if not math.isfinite(value):
            raise ValueError(f"{name} is {value}")
    elif kind is int:
        if value.bit_length() > _BITS:
            raise ValueError(f"{name} has more than {_BITS} bits")
    elif kind is list:
        for item in value:
            _check_numbers(name, item)


def _check_data(data: DataRecord) -> None:
    classes = len(data.classes)
    if not len(data.counts) == len(data.trained_on) == classes:
        raise ValueError(
            f"data has {classes} classes, {len(data.counts)} counts and {len(data.trained_on)} entries in trained_on"
        )
    if any(map(int.__gt__, data.trained_on, data.counts)):
        raise ValueError("data.trained_on has more images of a class than data.counts")
    if data.shots.keys() != {"many", "few"}:
        raise ValueError("data.shots must have many and few")
    if tuple(data.groups) != GROUPS:
        raise ValueError(f"data.groups must have {', '.join(GROUPS)}")
    members = [label for labels in data.groups.values() for label in labels]
    if len(set(members)) != len(members):
        raise ValueError("data.groups has a class twice")
    if max([*members, *data.without_validation], default=0) >= classes:
        raise ValueError("data.groups or data.without_validation names a class that is not there")
    many, few = data.shots["many"], data.shots["few"]
    own = ["many" if count > many else "few" if count < few else "medium" for count in data.counts]
    for name, labels in data.groups.items():
        for label in labels:
            if own[label] != name:
                raise ValueError(f"data.groups has class {label} as {name}-shot, but by shots and counts {own[label]}")
    if len(members) < classes:
        raise ValueError("data.groups lacks a class")


def _check_metrics(metrics: Metrics, data: DataRecord) -> None:
    """Accuracies follow from ``correct`` and ``total``, calibration errors from the bins."""
    correct, total, classes = metrics.correct, metrics.total, len(data.classes)
    distributions = (metrics.mean_probability, *metrics.expert_mean_probability)
    if not len(correct) == len(total) == classes or any(len(one) != classes for one in distributions):
        raise ValueError(f"correct, total or a mean_probability has not {classes} entries, one a class")
    for distribution in distributions:
        if abs(sum(distribution) - 1) > SUM:
            raise ValueError(f"a mean_probability has the sum {_number(sum(distribution))} and not 1")
    _check_scaled(metrics)
    if any(map(int.__gt__, correct, total)):
        raise ValueError("correct has more images of a class than total")
    images = sum(total)
    if not images:
        raise ValueError("total has no image")
    accuracy = [100 * right / count if count else None for right, count in zip(correct, total, strict=True)]
    there = [one for one in accuracy if one is not None]
    top1 = 100 * sum(correct) / images
    _check_figure("top1", metrics.top1, top1)
    _check_figure("macro", metrics.macro, sum(there) / len(there))
    _check_figure("worst_class", metrics.worst_class, min(there))
    for name, members in data.groups.items():
        own = [one for label in members if (one := accuracy[label]) is not None]
        _check_figure(name, getattr(metrics, name), sum(own) / len(own) if own else None)
    _check_bins(metrics, images, top1)


def _check_scaled(metrics: Metrics) -> None:
    """Figures of logits that are divided by a temperature are in their ranges, as the schema has it of the others."""
    for name, value in (metrics.temperature_scaled or {}).items():
        if isinstance(value, int | float) and not 0 <= value <= _LARGEST.get(name, 100):
            raise ValueError(f"temperature_scaled.{name} is {_number(value)}")
        if name == "temperature" and not value:
            raise ValueError("temperature_scaled.temperature is 0")


def _check_bins(metrics: Metrics, images: int, top1: float) -> None:
    bins = metrics.bins
    if not len(bins.count) == len(bins.confidence) == len(bins.accuracy):
        raise ValueError("bins: the columns have different numbers of entries")
    if sum(bins.count) != images:
        raise ValueError(f"bins.count has {sum(bins.count)} images, total {images}")
    errors, gaps, right = 0.0, [], 0.0
    for count, confidence, accuracy in zip(bins.count, bins.confidence, bins.accuracy, strict=True):
        if count:
            gaps.append(abs(confidence - accuracy))
            errors += count * gaps[-1]
            right += count * accuracy
    _check_figure("ece", metrics.ece, 100 * errors / images, "the bins")
    _check_figure("mce", metrics.mce, 100 * max(gaps), "the bins")
    _check_figure("top1", top1, 100 * right / images, "the bins", TIES)


def _check_figure(
    name: str,
    stored: float | None,
    computed: float | None,
    source: str = "correct and total",
    tolerance: float = TOLERANCE,
) -> None:
    if stored is None or computed is None:
        if stored is not computed:
            raise ValueError(f"{name} is {_number(stored)}, but by {source} {_number(computed)}")
    elif abs(stored - computed) > tolerance:
        raise ValueError(f"{name} is {_number(stored)}, but by {source} {_number(computed)}")


def _number(value: float | None) -> str:
    return "null" if value is None else f"{value:.6g}"
