"""Statistics against tables small enough to check by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from ltbench.report.compare import (
    against_best,
    average_ranks,
    critical_difference,
    friedman_p,
    holm,
    intervals,
    paired_p,
    percentile_interval,
    resample_images,
    win_rates,
)

NAN = float("nan")
TABLES = arrays(float, array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=6), elements=st.integers(0, 5))


def test_paired_t_test():
    # differences 1, 2, 3: mean 2, sd 1, t = 2 / (1 / sqrt(3)) = sqrt(12); with two degrees of freedom
    # p = 1 - t / sqrt(2 + t^2) = 1 - sqrt(12 / 14) = 0.0742
    assert paired_p(np.array([2.0, 4.0, 6.0]), np.array([1.0, 2.0, 3.0])) == pytest.approx(1 - math.sqrt(12 / 14))


def test_pairs_are_the_seeds_that_both_have():
    first, second = np.array([2.0, 4.0, 6.0, 99.0, NAN]), np.array([1.0, 2.0, 3.0, NAN, 50.0])
    assert paired_p(first, second) == pytest.approx(1 - math.sqrt(12 / 14))


@pytest.mark.parametrize(
    ("first", "second", "p"),
    [
        ([1.0, 2.0], [3.0, 5.0], NAN),  # two pairs
        ([1.0, 2.0, NAN], [3.0, 5.0, 7.0], NAN),
        ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], 1.0),  # equal throughout
        ([1.0, 2.0, 3.0], [2.0, 3.0, 4.0], NAN),  # no spread to compare the difference with
        ([0.1 + 0.2, 2.0, 3.0], [0.3, 2.0, 3.0], 1.0),  # equal but for rounding
    ],
)
def test_where_there_is_no_test(first, second, p):
    assert paired_p(np.array(first), np.array(second)) == pytest.approx(p, nan_ok=True)


def test_holm():
    # ascending .01, .03, .04, .2 times 4, 3, 2, 1 = .04, .09, .08, .2; none below the one before: .04, .09, .09, .2
    assert holm(np.array([0.03, 0.2, 0.01, 0.04])) == pytest.approx([0.09, 0.2, 0.04, 0.09])
    # two were not tested: .01 * 2, .04 * 1 and not below
    assert holm(np.array([NAN, 0.04, 0.01, NAN])) == pytest.approx([NAN, 0.04, 0.02, NAN], nan_ok=True)
    assert holm(np.array([0.6, 0.7])) == pytest.approx([1.0, 1.0])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_keeps_the_order_and_lies_between_no_correction_and_bonferronis(values):
    p = np.array(values)
    adjusted = holm(p)
    assert (adjusted >= p).all()
    assert (adjusted <= np.minimum(1, len(p) * p)).all()
    assert (np.diff(adjusted[np.argsort(p, kind="stable")]) >= 0).all()


def test_comparisons_with_the_best():
    scores = np.array([[2.0, 4.0, 6.0], [1.0, 2.0, 3.0], [2.0, 4.0, 6.0], [1.0, NAN, NAN]])
    # of three other rows two are tested: 0.0742 * 2 and 1
    assert against_best(scores, 0) == pytest.approx([NAN, 2 * (1 - math.sqrt(12 / 14)), 1.0, NAN], nan_ok=True)


def test_average_ranks():
    # block by block: 1 2 3; 1.5 1.5 3; 3 1 2. Means 5.5 / 3, 4.5 / 3, 8 / 3.
    scores = np.array([[9.0, 5.0, 1.0], [8.0, 5.0, 3.0], [7.0, 4.0, 2.0]])
    assert average_ranks(scores) == pytest.approx([5.5 / 3, 4.5 / 3, 8 / 3])


@given(TABLES)
def test_ranks_add_up_and_are_win_rates_where_every_row_has_every_seed(scores):
    rows = len(scores)
    ranks = average_ranks(scores)
    assert ranks.sum() == pytest.approx(rows * (rows + 1) / 2)
    assert win_rates(scores) == pytest.approx((rows - ranks) / (rows - 1))


def test_win_rates():
    # seed 0: a beats b and c, b ties with c. Seed 1: b beats a; c has no run. a: 2 of 3; b: 0.5 + 1 of 3; c: 0.5 of 2
    scores = np.array([[3.0, 1.0], [2.0, 2.0], [2.0, NAN]])
    assert win_rates(scores) == pytest.approx([2 / 3, 1.5 / 3, 0.5 / 2])
    assert win_rates(np.array([[1.0, 2.0]])) == pytest.approx([NAN], nan_ok=True)


@pytest.mark.parametrize(
    ("rows", "q"),
    [(2, 1.960), (3, 2.343), (4, 2.569), (5, 2.728), (6, 2.850), (7, 2.949), (8, 3.031), (9, 3.102), (10, 3.164)],
)
def test_critical_difference_has_the_values_of_demsars_table_5a(rows, q):
    # with 6 N = k (k + 1) the root is 1
    blocks = rows * (rows + 1)
    assert critical_difference(rows, blocks) * math.sqrt(6) == pytest.approx(q, abs=1e-3)


def test_critical_difference_of_demsars_example_and_where_there_is_none():
    assert critical_difference(4, 14) == pytest.approx(1.25, abs=0.005)  # 2.569 sqrt(4 * 5 / (6 * 14)), section 3.2.2
    assert math.isnan(critical_difference(1, 5))
    assert math.isnan(critical_difference(5, 1))


def test_friedman():
    # ranks 1, 2, 3 in each of three blocks: 12 * 3 / (3 * 4) * (1 + 4 + 9) - 3 * 3 * 4 = 6; with two degrees of freedom
    # p = exp(-6 / 2)
    assert friedman_p(np.array([[3.0, 6.0, 9.0], [2.0, 5.0, 8.0], [1.0, 4.0, 7.0]])) == pytest.approx(math.exp(-3))
    for scores in (np.ones((3, 3)), np.ones((2, 5)), np.ones((4, 1)), np.ones((3, 0))):
        assert math.isnan(friedman_p(scores))


def test_intervals_of_bootstrap_samples():
    samples = np.arange(101.0)  # 2.5 and 97.5 bound the middle 95 %
    assert percentile_interval(samples) == (2.5, 97.5)


def test_images_are_drawn_with_replacement_and_always_in_the_same_way():
    labels = np.array([0, 0, 0, 0, 1, 1, 2])
    images = resample_images(labels)
    assert images.drawn.shape == images.by_class.shape == (7, 1000)
    assert (images.drawn.sum(0) == 7).all()
    assert images.by_class.sum(0) == pytest.approx(1)
    assert np.array_equal(images.drawn, resample_images(labels).drawn)
    assert np.array_equal(images.drawn, resample_images(labels[::-1].copy()).drawn)
    assert images.drawn.mean(1) == pytest.approx(np.ones(7), abs=0.15)  # of 1000 binomials: deviation 0.03
    sample = next(number for number in range(1000) if not images.drawn[6, number])  # no image of the third class
    share = images.drawn[:4, sample].sum()
    assert images.by_class[0, sample] == pytest.approx(images.drawn[0, sample] / share / 2)


def test_interval_over_images_is_that_of_a_share():
    # 900 of 1000 right: deviation sqrt(0.9 * 0.1 / 1000) = 0.949 %, so 90 -+ 1.86
    right = np.arange(1000)[None] < 900
    found = intervals(right, resample_images(np.arange(1000) % 10))
    assert found["top1"] == pytest.approx((90 - 1.86, 90 + 1.86), abs=0.25)
    assert found["macro"] == pytest.approx((90 - 1.86, 90 + 1.86), abs=0.25)


def test_interval_over_seeds():
    # One run has all right and one none: a sample of two seeds has 0, 50 or 100 % with chances 1/4, 1/2, 1/4.
    right = np.array([[True] * 8, [False] * 8])
    found = intervals(right, resample_images(np.zeros(8, int)))
    assert found["top1"] == found["macro"] == (0.0, 100.0)


def test_runs_that_agree_have_the_interval_of_one():
    right = np.arange(50)[None] % 3 > 0
    images = resample_images(np.arange(50) % 5)
    one = intervals(right, images)
    three = intervals(np.repeat(right, 3, 0), images)
    for metric, interval in one.items():
        assert three[metric] == pytest.approx(interval, abs=1e-3)


@settings(max_examples=30)
@given(arrays(bool, st.tuples(st.integers(1, 4), st.just(12))))
def test_intervals_are_percentages_in_order(right):
    found = intervals(right, resample_images(np.arange(12) % 3))
    for low, high in found.values():
        assert 0 <= low <= high <= 100 + 1e-3
    assert found["top1"][0] - 1e-3 <= 100 * right.mean() <= found["top1"][1] + 1e-3
