"""Statistics against tables small enough to check by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import stats

from ltbench.report.compare import (
    accuracy_interval,
    average_ranks,
    class_balanced_weights,
    critical_difference,
    friedman_p,
    studentized_range,
    win_rates,
)

NAN = float("nan")
TABLES = arrays(float, array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=6), elements=st.integers(0, 5))


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


@pytest.mark.parametrize("k", [2, 3, 10, 100])
def test_the_studentized_range_is_that_of_scipy(k):
    assert studentized_range(k) == pytest.approx(stats.studentized_range.ppf(0.95, k, np.inf), abs=1e-6)


@given(arrays(float, st.tuples(st.integers(3, 6), st.integers(2, 6)), elements=st.integers(0, 3)))
@settings(deadline=None, max_examples=40)
def test_friedman_with_ties_is_that_of_scipy(scores):
    if np.ptp(scores, axis=0).max() > 0:
        assert friedman_p(scores) == pytest.approx(stats.friedmanchisquare(*scores).pvalue, abs=1e-9)


def test_friedman():
    # ranks 1, 2, 3 in each of three blocks: 12 * 3 / (3 * 4) * (1 + 4 + 9) - 3 * 3 * 4 = 6; with two degrees of freedom
    # p = exp(-6 / 2)
    assert friedman_p(np.array([[3.0, 6.0, 9.0], [2.0, 5.0, 8.0], [1.0, 4.0, 7.0]])) == pytest.approx(math.exp(-3))
    for scores in (np.ones((3, 3)), np.ones((2, 5)), np.ones((4, 1)), np.ones((3, 0))):
        assert math.isnan(friedman_p(scores))


def test_class_balanced_weights():
    weights = class_balanced_weights(np.array([0, 0, 0, 0, 1, 1, 2]))
    assert weights == pytest.approx(np.array([3, 3, 3, 3, 6, 6, 12]) / 36)  # a third a class


def test_interval_of_one_run_is_wilsons_of_a_share():
    # 900 of 1000: centre (900 + 1.96^2 / 2) / (1000 + 1.96^2) = 89.847 %, half-width
    # 1.96 sqrt(1000 * 0.9 * 0.1 + 1.96^2 / 4) / (1000 + 1.96^2) = 1.862 %
    right = np.arange(1000)[None] < 900
    expected = pytest.approx((89.847 - 1.862, 89.847 + 1.862), abs=0.01)
    assert accuracy_interval(right) == expected
    assert accuracy_interval(right, class_balanced_weights(np.arange(1000) % 10)) == expected


@pytest.mark.parametrize("runs", [1, 3])
def test_where_all_images_are_right_the_interval_is_wilsons_of_all_of_them(runs):
    # of 100 of 100: 100 / (100 + 1.96^2) = 96.30 %
    assert accuracy_interval(np.ones((runs, 100), bool)) == pytest.approx((96.30, 100), abs=0.005)
    assert accuracy_interval(np.zeros((runs, 100), bool)) == pytest.approx((0, 3.70), abs=0.005)


def test_interval_over_seeds_and_images_by_hand():
    # Three runs miss 20, 10 and 0 of 100 images, the 10 among the 20: mean 90 %; 10 images have 1/3, 10 have 2/3.
    # Images: (10 (17/30)^2 + 10 (7/30)^2 + 80 (1/10)^2) / 100^2 * 100/99 = 4.6016e-4, times t_99^2 = 3.9371.
    # Seeds: variance of 0.8, 0.9, 1 over 3 = 0.01 / 3, less 20 (1/3) (2/3) / 100^2 / 2 = 2.2222e-4, is 3.1111e-3,
    # times t_2^2 = 18.5128. Sum 0.0594071; over 0.9 * 0.1: 0.660079 = r. Centre (0.9 + r/2) / (1 + r) = 0.740952,
    # half-width sqrt(0.0594071 + r^2 / 4) / (1 + r) = 0.247148.
    right = np.arange(100) >= np.array([20, 10, 0])[:, None]
    found = accuracy_interval(right)
    assert found == pytest.approx((100 * (0.740952 - 0.247148), 100 * (0.740952 + 0.247148)), abs=0.01)


def test_interval_of_the_mean_over_classes_weights_images():
    # Class 0 has 60 images, all right; class 1 has 15, 6 of them wrong: mean (1 + 0.6) / 2 = 80 %. Weights 1/120 and
    # 1/30. Images: (60 (0.2)^2 / 120^2 + (9 (0.2)^2 + 6 (0.8)^2) / 30^2) 75/74 = 4.8986e-3, times t_74^2 = 3.97024;
    # over 0.8 * 0.2: r = 0.121554. Centre (0.8 + r/2) / (1 + r) = 0.767486, half-width
    # sqrt(0.0194486 + r^2 / 4) / (1 + r) = 0.135643.
    labels = np.repeat([0, 1], [60, 15])
    right = np.arange(75)[None] >= 6
    found = accuracy_interval(right[:, ::-1].copy(), class_balanced_weights(labels))
    assert found == pytest.approx((100 * (0.767486 - 0.135643), 100 * (0.767486 + 0.135643)), abs=0.01)


def test_seeds_that_disagree_widely_leave_nearly_everything_open():
    low, high = accuracy_interval(np.array([[True] * 8, [False] * 8]))
    assert low < 5
    assert high > 95


def test_runs_that_agree_have_the_interval_of_one():
    right = np.arange(50)[None] % 3 > 0
    for weights in (None, class_balanced_weights(np.arange(50) % 5)):
        three = accuracy_interval(np.repeat(right, 3, 0), weights)
        assert three == pytest.approx(accuracy_interval(right, weights), abs=1e-3)


@settings(max_examples=30)
@given(arrays(bool, st.tuples(st.integers(1, 4), st.just(12))))
def test_intervals_are_percentages_in_order(right):
    for weights in (None, class_balanced_weights(np.arange(12) % 3)):
        low, high = accuracy_interval(right, weights)
        assert 0 <= low < high <= 100  # not even where all are right is the width 0
        assert low - 1e-3 <= 100 * right.mean() <= high + 1e-3
