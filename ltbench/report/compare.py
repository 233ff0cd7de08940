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
_BINS = 15
_ROUNDING = 1e-12
_BLOCK = 256
"""Runs to resample at a time, so that memory does not grow with their number."""
_IMAGES, _SEEDS = 1, 2  # streams of the random generator


@dataclass(frozen=True)
class Resampled:
    """Bootstrap samples of a test set of N images, (N, B) each."""

    drawn: NDArray[np.float32]
    """How often a sample has each image; columns sum to N."""
    weights: NDArray[np.float64]
    """(N,) the weight of each image in the mean class accuracy; they sum to 1."""


def resample_images(labels: NDArray[np.int64]) -> Resampled:
    """Draw the images of a test set with replacement; always the same draws for as many images.

    Args:
        labels: (N,) classes.
    """
    _, index, images = np.unique(labels, return_inverse=True, return_counts=True)
    return Resampled(_draw(len(labels), _IMAGES), 1 / (len(images) * images[index]))


def intervals(right: NDArray[np.bool_], confidence: Floats, images: Resampled) -> dict[str, Interval]:
    """95 % intervals of the mean over seeds, in percent: top1, macro, ece.

    They are about another seed and other images; with one run about other images only. Those of accuracies are
    ``accuracy_interval``'s. For that of ECE seeds and test images are both drawn with replacement, independently of
    each other (the pigeonhole bootstrap, Owen, Annals of Applied Statistics 2007). Few seeds understate their own
    variance by (n - 1) / n there: from three to five runs it is somewhat too narrow. The plug-in ECE is biased upwards,
    and more so under resampling; the basic (reflected) interval takes the bias off (Davison & Hinkley, Bootstrap
    Methods and their Application, 1997, 5.2), cut at 0.

    Args:
        right: (n, N) which of the N images each of the n runs classifies correctly.
        confidence: (n, N) the probability of the predicted class.
        images: bootstrap samples of the test set.
    """
    excess = excess_by_bin(right, confidence)
    measured = float(calibration_errors(excess, np.ones((right.shape[1], 1), np.float32)).mean())
    samples = np.einsum("nb,nb->b", calibration_errors(excess, images.drawn), _seeds(len(right))) / len(right)
    return {
        "top1": accuracy_interval(right),
        "macro": accuracy_interval(right, images.weights),
        "ece": basic_interval(measured, samples),
    }


def accuracy_interval(right: NDArray[np.bool_], weights: Floats | None = None) -> Interval:
    """95 % interval of the mean accuracy over seeds, in percent: of another seed on other images.

    Two sources of variance add up, that of the runs about the seeds and that of the images. With acc_r the accuracy of
    run r of n, c_i the share of runs that classify image i correctly and w_i its weight:

    - images: the sum of w_i^2 (c_i - mean)^2, N / (N - 1) times;
    - seeds: the variance of acc_r over n, less what the draw of the images adds to it, the sum of w_i^2 c_i (1 - c_i)
      over n - 1, and not below 0.

    Each is multiplied by the square of its own quantile of Student's t, with N - 1 and n - 1 degrees of freedom, and
    the sum is the squared half-width (Zou & Donner, Statistics in Medicine 2008). The interval is Wilson's (Journal of
    the American Statistical Association 1927) of a share with that half-width: within 0 to 100, and not of width 0
    where all images are right. With one run it is about the images only.

    How often it covers the truth in simulation: benchmarks/statistics/accuracy_intervals.md.

    Args:
        right: (n, N) which of the N images each of the n runs classifies correctly.
        weights: (N,) of the images, summing to 1; None for equal ones. 1 / (C N_c) makes the mean over classes.
    """
    runs, images = right.shape
    weights = np.full(images, 1 / images) if weights is None else weights
    shares = right.mean(0)
    mean = float(shares @ weights)
    squares = weights**2
    of_images = float(squares @ (shares - mean) ** 2) * images / max(images - 1, 1)
    width = stats.t.ppf(1 - ALPHA / 2, max(images - 1, 1)) ** 2 * of_images
    if runs > 1:
        drawn = float(squares @ (shares * (1 - shares))) / (runs - 1)
        of_seeds = max(0.0, float((right @ weights).var(ddof=1)) / runs - drawn)
        width += stats.t.ppf(1 - ALPHA / 2, runs - 1) ** 2 * of_seeds
    # Half-width squared over p (1 - p): of a share of M independent images, z^2 / M. Where all images are right, or
    # none is, that of the images; else no less than if every run had images of its own.
    z2 = float(stats.norm.ppf(1 - ALPHA / 2)) ** 2 * float(squares.sum())
    binomial = mean * (1 - mean)
    ratio = max(width / binomial, z2 / runs) if binomial > _ROUNDING else z2
    middle = (mean + ratio / 2) / (1 + ratio)
    half = float(np.sqrt(binomial * ratio + ratio**2 / 4)) / (1 + ratio)
    return 100 * max(0.0, middle - half), 100 * min(1.0, middle + half)


def excess_by_bin(right: NDArray[np.bool_], confidence: Floats) -> sparse.csr_array:
    """Confidence less correctness of every image, in the row of its run and bin: (n * bins, N).

    15 bins of equal width, (lower, upper]; the sizes of the sums over rows make the ECE (Guo et al., ICML 2017, eq. 5).

    Args:
        right: (n, N).
        confidence: (n, N).
    """
    runs, images = right.shape
    bins = np.searchsorted(np.arange(1, _BINS) / _BINS, confidence, side="left").astype(np.int32)
    row = (np.arange(runs, dtype=np.int32)[:, None] * _BINS + bins).ravel()
    column = np.tile(np.arange(images, dtype=np.int32), runs)
    excess = (confidence - right).astype(np.float32).ravel()
    return sparse.csr_array((excess, (row, column)), shape=(runs * _BINS, images))


def calibration_errors(excess: sparse.csr_array, drawn: NDArray[np.float32]) -> NDArray[np.float32]:
    """ECE of every run on every sample of the images, percent.

    Args:
        excess: of n runs, as ``excess_by_bin`` gives it.
        drawn: (N, B) how often a sample has each image.

    Returns:
        (n, B).
    """
    errors = np.empty((excess.shape[0] // _BINS, drawn.shape[1]), np.float32)
    for start in range(0, len(errors), _BLOCK):
        gaps = excess[start * _BINS : (start + _BLOCK) * _BINS] @ drawn
        np.abs(gaps, out=gaps).reshape(-1, _BINS, drawn.shape[1]).sum(1, out=errors[start : start + _BLOCK])
    return errors * np.float32(100 / len(drawn))


def percentile_interval(samples: Floats) -> Interval:
    """The middle 95 % of a statistic's bootstrap samples."""
    low, high = np.quantile(samples, (ALPHA / 2, 1 - ALPHA / 2))
    return float(low), float(high)


def basic_interval(value: float, samples: Floats) -> Interval:
    """The percentile interval mirrored at the measured value, cut at 0."""
    low, high = percentile_interval(samples)
    return max(0.0, 2 * value - high), max(0.0, 2 * value - low)


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
