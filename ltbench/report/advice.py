"""Advice on a leaderboard in plain words: what can be recommended, how sure that is, and what it costs."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from ltbench.report.collection import Collection
from ltbench.report.compare import FEWEST
from ltbench.report.leaderboard import Leaderboard, Row
from ltbench.report.leaderboard_table import NO_COMPARISON, ahead_of_reference
from ltbench.report.row_labels import from_elsewhere, in_brackets
from ltbench.results.records import FittedFor, Metrics

_LARGE_ECE = 5.0
_CHEAPER = 0.5
"""A row is called cheaper up to this fraction of the best row's training time."""
_MIXING = ("mixup", "cutmix", "cmo")
"""Hyper-parameters that every method has, which mix images where they are not 0."""
_SURE = 0.9
_FEWEST_IMAGES = 20
"""Fewest images of a bin that is mentioned."""
ENOUGH_FOR_TEMPERATURE = 2000
"""Equally weighted validation images that the weighted ones must be worth. From there on the fitted temperature has an
ECE within 20 % of that of the temperature of the test images, on average over simulated data sets; worth hundreds, the
mean is above 20 % in some of them (benchmarks/statistics/temperature.md, the last table)."""
_ESTIMATOR = 2
"""First estimator of temperatures whose results are near enough (``ltbench.metrics.temperature.ESTIMATOR``)."""


def advise(leaderboard: Leaderboard, stored: Collection | None = None) -> str:
    """Sentences for a reader who has to choose a method by a leaderboard.

    They say no more than the table: no row is called better than another unless the difference is significant, leads
    and gains are the paired differences on the seeds that both have, and what is not known is said to be so.

    Args:
        leaderboard: a table; columns that it lacks, or that are not known, are done without.
        stored: the results that it was made of: for what a confidence means in practice, and for which row does
            nothing about rare classes.
    """
    rows = leaderboard.records
    best = next((row for row in rows if row["setting"] == leaderboard.reference), None)
    if best is None:
        return f"Nothing can be recommended: {NO_COMPARISON}."
    others = [row for row in rows if row is not best and (_number(row, "behind") or 0) >= 0]
    tests = [one.test for one in _results(best, stored) if one.test is not None]
    held_out = bool(leaderboard.key.get("validation"))
    elsewhere = stored is not None and from_elsewhere(best, stored)
    may_train = not (held_out or elsewhere) and _has_enough(best, stored)
    closing = [_calibration(best, tests, may_train=may_train), _few_shot(best, leaderboard)]
    if len(rows) == 1:
        sentences = [
            f"{_name(best)} is the only row of this table, so there is nothing to compare it with.",
            f"It reaches {_figure(best, leaderboard.metric)}.",
        ]
    else:
        near = [row for row in others if not _significantly_worse(row)]
        sentences = [
            _verdict(best, others, near, leaderboard),
            _lead(best, others[0], leaderboard.metric) if others else "",
            _holds(others, near),
            _against_plainest(best, others, rows, stored),
            _cheaper(best, near),
        ]
    sentences += closing
    return " ".join(sentence for sentence in sentences if sentence)


def _verdict(best: Row, others: Sequence[Row], near: Sequence[Row], leaderboard: Leaderboard) -> str:
    if not leaderboard.leads:
        return f"No row is first: {ahead_of_reference(leaderboard)}. The other rows are compared with {_name(best)}."
    if not any(_tested(row) for row in others):
        return (
            "Nothing can be recommended yet: no two rows have been tested against each other, for which they need at "
            f"least {FEWEST} seeds in common, and differences that vary over seeds."
        )
    if not near:
        return f"Take {_name(best)}, as far as accuracy decides."
    return f"Accuracy alone does not decide: {_name(best)} is first, but not significantly better than every other row."


def _lead(best: Row, following: Row, metric: str) -> str:
    behind = _number(following, "behind")
    reached = f"{_name(best)} reaches {_figure(best, metric)}"
    if behind is None:
        return f"{reached}."
    lead = f"{behind:.1f}"
    where = f"level with {_name(following)}" if lead == "0.0" else f"{lead} points more than {_name(following)}"
    return f"{reached}, {where}, the next{_on_fewer(following)}."


def _on_fewer(row: Row) -> str:
    """The number of seeds on which a row that lacks some was compared; empty for other rows."""
    if not row.get("lacks_seeds"):
        return ""
    shared = row["behind_n"]
    return f" (on the {shared} seed{'s' * (shared > 1)} that both have)"


def _figure(row: Row, metric: str) -> str:
    """For example "62.1 % accuracy (mean of 5 seeds, 95 % interval 61.2 to 63.0)"."""
    what = "accuracy" if metric == "top1" else "accuracy averaged over classes (the test set is not balanced)"
    low, high = _number(row, f"{metric}_low"), _number(row, f"{metric}_high")
    seeds = "one run" if row["n"] == 1 else f"mean of {row['n']} seeds"
    interval = "" if low is None or high is None else f", 95 % interval {low:.1f} to {high:.1f}"
    return f"{row[metric]:.1f} % {what} ({seeds}{interval})"


