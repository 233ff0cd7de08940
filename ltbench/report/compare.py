"""Is the difference real? Intervals, tests and ranks: pure functions of arrays.

Runs of one setting differ in their seed. Every method is run on the same seeds and every run is tested on the same
images, so seeds pair the runs of two methods, and one resample of the images serves all runs.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import sparse, stats

Floats = NDArray[np.floating]
Interval = tuple[float, float]
ALPHA = 0.05
SAMPLES = 1000
FEWEST = 3
"""Seeds that two rows must share for a test."""
_IMAGES, _SEEDS = 1, 2  # streams of the random generator


@dataclass(frozen=True)
class Resampled:
    """Bootstrap samples of a test set of N images, (N, B) each."""

    drawn: NDArray[np.float32]
    """How often a sample has each image; columns sum to N."""
    by_class: NDArray[np.float32]
    """The weight of each image in a sample's mean class accuracy; columns sum to 1."""


def resample_images(labels: NDArray[np.int64]) -> Resampled:
    """Draw the images of a test set with replacement; always the same draws for as many images.

    Args:
        labels: (N,) classes. One that a sample lacks does not count in its mean class accuracy.
    """
    drawn = _draw(len(labels), _IMAGES)
    _, index = np.unique(labels, return_inverse=True)
    belongs = sparse.csr_array((np.ones(len(labels), np.float32), (index, np.arange(len(labels)))))
    images = belongs @ drawn  # (C, B)
    weights = np.divide(1, images, out=np.zeros_like(images), where=images > 0) / (images > 0).sum(0)
    return Resampled(drawn, (drawn * weights[index]).astype(np.float32))


def intervals(right: NDArray[np.bool_], images: Resampled) -> dict[str, Interval]:
    """95 % bootstrap intervals of the mean over seeds, in percent: top1, macro.

    Seeds and test images are both drawn with replacement, independently of each other (the pigeonhole bootstrap,
    Owen, Annals of Applied Statistics 2007), so the interval is about another seed and other images; with one run it
    is about other images only. Few seeds understate their own variance by (n - 1) / n: from three to five runs the
    intervals are somewhat too narrow.

    Args:
        right: (n, N) which of the N images each of the n runs classifies correctly.
        images: bootstrap samples of the test set.
    """
    hits = right.astype(np.float32)
    samples = {
        "top1": 100 / right.shape[1] * (hits @ images.drawn),
        "macro": 100 * (hits @ images.by_class),
    }
    drawn = _seeds(len(right))
    over_seeds = {name: np.einsum("nb,nb->b", values, drawn) / len(right) for name, values in samples.items()}
    return {
        "top1": percentile_interval(over_seeds["top1"]),
        "macro": percentile_interval(over_seeds["macro"]),
    }


def percentile_interval(samples: Floats) -> Interval:
    """The middle 95 % of a statistic's bootstrap samples."""
    low, high = np.quantile(samples, (ALPHA / 2, 1 - ALPHA / 2))
    return float(low), float(high)


@lru_cache(maxsize=16)
def _seeds(count: int) -> NDArray[np.float32]:
    return _draw(count, _SEEDS)


def _draw(count: int, stream: int) -> NDArray[np.float32]:
    """(count, B) how often each of so many things is drawn in each of B samples of as many."""
    generator = np.random.Generator(np.random.Philox(key=np.array([stream, count], np.uint64)))
    drawn = np.empty((count, SAMPLES), np.float32)
    for sample in range(SAMPLES):
        drawn[:, sample] = np.bincount(generator.integers(count, size=count), minlength=count)
    return drawn


def paired_p(first: Floats, second: Floats) -> float:
    """Two-sided p of the paired t test over the seeds that both have.

    Args:
        first: (seeds,) figures of one setting, NaN where there is no run.
        second: (seeds,) of the other.

    Returns:
        1 where all pairs are equal. NaN for fewer than three pairs, and where all differ by the same: the spread,
        without which there is no test, cannot be estimated then.
    """
    both = ~np.isnan(first) & ~np.isnan(second)
    differences = (first - second)[both].round(9)
    if both.sum() < FEWEST:
        return float("nan")
    if np.ptp(differences) == 0:
        return float("nan") if differences[0] else 1.0
    return float(stats.ttest_rel(first[both], second[both]).pvalue)


def holm(p: Floats) -> NDArray[np.float64]:
    """Adjust p values for their number by the step-down procedure of Holm (Scandinavian Journal of Statistics 1979).

    Args:
        p: (k,); what is NaN was not tested and does not count.
    """
    adjusted = np.full(len(p), np.nan)
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)))
    return adjusted


def against_best(scores: Floats, best: int) -> NDArray[np.float64]:
    """Holm-adjusted p of every row against the best one; NaN for itself.

    Comparing with the best only asks fewer questions than comparing all pairs: the idea of multiple comparisons with
    the best (Hsu, Annals of Statistics 1981), where the rows that are not told apart form a set that holds the true
    best. Here the tests are pairwise and the best is the best of these very runs, so the level is not exact: where all
    of 2 to 31 rows were equal on 3 to 10 simulated seeds, a given one was told apart from the best in under 3 % of
    tables, but some row of the table in up to 22 %.

    Args:
        scores: (k, seeds) figures of the rows, NaN where there is no run.
        best: its row.
    """
    p = [float("nan") if row == best else paired_p(scores[best], scores[row]) for row in range(len(scores))]
    return holm(np.array(p))


def average_ranks(scores: Floats) -> NDArray[np.float64]:
    """(k,) mean rank of each row over the blocks, 1 the highest score, ties sharing theirs (Demsar, JMLR 2006, 3.2.2).

    Args:
        scores: (k, blocks) without NaN.
    """
    ranks: NDArray[np.float64] = stats.rankdata(-scores.round(9), axis=0).mean(1)
    return ranks


def critical_difference(rows: int, blocks: int) -> float:
    """By how much two mean ranks must differ at the 5 % level, of all pairs (Nemenyi; Demsar, JMLR 2006, 3.2.2).

    NaN for fewer than two rows or blocks.
    """
    if rows < 2 or blocks < 2:
        return float("nan")
    q = stats.studentized_range.ppf(1 - ALPHA, rows, np.inf) / np.sqrt(2)
    return float(q * np.sqrt(rows * (rows + 1) / (6 * blocks)))


def friedman_p(scores: Floats) -> float:
    """The p of Friedman's test that all rows rank alike; NaN for fewer than three rows or two blocks, or ties only.

    Args:
        scores: (k, blocks) without NaN.
    """
    if scores.shape[0] < 3 or scores.shape[1] < 2 or np.ptp(scores.round(9), axis=0).max() == 0:
        return float("nan")
    return float(stats.friedmanchisquare(*scores.round(9)).pvalue)


def win_rates(scores: Floats) -> NDArray[np.float64]:
    """(k,) the share of comparisons with every other row on the same seed that a row wins; a tie is half a win.

    Args:
        scores: (k, seeds), NaN where there is no run; the comparison is left out then.
    """
    ranks = stats.rankdata(scores.round(9), axis=0, nan_policy="omit")  # counts the rows below, ties half
    others = np.where(np.isnan(scores), 0, (~np.isnan(scores)).sum(0) - 1).sum(1)
    wins = np.nansum(ranks - 1, axis=1)
    rates: NDArray[np.float64] = np.divide(wins, others, out=np.full(len(scores), np.nan), where=others > 0)
    return rates
