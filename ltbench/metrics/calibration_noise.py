"""Noise floor and debiased estimate of a measured calibration error, with an interval. Uses NumPy and SciPy alone.

A binned calibration error adds up absolute gaps, so that noise never cancels: a perfectly calibrated model measures an
ECE of 5 % on 400 images. Everything here is worked out from the reliability table (images, mean confidence and accuracy
of each bin), without draws, so that it can be said of every stored result.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.special
from numpy.typing import NDArray

from ltbench.metrics.confidence_bins import BINS, Floats

_Z = 1.959964  # of the middle 95 % of a normal distribution
_Z_ONE_SIDED = 1.644854  # of its lower 95 %
_LARGEST_SCALE = 8.0
"""True gaps are searched up to this multiple of the measured ones."""
_CLOSE = 1e-9
"""Largest difference of the measured error, 0 to 1, and the one that is expected at the scale that was found."""
_STEPS = 60
"""Largest number of steps of a search; about ten are needed."""
DRAWS = 1000
"""Number of draws that a mean is taken over."""


def confidence_table(confidence: NDArray[np.floating], cells: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Images and mean confidence of each of the ``BINS`` bins, (B,) each; 0 where it is empty.

    Args:
        confidence: (N,) of the images.
        cells: (N,) their bins (``bin_of``).
    """
    count = np.bincount(cells, minlength=BINS).astype(float)
    return count, np.bincount(cells, confidence, minlength=BINS) / np.maximum(count, 1)


@dataclass(frozen=True)
class ECEEstimate:
    """What a measured ECE says, of one model or as the mean over its seeds. Percent."""

    floor: float
    """The ECE that a perfectly calibrated model with the same confidences measures on average."""
    floor_limit: float
    """The ECE that it measures at most in 95 of 100 cases."""
    debiased: float
    """The debiased ECE, without what noise adds to it; 0 where the measured one is not above the floor."""
    low: float
    """Lower end of a 95 % interval of the debiased ECE."""
    high: float


def estimate(count: Floats, confidence: Floats, accuracy: Floats) -> ECEEstimate:
    """The noise floor of an ECE, the ECE without the bias that noise gives it, and a 95 % interval of that.

    The floor is the mean over consistency resampling (Bröcker and Smith, "Increasing the Reliability of Reliability
    Diagrams", Weather and Forecasting 2007): labels are drawn such that each prediction is right with the probability
    that it states. It is worked out in closed form, see ``mean_deviation``.

    The debiased ECE answers which true ECE measures what was measured, on average: the true gaps of the bins are taken
    to be the measured ones times a common factor, the factor at which the expected measured ECE is the measured one. A
    gap measured with normal noise has the mean absolute value of a folded normal distribution. The interval holds the
    true ECE of those factors for which the measured ECE lies in the middle 95 %: the same test, inverted. Simulations
    of how near the truth both are, with others beside them: benchmarks/statistics/calibration_error.md.

    Seeds are tested on the same images; their noise is taken to be one and the same, at worst. The spread over the
    seeds is added to it, so that the interval is about other seeds too.

    Args:
        count: (n, B) images in the bins of n seeds.
        confidence: (n, B) mean confidence, 0 to 1; of any value where a bin is empty.
        accuracy: (n, B) likewise.
    """
    return estimates(count[None], confidence[None], accuracy[None])[0]


def estimates(count: Floats, confidence: Floats, accuracy: Floats) -> list[ECEEstimate]:
    """The same of many models, each with as many seeds, which is quicker than one by one.

    Args:
        count: (m, n, B) images in the bins of n seeds of m models.
        confidence: (m, n, B), likewise.
        accuracy: (m, n, B), likewise.
    """
    gaps = _Gaps(count, confidence, accuracy)
    floor = ece_floor(count, confidence).mean(-1)
    seeds = count.shape[1]
    spread = gaps.measured.var(-1, ddof=1) / seeds if seeds > 1 else np.zeros(len(count))
    limit = floor + 100 * _Z_ONE_SIDED * gaps.at_none.deviation
    debiased = gaps.true_error(0.0, np.zeros(len(count)))
    low, high = gaps.true_error(_Z, spread), gaps.true_error(-_Z, spread)
    columns = (floor, limit, 100 * debiased, 100 * low, 100 * high)
    return [ECEEstimate(*map(float, one)) for one in zip(*columns, strict=True)]