def _holds(others: Sequence[Row], near: Sequence[Row]) -> str:
    tested = [row for row in others if _tested(row)]
    if not tested:
        return ""
    apart = len(others) - len(near)
    finding = (
        f"Paired tests over seeds find it significantly better than {_all_of(apart, len(others))} (5 % level, adjusted "
        "for their number and for the choice of the best)"
    )
    if not near:
        return f"{finding}."
    alike, untested = [row for row in near if _tested(row)], [row for row in near if not _tested(row)]
    parts = [f"no significant lead over {_listed(alike)}"] if alike else []
    if untested:
        parts.append(f"{_listed(untested)} could not be tested")
    return f"{finding}; {'; '.join(parts)}."


def _all_of(some: int, whole: int) -> str:
    if some == whole:
        return "the other row" if whole == 1 else f"all {whole} other rows"
    return f"{some or 'none'} of {whole} other rows" if whole > 1 else "no other row"


def _against_plainest(best: Row, others: Sequence[Row], rows: Sequence[Row], stored: Collection | None) -> str:
    """The gain over the row that does least, and its price.

    Args:
        best: the row that the others are compared with.
        others: rows that are not ahead of it.
        rows: all rows of the table.
        stored: the results that they are of.
    """
    timed = [row for row in rows if _positive(row, "training_seconds")]
    known = [row for row in timed if row is best or any(row is other for other in others)]
    alike = [row for row in known if row.get("hardware") == best.get("hardware")]
    plain = [row for row in known if _is_plain(row, stored)]
    if not alike:
        return "What training costs is not known."
    if not plain and all(row is best for row in alike):
        if len(timed) == 1:
            return "What training the other rows costs is not known."
        rivals = [row for row in timed if row is not best and row.get("hardware") == best.get("hardware")]
        apart = "No other row was trained on its hardware, so that training times cannot be compared."
        return "" if rivals else apart  # those are ahead of it
    baseline = min(plain or alike, key=lambda row: (row not in alike, float(row["training_seconds"])))
    what = "the cheapest row to train"
    if plain:
        what = f"{'the cheapest' if baseline in alike else 'a'} row that does nothing about rare classes"
    if baseline is best:
        return f"It is itself {what}."
    behind = _number(baseline, "behind")
    if behind is None:
        return f"{_name(baseline)}, {what}, has no seed in common with it."
    gain = f"{behind:.1f} points"
    sure = "which may be chance" if _tested(baseline) else "which is not tested"
    price = [
        f"{ratio:.1f} times its {name}"
        for column, name in {"training_seconds": "training time", "multiply_adds": "multiply-adds an image"}.items()
        if (ratio := _ratio(best, baseline, column)) is not None
    ]
    cost = f"takes {' and '.join(price)}" if price else "costs what is not known"
    holds = "which holds" if _significantly_worse(baseline) else sure
    return f"Over {_name(baseline)}, {what}, it gains {gain}{_on_fewer(baseline)}, {holds}, and {cost}."


def _is_plain(row: Row, stored: Collection | None) -> bool:
    """Whether all is left as in plain cross entropy: the class frequencies in the predictions, the images unmixed."""
    return any(
        result.method.logit_prior == 1 and not any(map(result.config.hyperparameters.get, _MIXING))
        for result in _results(row, stored)
    )


def _cheaper(best: Row, near: Sequence[Row]) -> str:
    """The first of those that were tested, are not significantly worse, and took half of the time or less."""
    for row in near:
        ratio = _ratio(row, best, "training_seconds")
        if ratio is not None and ratio <= _CHEAPER and _tested(row):
            took = f"{_name(row)} took {ratio:.2f} times its training time"
            return f"Where cost counts: {took} and is {row['behind']:.1f} points behind{_on_fewer(row)}."
    return ""


def _calibration(best: Row, tests: Sequence[Metrics], *, may_train: bool) -> str:
    """A sentence on how far confidence can be trusted.

    Args:
        best: the row.
        tests: the figures of its runs.
        may_train: whether it could be trained with --validation, which would hold out enough images, and is not.
    """
    ece = _number(best, "ece")
    if ece is None:
        return "How well its confidence is calibrated is not known."
    found = f"The ECE of {_name(best)} is {ece:.1f} %"
    tendency = _tendency(tests)
    images = f" of {sum(tests[0].total)} images" if tests else ""
    floor, limit = _number(best, "ece_floor"), _number(best, "ece_floor_limit")
    if floor is not None and limit is not None and ece <= limit:
        within = (
            f"within the noise{images} (a perfectly calibrated model measures {floor:.1f} % on average, and at most "
            f"{limit:.1f} % in 95 of 100 cases)"
        )
        return f"{found}, {within}{tendency}: nothing here says that its confidence is miscalibrated."
    debiased = _number(best, "ece_debiased")
    noise = "" if debiased is None else f", {debiased:.1f} % without the noise{images}"
    if (ece if debiased is None else debiased) < _LARGE_ECE:
        return f"{found}{noise}{tendency}: its confidence is near its accuracy on average."
    scaled = _scaled(tests)
    if scaled is not None:
        cure = (
            f"; its logits divided by the temperature that its validation images give have an ECE of {scaled:.1f} %"
            if scaled < ece
            else ""
        )
    else:
        cure = ", or train with --validation, which fits a temperature for this test set" if may_train else ""
    return f"{found}{noise}{tendency}: do not take its confidence for a probability{cure}."


