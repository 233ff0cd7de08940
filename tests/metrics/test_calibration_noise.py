"""What a measured calibration error says, against sums over all outcomes and against populations that are known."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats

from ltbench.metrics import calibration_noise as noise
from ltbench.metrics.calibration import classwise_ece, reliability
from ltbench.metrics.confidence_bins import bin_of


def table(*columns):
    return tuple(np.array([column], dtype=float) for column in columns)


@pytest.mark.parametrize(("n", "p"), [(1, 0.95), (2, 0.5), (7, 0.3), (4, 0.25), (50, 0.97), (3, 1.0), (4, 0.0)])
def test_the_mean_deviation_is_the_sum_over_all_outcomes(n, p):
    exact = sum(
        abs(sum(each) - n * p) * np.prod([p if one else 1 - p for one in each])
        for each in itertools.product((0, 1), repeat=min(n, 7))
    )
    if n > 7:
        exact = 0.9914106240021  # of scipy.stats.binom(50, .97), summed over 0 to 50
    assert noise.mean_deviation(np.array(float(n)), np.array(p)) == pytest.approx(exact)


def test_the_floor_by_hand():
    # One image at .9: off by .1 in 9 of 10 cases and by .9 in one: .18. Two at .5: 1 of 2 right half the time, else
    # off by 1: .5. Of three images (.18 + .5) / 3 = 22.67 %.
    assert noise.ece_floor(*table([1, 2, 0], [0.9, 0.5, 0.0])) == pytest.approx([100 * 0.68 / 3])
    # MCE: .9 in one of 10 cases, for the first bin; else .5 in half of the cases, for the second, and .1
    expected = 100 * (0.1 * 0.9 + 0.9 * (0.5 * 0.5 + 0.5 * 0.1))
    assert noise.mce_floor(np.array([1.0, 2, 0]), np.array([0.9, 0.5, 0])) == pytest.approx(expected, abs=2)


def test_no_doubt_has_no_floor():
    found = noise.estimate(*table([0, 5], [0, 1], [0, 1]))
    assert (found.floor, found.debiased, found.low) == (0, 0, 0)
    assert found.high == pytest.approx(0, abs=1e-6)


def test_a_gap_that_noise_cannot_make_stays_as_it_is():
    # 10,000 images at .9 of which .8 are right: noise of .4 points cannot add to a gap of one sign
    found = noise.estimate(*table([10_000], [0.9], [0.8]))
    assert found.debiased == pytest.approx(10, abs=0.01)
    assert (found.low, found.high) == pytest.approx((10 - 1.96 * 0.4, 10 + 1.96 * 0.4), abs=0.03)


def test_an_error_not_above_the_floor_is_none():
    count, confidence = np.full((1, 15), 27.0), (np.arange(15)[None] + 0.5) / 15
    floor = noise.ece_floor(count, confidence).item() / 100
    found = noise.estimate(count, confidence, np.clip(confidence + floor * np.array([1, -1] * 7 + [1]), 0, 1))
    assert (found.debiased, found.low) == (0, 0)
    assert found.floor < found.floor_limit


@pytest.mark.parametrize("case", range(8))
def test_the_debiased_error_is_expected_to_measure_what_was_measured(case):
    """Against Brent's search and the folded normal distribution of SciPy."""
    generator = np.random.default_rng(case)
    count = generator.integers(1, [3, 40, 1000][case % 3], 15).astype(float)
    confidence = (np.arange(15) + generator.random(15)) / 15
    accuracy = generator.binomial(count.astype(int), np.clip(confidence + generator.normal(0, 0.2, 15), 0, 1)) / count
    gap, fraction = accuracy - confidence, count / count.sum()
    usual = np.sqrt(2 / np.pi * confidence * (1 - confidence) / count)
    shape = noise.mean_deviation(count, confidence) / count / usual  # of few images: not that of a normal number

    def gaps(scale):
        return np.clip(confidence + scale * gap, 0, 1) - confidence

    def excess(scale):
        right = confidence + gaps(scale)
        spread = np.maximum(shape * np.sqrt(right * (1 - right) / count), 1e-12)
        with np.errstate(all="ignore"):  # of its higher moments
            expected = stats.foldnorm.mean(np.abs(gaps(scale)) / spread, scale=spread)
        return fraction @ (expected - np.abs(gap))

    found = noise.estimate(count[None], confidence[None], accuracy[None]).debiased
    scale = 0.0 if excess(0.0) >= 0 else optimize.brentq(excess, 0, 8, xtol=1e-12)
    assert found == pytest.approx(100 * fraction @ np.abs(gaps(scale)), abs=1e-6)