def ece_floor(count: Floats, confidence: Floats) -> Floats:
    """(...,) ECE that a perfectly calibrated model with these confidences measures on average, percent.

    Args:
        count: (..., B) images in each bin, at least one in all.
        confidence: (..., B) mean confidence.
    """
    floor: Floats = 100 * mean_deviation(count, confidence).sum(-1) / count.sum(-1)
    return floor


def mean_deviation(count: Floats, probability: Floats) -> Floats:
    """E|X - n p| of binomial numbers X: 2 (1 - p) k P(X = k) with k = floor(n p) + 1 (de Moivre).

    It stands for the sum of a bin's images that are each right with a probability of their own: within a bin these
    differ so little that the deviation differs by less than 2 %.

    Args:
        count: (...) n.
        probability: (...) p.
    """
    n = np.maximum(count, 1)
    p = np.clip(probability, 0, 1)
    k = np.minimum(np.floor(n * p), n - 1) + 1
    log_choose = scipy.special.gammaln(n + 1) - scipy.special.gammaln(k + 1) - scipy.special.gammaln(n - k + 1)
    log_probability = log_choose + scipy.special.xlogy(k, p) + scipy.special.xlog1py(n - k, -p)
    return np.where(count > 0, 2 * (1 - p) * k * np.exp(log_probability), 0.0)


def mce_floor(count: Floats, confidence: Floats, draws: int = DRAWS, key: int = 0) -> float:
    """The MCE that a perfectly calibrated model with these confidences measures on average, percent.

    Mean over draws of consistency resampling, always the same ones.

    Args:
        count: (B,) images in each bin.
        confidence: (B,) mean confidence.
        draws: their number.
        key: another one gives other draws; models whose mean is taken need their own.
    """
    there = count > 0
    n, p = count[there].astype(np.int64), np.clip(confidence[there], 0, 1)
    drawn = np.random.Generator(np.random.Philox(key=key)).binomial(n, p, (draws, len(n)))
    return float(100 * np.abs(drawn / n - p).max(1).mean())


def consistency_bars(count: Floats, confidence: Floats) -> tuple[Floats, Floats]:
    """Within which the accuracy of a bin lies in 95 of 100 cases if the model is perfectly calibrated.

    Bröcker and Smith (2007), section 3.

    Args:
        count: (B,) images in each bin; need not be whole.
        confidence: (B,) mean confidence.

    Returns:
        Two (B,) arrays, lower and upper end, 0 to 1; NaN for an empty bin.
    """
    n, p = np.maximum(np.rint(count), 1), np.clip(confidence, 0, 1)
    low, high = (_binomial_quantile(level, n, p) / n for level in (0.025, 0.975))
    empty = count <= 0
    return np.where(empty, np.nan, low), np.where(empty, np.nan, high)


def _binomial_quantile(level: float, n: Floats, p: Floats) -> Floats:
    """The least k with P(X <= k) >= level; as scipy.stats.binom.ppf, which takes longer to import than to draw with."""
    k = np.ceil(scipy.special.bdtrik(level, n, np.clip(p, 1e-12, 1 - 1e-12)))
    k = np.clip(k, 0, n)
    less = np.maximum(k - 1, 0)
    least: Floats = np.where(scipy.special.bdtr(less, n.astype(int), p) >= level, less, k)
    return least


@dataclass(frozen=True)
class _Moments:
    """(m,) each, of m models: 0 to 1, mean over seeds."""

    true: Floats
    measured: Floats
    deviation: Floats


