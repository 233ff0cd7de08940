"""Statistics of comparisons: intervals, paired tests and ranks, as pure functions of arrays.

Runs of one setting differ in their seed. Every method is run on the same seeds and every run is tested on the same
images, so seeds pair the runs of two methods.
"""

import math

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special  # not stats, which takes as long to import as pandas and all else together

Floats = NDArray[np.floating]
Interval = tuple[float, float]
ALPHA = 0.05
FEWEST = 3
"""Seeds that two rows must share for a test."""
_ROUNDING = 1e-12


def class_balanced_weights(labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """(N,) the weight of each image in the mean class accuracy, 1 / (C N_c); they sum to 1.

    Args:
        labels: (N,) classes, of which C have images.
    """
    _, index, images = np.unique(labels, return_inverse=True, return_counts=True)
    weights: NDArray[np.float64] = 1 / (len(images) * images[index])
    return weights


def accuracy_interval(right: NDArray[np.bool_], weights: Floats | None = None) -> Interval:
    """95 % interval of the mean accuracy over seeds, in percent: of another seed on other images.

    Two sources of variance add up, that of the runs about the seeds and that of the images. With acc_r the accuracy of
    run r of n, c_i the fraction of runs that classify image i correctly and w_i its weight:

    - images: the sum of w_i^2 (c_i - mean)^2, N / (N - 1) times;
    - seeds: the variance of acc_r over n, less what the draw of the images adds to it, the sum of w_i^2 c_i (1 - c_i)
      over n - 1, and not below 0.

    Each is multiplied by the square of its own quantile of Student's t, with N - 1 and n - 1 degrees of freedom, and
    the sum is the squared half-width (Zou & Donner, Statistics in Medicine 2008). The interval is Wilson's (Journal of
    the American Statistical Association 1927) of a proportion with that half-width: within 0 to 100, and not of width 0
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
    width = special.stdtrit(max(images - 1, 1), 1 - ALPHA / 2) ** 2 * of_images
    if runs > 1:
        drawn = float(squares @ (shares * (1 - shares))) / (runs - 1)
        of_seeds = max(0.0, float((right @ weights).var(ddof=1)) / runs - drawn)
        width += special.stdtrit(runs - 1, 1 - ALPHA / 2) ** 2 * of_seeds
    # Half-width squared over p (1 - p): of a fraction of M independent images, z^2 / M. Where all images are right, or
    # none is, that of the images; else no less than if every run had images of its own.
    z2 = float(special.ndtri(1 - ALPHA / 2)) ** 2 * float(squares.sum())
    binomial = mean * (1 - mean)
    ratio = max(width / binomial, z2 / runs) if binomial > _ROUNDING else z2
    middle = (mean + ratio / 2) / (1 + ratio)
    half = float(np.sqrt(binomial * ratio + ratio**2 / 4)) / (1 + ratio)
    return 100 * max(0.0, middle - half), 100 * min(1.0, middle + half)


def average_ranks(scores: Floats) -> NDArray[np.float64]:
    """(k,) mean rank of each row over the blocks, 1 the highest score, ties sharing theirs (Demsar, JMLR 2006, 3.2.2).

    Args:
        scores: (k, blocks) without NaN.
    """
    means: NDArray[np.float64] = _ranked(-scores).mean(1)
    return means


def _ranked(scores: Floats) -> NDArray[np.float64]:
    """(k, blocks) rank of each row in each block, 1 the lowest score, ties sharing theirs; NaN where there is none."""
    ranks: NDArray[np.float64] = pd.DataFrame(scores.round(9)).rank().to_numpy()
    return ranks


def critical_difference(rows: int, blocks: int) -> float:
    """Critical difference of two mean ranks at the 5 % level, of all pairs (Nemenyi; Demsar, JMLR 2006, 3.2.2).

    NaN for fewer than two rows or blocks.
    """
    if rows < 2 or blocks < 2:
        return float("nan")
    return studentized_range(rows) / math.sqrt(2) * math.sqrt(rows * (rows + 1) / (6 * blocks))


def studentized_range(k: int) -> float:
    """The 95 % quantile of the range of k standard normal numbers: of Tukey's q with infinite degrees of freedom.

    The range is at most q with the probability k times the integral of phi(z) (Phi(z) - Phi(z - q))^(k - 1) over z.
    """
    z = np.linspace(-9, 9, 3601)
    density = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    low, high = 0.0, 20.0
    while high - low > 1e-9:
        q = (low + high) / 2
        within = (special.ndtr(z) - special.ndtr(z - q)) ** (k - 1)
        probability = k * (density * within).sum() * (z[1] - z[0])  # nothing is left at the ends
        low, high = (q, high) if probability < 1 - ALPHA else (low, q)
    return high


def friedman_p(scores: Floats) -> float:
    """The p of Friedman's test that all rows rank alike; NaN for fewer than three rows or two blocks, or ties only.

    Args:
        scores: (k, blocks) without NaN.
    """
    if scores.shape[0] < 3 or scores.shape[1] < 2 or np.ptp(scores.round(9), axis=0).max() == 0:
        return float("nan")
    ranks = _ranked(scores)
    k, blocks = scores.shape
    # Friedman's statistic in the form that ties leave valid (Conover, "Practical Nonparametric Statistics", 5.8).
    between = (blocks * (ranks.mean(1) - (k + 1) / 2) ** 2).sum()
    within = ((ranks - (k + 1) / 2) ** 2).sum() / (blocks * (k - 1))
    return float(special.chdtrc(k - 1, between / within))


def win_rates(scores: Floats) -> NDArray[np.float64]:
    """(k,) the fraction of comparisons with every other row on the same seed that a row wins; a tie is half a win.

    Args:
        scores: (k, seeds), NaN where there is no run; the comparison is left out then.
    """
    ranks = _ranked(scores)  # counts the rows below, ties half
    others = np.where(np.isnan(scores), 0, (~np.isnan(scores)).sum(0) - 1).sum(1)
    wins = np.nansum(ranks - 1, axis=1)
    rates: NDArray[np.float64] = np.divide(wins, others, out=np.full(len(scores), np.nan), where=others > 0)
    return rates