def _scaled(tests: Sequence[Metrics]) -> float | None:
    """The ECE after temperature scaling, percent; None unless it is fitted for the test set, and on enough images."""
    errors = []
    for test in tests:
        scaled = test.temperature_scaled or {}
        about, error = scaled.get("fitted_for"), scaled.get("ece")
        if not isinstance(about, FittedFor) or about.prior not in ("balanced", "test") or not isinstance(error, float):
            return None
        if about.estimator < _ESTIMATOR or (about.effective_images or 0) < ENOUGH_FOR_TEMPERATURE:
            return None
        errors.append(error)
    return float(np.mean(errors)) if errors else None


def _has_enough(row: Row, stored: Collection | None) -> bool:
    """Whether --validation would hold out enough images to fit a temperature for a balanced test set.

    A fifth of each class of N_c training images, weighted for equal frequencies of the C classes, is worth as much as
    C^2 / sum(1 / held_c) equally weighted images (Kish, Survey Sampling 1965, 11.7).
    """
    for result in _results(row, stored):
        counts = np.array(result.data.trained_on, dtype=float)
        held = np.maximum(1, counts // 5)
        if len(counts) ** 2 / (1 / held).sum() < ENOUGH_FOR_TEMPERATURE:
            return False
    return True


def _tendency(tests: Sequence[Metrics]) -> str:
    """Over- or under-confident, and how many are right where it is about 90 % sure; empty if not known."""
    if len({len(test.bins.count) for test in tests}) != 1:  # none, or each with bins of its own
        return ""
    counts = np.array([test.bins.count for test in tests], dtype=float)
    sums = [
        (counts * np.array([getattr(test.bins, name) for test in tests])).sum(0) for name in ("confidence", "accuracy")
    ]
    confident, right = sums
    total = counts.sum(0)
    if not total.sum():
        return ""
    words = f" ({'over' if confident.sum() > right.sum() else 'under'}-confident on the whole)"
    place = math.ceil(_SURE * len(total)) - 1
    if total[place] < _FEWEST_IMAGES * len(tests):
        return words
    low, high = (100 * end / len(total) for end in (place, place + 1))
    return f"{words}; where it is {low:.0f} to {high:.0f} % sure, {100 * right[place] / total[place]:.1f} % are right"


def _few_shot(best: Row, leaderboard: Leaderboard) -> str:
    few, many = _number(best, "few"), _number(best, "many")
    if few is None:
        return ""
    beside = f", on many-shot classes {many:.1f} %" if many is not None else ""
    text = f"On few-shot classes it has {few:.1f} %{beside}"
    top = next((row for row in leaderboard.records if row["setting"] == leaderboard.best.get("few")), None)
    if top is not None and top["setting"] != best["setting"] and f"{top['few']:.1f}" != f"{few:.1f}":
        text += f"; the best there is {_name(top)} with {top['few']:.1f} %"
    return f"{text}."


def _listed(rows: Sequence[Row]) -> str:
    labels = [_name(row) for row in rows]
    if len(labels) > 4:
        return f"{', '.join(labels[:3])} and {len(labels) - 3} more"
    return " and ".join(filter(None, [", ".join(labels[:-1]), labels[-1]]))


def _name(row: Row) -> str:
    return in_brackets(str(row["label"]))


def _tested(row: Row) -> bool:
    return _number(row, "p") is not None


def _significantly_worse(row: Row) -> bool:
    """Whether the row is significantly worse than the best one."""
    return _tested(row) and bool(row.get("significantly_worse"))


def _ratio(row: Row, other: Row, column: str) -> float | None:
    comparable = column != "training_seconds" or row.get("hardware") == other.get("hardware")
    if comparable and _positive(row, column) and _positive(other, column):
        return float(row[column]) / float(other[column])
    return None


def _positive(row: Row, column: str) -> bool:
    value = _number(row, column)
    return value is not None and value > 0


def _number(row: Row, column: str) -> float | None:
    value = row.get(column)
    return None if value is None or pd.isna(value) else float(value)


def _results(row: Row, stored: Collection | None) -> list[Any]:
    ids = row.get("run_ids") or []
    return [stored.results[run_id] for run_id in ids if run_id in stored.results] if stored is not None else []