class _Gaps:
    """Measured gaps of the bins of models' seeds, and what would be measured if the true ones were a multiple of them.

    Holds (K,) values, those of the bins that have images: of a calibrated model's bins half have none.

    Args:
        count: (m, n, B) images in each bin, as confidence and accuracy.
    """

    def __init__(self, count: Floats, confidence: Floats, accuracy: Floats) -> None:
        there = count > 0
        bins = there.sum(-1)
        self.first = np.concatenate([[0], np.cumsum(bins)[:-1]])
        """(m n,) place of the first bin of each seed."""
        self.model = np.repeat(np.arange(len(count)), bins.sum(-1))
        """(K,) model of each bin."""
        self.images = count.sum(-1)
        self.fraction = (count / self.images[..., None])[there]
        self.count = count[there]
        self.confidence = np.clip(confidence[there], 0, 1)
        gap = accuracy[there] - self.confidence
        self.measured = self._over_bins(self.fraction * np.abs(gap))
        # No gap gives a direction: one standard error of each bin does, away from 0 and 1.
        error = np.sqrt(self.confidence * (1 - self.confidence) / self.count)
        directed = np.where(self.confidence > 0.5, -error, error)
        self.gap = np.where((self.measured.max(-1) > 0)[self.model], gap, directed)
        # A binomial deviation where images are few, e.g. one in a bin, is not that of a normal distribution.
        normal = np.sqrt(2 / np.pi * self.count * self.confidence * (1 - self.confidence))
        exact = mean_deviation(self.count, self.confidence)
        self.shape = np.divide(exact, normal, out=np.ones_like(normal), where=normal > 0)

    def _over_bins(self, values: Floats) -> Floats:
        """(m, n) sums over the (K,) bins of each seed."""
        sums: Floats = np.add.reduceat(values, self.first).reshape(self.images.shape)
        return sums

    def moments(self, scale: Floats) -> _Moments:
        """True value, expected value and standard deviation of the ECE where gaps are (m,) times the measured ones."""
        accuracy = np.clip(self.confidence + scale[self.model] * self.gap, 0, 1)
        gap = np.abs(accuracy - self.confidence)
        noise = np.maximum(self.shape * np.sqrt(accuracy * (1 - accuracy) / self.count), 1e-12)
        folded = noise * np.sqrt(2 / np.pi) * np.exp(-((gap / noise) ** 2) / 2) + gap * scipy.special.erf(
            gap / noise / np.sqrt(2)
        )
        true = self._over_bins(self.fraction * gap)
        within = self._over_bins(self.fraction**2 * np.maximum(gap**2 + noise**2 - folded**2, 0))
        between = (self._over_bins(self.fraction * gap**2) - true**2) / self.images
        deviation = np.sqrt(within + np.maximum(between, 0))
        return _Moments(true.mean(-1), self._over_bins(self.fraction * folded).mean(-1), deviation.mean(-1))

    @cached_property
    def at_none(self) -> _Moments:
        """The moments where no bin has a gap, as of a calibrated model."""
        return self.moments(np.zeros(len(self.images)))

    @cached_property
    def at_largest(self) -> _Moments:
        """The moments at the largest scale."""
        return self.moments(np.full(len(self.images), _LARGEST_SCALE))

    def true_error(self, deviations: float, spread: Floats) -> Floats:
        """(m,) true ECE from which the measured one is so many standard deviations away; 0 where there is none.

        Args:
            deviations: above the expected value.
            spread: (m,) variance that is added to that of the images.
        """
        measured = self.measured.mean(-1)

        def excess(moments: _Moments) -> Floats:
            noise = deviations * np.sqrt(moments.deviation**2 + spread)
            return np.asarray(moments.measured + noise - measured)

        # Regula falsi (Illinois): scipy.optimize takes longer to import than `ltbench show` to run.
        low, high = np.zeros(len(measured)), np.full(len(measured), _LARGEST_SCALE)
        below, above = excess(self.at_none), excess(self.at_largest)
        none, most = below >= 0, above <= 0
        done, scale, found = none | most, high, self.at_largest
        stayed = np.zeros(len(measured))
        for _ in range(_STEPS):
            if done.all():
                break
            width = np.where(done, 1, above - below)
            scale = np.where(done, scale, (low * above - high * below) / width)
            found = self.moments(scale)
            here = excess(found)
            done = done | (np.abs(here) <= _CLOSE)
            # An end that stays for a second time counts half, or the other one would hardly move any more.
            is_below = here < 0
            above = np.where(is_below, np.where(stayed > 0, above / 2, above), here)
            below = np.where(is_below, here, np.where(stayed < 0, below / 2, below))
            low, high = np.where(is_below, scale, low), np.where(is_below, high, scale)
            stayed = np.where(is_below, 1, -1)
        return np.where(none, 0.0, found.true)
