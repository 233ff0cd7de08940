"""The columns of the page's leaderboards: what each shows, in which unit, and what it means."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ltbench.report.leaderboard import Leaderboard
from ltbench.report.leaderboard_table import place_text
from ltbench.report.numbers import MISSING, duration, number, probability, spread
from ltbench.results.records import LOWER_IS_BETTER

NAMES = {
    "top1": "accuracy",
    "macro": "class-balanced accuracy",
    "many": "many-shot",
    "medium": "medium-shot",
    "few": "few-shot",
    "worst_class": "worst class",
    "nll": "negative log-likelihood",
    "brier": "Brier score",
    "ece": "ECE",
    "mce": "MCE",
    "overconfidence": "overconfidence",
    "adaptive_ece": "adaptive ECE",
    "classwise_ece": "class-wise ECE",
}
"""The metrics in words."""
UNITLESS = {"nll", "brier"}
NEED_A_COMPARISON = frozenset({"place", "behind", "p", "rank", "wins"})
"""Columns that a row has only where it is compared."""
Values = Mapping[Any, Any]
"""A row of ``Leaderboard.rows``."""


@dataclass(frozen=True)
class Column:
    """One column of a leaderboard."""

    key: str
    """The column of ``Leaderboard.rows`` that it sorts by."""
    heading: str
    unit: str
    meaning: str
    text: Callable[[Values], str]
    lower_first: bool = False
    """Whether the first press on the heading brings the lowest value to the top."""
    extra: bool = False
    """Whether it is shown only when asked for."""


def columns(leaderboard: Leaderboard, shots: Mapping[str, int]) -> list[Column]:
    """The columns of a leaderboard.

    Args:
        leaderboard: the leaderboard.
        shots: the rule of its data: more training images than "many" are many-shot, fewer than "few" few-shot.
    """
    ranks = "Acc" if leaderboard.metric == "top1" else "Macro"
    other = (
        []
        if leaderboard.metric == "top1"
        else [
            _metric("worst_class", "Worst", "Accuracy of the class with the lowest."),
            _metric("top1", "Acc", "Fraction of all test images classified correctly."),
        ]
    )
    by_shots = [
        _metric("many", "Many", f"Mean accuracy of the classes with more than {shots['many']} training images."),
        _metric("medium", "Med", "Mean accuracy of the classes between."),
        _metric("few", "Few", f"Mean accuracy of the classes with fewer than {shots['few']} training images."),
    ]
    return [
        Column(
            "place",
            "Rank",
            "of rows",
            "1 for all that tie with the best, which are tinted: tested, and not significantly worse. Then by order.",
            lambda row: place_text(leaderboard, row),
            lower_first=True,
        ),
        Column("n", "n", "seeds", "Seeds, each a training run of its own.", lambda row: f"{row['n']:.0f}"),
        _metric(leaderboard.metric, ranks, f"{_ACCURACY[leaderboard.metric]} Ranks the table."),
        *_compared(leaderboard),
        *other,
        *(one for one in by_shots if leaderboard.rows[one.key].notna().any()),
        _metric("ece", "ECE", "Expected calibration error: confidence against accuracy in 15 bins, by their images."),
        Column(
            "ece_floor",
            "Floor",
            "%",
            "Noise floor: the ECE that a perfectly calibrated model with the same confidences measures on as many "
            "images.",
            lambda row: number(row["ece_floor"], 1),
            lower_first=True,
            extra=True,
        ),
        Column(
            "ece_debiased",
            "Debiased",
            "%",
            "The ECE without what noise adds to it. Its interval stands in the details of the row.",
            lambda row: number(row["ece_debiased"], 1),
            lower_first=True,
            extra=True,
        ),
        _metric(
            "mce", "MCE", "Maximum calibration error: the worst of these bins, however few images it has.", extra=True
        ),
        _cost("parameters", "Params", "M", "Parameters of the network with all its experts.", 1e6, 2),
        _cost("multiply_adds", "MAdds", "M", "Multiply-adds of one image through all experts.", 1e6, 1),
        Column(
            "training_seconds",
            "Train",
            "time",
            "Training time, the shortest of the seeds on the machine at hand, with the runs that a method starts from.",
            lambda row: duration(row["training_seconds"]),
            lower_first=True,
        ),
    ]


_ACCURACY = {
    "top1": "Fraction of test images classified correctly after the last epoch.",
    "macro": "Mean of the classes' accuracies after the last epoch: the test set has more images of some classes.",
}


def _compared(leaderboard: Leaderboard) -> list[Column]:
    """The columns that say whether rows differ."""
    metric = leaderboard.metric
    reference = leaderboard.reference
    first = "first" if leaderboard.leads else number(0, 1)
    return [
        Column(
            f"{metric}_low",
            "95 % interval",
            "%",
            "About another seed and other test images; with one seed, about images only. The strip shows it on one "
            "scale for the whole table, the mean as a dot; an arrow says that it goes on beyond the scale.",
            lambda row: interval(row[f"{metric}_low"], row[f"{metric}_high"]),
        ),
        Column(
            "behind",
            "Behind",
            "points",
            "Mean difference over the seeds that both have to the best of the rows that have all of the table's seeds. "
            "In brackets how many seeds both have, where a row lacks some.",
            lambda row: first if row["setting"] == reference else _behind(row),
            lower_first=True,
        ),
        Column(
            "p",
            "p",
            "adjusted",
            "Of a paired test against the best row, adjusted for the number of rows and for the choice of the best row "
            "by the same runs. n/a with fewer than 3 common seeds. Above 0.05 the row is not significantly worse.",
            lambda row: "–" if row["setting"] == reference else probability(row["p"]),
            lower_first=True,
        ),
        Column(
            "rank",
            "Mean rank",
            "by seeds",
            f"Mean rank over the table's seeds ({leaderboard.blocks}), of the rows that have them all; 1 is best."
            + _critical(leaderboard),
            lambda row: number(row["rank"], 1),
            lower_first=True,
            extra=True,
        ),
        Column(
            "wins",
            "Wins",
            "fraction",
            "Fraction of comparisons with the other rows, seed by seed, that the row wins; equality is half a win.",
            lambda row: number(row["wins"], 2),
            extra=True,
        ),
    ]


def _behind(row: Values) -> str:
    seeds = f" ({row['behind_n']})" if row["lacks_seeds"] else ""
    return number(row["behind"], 1) + seeds


def _critical(leaderboard: Leaderboard) -> str:
    """A sentence on the critical difference of mean ranks; empty without one."""
    if leaderboard.friedman is None or leaderboard.critical_difference is None:
        return ""
    return (
        f" Friedman's test that all rows rank alike: p {probability(leaderboard.friedman)}; ranks that are "
        f"{leaderboard.critical_difference:.1f} apart differ (Nemenyi, 5 %)."
    )


def _metric(key: str, heading: str, meaning: str, *, extra: bool = False) -> Column:
    lower = key in LOWER_IS_BETTER
    return Column(
        key, heading, "%", meaning, lambda row: spread(row[key], row[f"{key}_sd"]), lower_first=lower, extra=extra
    )


def _cost(key: str, heading: str, unit: str, meaning: str, scale: float, digits: int) -> Column:
    return Column(key, heading, unit, meaning, lambda row: number(row[key] / scale, digits), True, True)


def interval(low: float, high: float) -> str:
    """Both ends."""
    return MISSING if math.isnan(low) or math.isnan(high) else f"{number(low, 1)} to {number(high, 1)}"