def test_seeds_that_measure_the_same_say_what_one_says():
    one = table([50, 50], [0.6, 0.9], [0.5, 0.85])
    single, five = noise.estimate(*one), noise.estimate(*(np.repeat(values, 5, 0) for values in one))
    assert (five.floor, five.debiased, five.high) == pytest.approx((single.floor, single.debiased, single.high))


@pytest.mark.parametrize("images", [1, 2, 3, 7, 20, 100, 999, 50_000])
@pytest.mark.parametrize("level", [0.025, 0.975])
def test_binomial_quantiles_are_those_of_scipy_stats(images, level):
    shares = np.random.default_rng(0).random(300)
    p = np.concatenate([[0, 1, 0.5, 1e-9, 1 - 1e-9], shares, shares**8, 1 - shares**8])
    n = np.full(len(p), float(images))
    assert np.array_equal(noise._binomial_quantile(level, n, p), stats.binom.ppf(level, n, p))


def test_consistency_bars_hold_95_of_100_outcomes():
    low, high = noise.consistency_bars(np.array([100.0, 4, 0]), np.array([0.9, 0.25, 0.5]))
    # binomial(100, .9): P(X <= 83) = .021, P(X <= 95) = .976; of (4, .25): P(X <= 2) = .949, P(X <= 3) = .996
    assert low.tolist()[:2] == [0.84, 0.0]
    assert high.tolist()[:2] == [0.95, 0.75]
    assert np.isnan([low[2], high[2]]).all()


def test_an_image_at_an_edge_is_in_the_bin_below_it_everywhere():
    edges = np.arange(1, 15) / 15
    for bins, values in ((15, edges), (10, np.arange(1, 10) / 10), (20, np.arange(1, 20) / 20)):
        whole = np.arange(bins - 1)
        single = values.astype(np.float32)
        assert bin_of(values, bins).tolist() == bin_of(single, bins).tolist() == whole.tolist()
        found = reliability(torch.from_numpy(single), torch.ones(bins - 1, dtype=torch.bool), bins)
        assert found.count.tolist() == [1] * (bins - 1) + [0]
        above = np.nextafter(single, np.float32(1))
        assert bin_of(above, bins).tolist() == (whole + 1).tolist()
    packed = np.rint(edges * 65535) / 65535  # as results keep confidences
    assert bin_of(packed).tolist() == list(range(14))


def test_classes_at_an_edge_too():
    # softmax of (log 3, log 2) is (.6, .4) exactly as float32 has them: the upper ends of bins 9 and 6 of 15.
    logits = torch.tensor([[0.6, 0.4]]).log()
    cells = bin_of(logits.softmax(1).numpy())
    assert cells.tolist() == [[8, 5]]
    assert classwise_ece(logits, torch.tensor([0])) == pytest.approx(40, rel=1e-5)


@given(st.integers(0, 1000), st.integers(1, 4))
def test_an_interval_holds_its_estimate(seed, seeds):
    generator = np.random.default_rng(seed)
    count = generator.integers(0, 30, (seeds, 15)).astype(float) + np.eye(seeds, 15)
    confidence, accuracy = generator.random((2, seeds, 15))
    found = noise.estimate(count, confidence, accuracy)
    measured = (100 * (count * abs(confidence - accuracy)).sum(1) / count.sum(1)).mean()
    assert 0 <= found.low <= found.debiased + 1e-6 <= found.high + 2e-6
    assert found.debiased <= measured + 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize(("error", "kind"), [(0.0, "overconfident"), (5.0, "overconfident"), (15.0, "too steep")])
def test_intervals_hold_the_truth_and_the_debiased_error_is_nearer_to_it(simulation, error, kind, seeds):
    # As benchmarks/statistics/calibration_error.md, smaller.
    row = simulation("calibration_error").simulate(kind, error, 400, seeds, 60)
    assert row.coverage >= 0.85
    measured, floor, debiased, *_ = row.figures.T
    assert abs(row.error(debiased)[0]) < abs(row.error(measured)[0])
    if not error:
        assert floor.mean() == pytest.approx(measured.mean(), rel=0.05)


def test_a_gap_of_nothing_on_few_images_does_not_rule_out_an_error():
    found = noise.estimate(*table([2], [0.5], [0.5]))
    assert (found.floor, found.debiased, found.low) == (25.0, 0.0, 0.0)
    assert found.high > 20


def test_many_models_at_once_are_as_each_alone():
    rng = np.random.default_rng(0)
    count = rng.integers(0, 40, (6, 3, 15)).astype(float)
    confidence, accuracy = rng.random((2, 6, 3, 15))
    accuracy[2] = confidence[2]  # no gap at all
    together = noise.estimates(count, confidence, accuracy)
    for number, one in enumerate(together):
        assert one == noise.estimate(count[number], confidence[number], accuracy[number])
    assert len({one.debiased for one in together}) > 3
