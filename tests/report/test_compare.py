"""Statistics against tables small enough to check by hand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from ltbench.evaluate.calibration import reliability
from ltbench.report.compare import (
    accuracy_interval,
    average_ranks,
    basic_interval,
    calibration_errors,
    critical_difference,
    excess_by_bin,
    friedman_p,
    intervals,
    percentile_interval,
    resample_images,
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


def test_friedman():
    # ranks 1, 2, 3 in each of three blocks: 12 * 3 / (3 * 4) * (1 + 4 + 9) - 3 * 3 * 4 = 6; with two degrees of freedom
    # p = exp(-6 / 2)
    assert friedman_p(np.array([[3.0, 6.0, 9.0], [2.0, 5.0, 8.0], [1.0, 4.0, 7.0]])) == pytest.approx(math.exp(-3))
    for scores in (np.ones((3, 3)), np.ones((2, 5)), np.ones((4, 1)), np.ones((3, 0))):
        assert math.isnan(friedman_p(scores))


def test_intervals_of_bootstrap_samples():
    samples = np.arange(101.0)  # 2.5 and 97.5 bound the middle 95 %
    assert percentile_interval(samples) == (2.5, 97.5)
    assert basic_interval(60.0, samples) == (120 - 97.5, 120 - 2.5)
    assert basic_interval(10.0, samples) == (0.0, 20 - 2.5)


def test_images_are_drawn_with_replacement_and_always_in_the_same_way():
    labels = np.array([0, 0, 0, 0, 1, 1, 2])
    images = resample_images(labels)
    assert images.drawn.shape == (7, 1000)
    assert (images.drawn.sum(0) == 7).all()
    assert np.array_equal(images.drawn, resample_images(labels).drawn)
    assert np.array_equal(images.drawn, resample_images(labels[::-1].copy()).drawn)
    assert images.drawn.mean(1) == pytest.approx(np.ones(7), abs=0.15)  # of 1000 binomials: deviation 0.03
    assert images.weights == pytest.approx(np.array([3, 3, 3, 3, 6, 6, 12]) / 36)  # a third a class


def test_calibration_error_of_a_sample():
    # Two images in the bin of 0.95, one right; two in that of 0.55, both right.
    # All once: |2 * 0.95 - 1| + |2 * 0.55 - 2| = 0.9 + 0.9, over 4 images 45 %.
    # The first twice and the second not: |2 * 0.95 - 2| + 0.9 = 1.0, 25 %.
    right, confidence = np.array([[True, False, True, True]]), np.array([[0.95, 0.95, 0.55, 0.55]])
    drawn = np.array([[1, 2], [1, 0], [1, 1], [1, 1]], np.float32)
    assert calibration_errors(excess_by_bin(right, confidence), drawn) == pytest.approx(
        np.array([[45.0, 25.0]]), rel=1e-5
    )


def test_a_bin_holds_its_upper_edge():
    # 8/15 is in the bin below, with 7.5/15: |7.5/15 + 8/15 - 1| / 2 = 1.67 %; the edge as it comes out of a result, too
    for edge in (8 / 15, 8 * 4369 / 65535):
        confidence = np.array([[7.5 / 15, edge]])
        found = calibration_errors(excess_by_bin(np.array([[True, False]]), confidence), np.ones((2, 1), np.float32))
        assert found.item() == pytest.approx(100 * (0.5 / 15) / 2, rel=1e-4)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 14)), min_size=1, max_size=30))
def test_calibration_error_is_the_one_of_the_evaluation(images):
    right = np.array([hit for hit, _ in images])
    confidence = np.array([(bin_ + 0.7) / 15 for _, bin_ in images], np.float32)
    excess = excess_by_bin(right[None], confidence[None])
    ours = calibration_errors(excess, np.ones((len(images), 1), np.float32)).item()
    assert ours == pytest.approx(reliability(torch.tensor(confidence), torch.tensor(right)).ece, abs=1e-3)


def test_interval_of_one_run_is_wilsons_of_a_share():
    # 900 of 1000: centre (900 + 1.96^2 / 2) / (1000 + 1.96^2) = 89.847 %, half-width
    # 1.96 sqrt(1000 * 0.9 * 0.1 + 1.96^2 / 4) / (1000 + 1.96^2) = 1.862 %
    right = np.arange(1000)[None] < 900
    found = intervals(right, np.full((1, 1000), 0.9), resample_images(np.arange(1000) % 10))
    assert found["top1"] == pytest.approx((89.847 - 1.862, 89.847 + 1.862), abs=0.01)
    assert found["macro"] == found["top1"]
    assert found["ece"][0] == 0.0


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
    found = intervals(right[:, ::-1].copy(), np.full((1, 75), 0.8), resample_images(labels))
    assert found["macro"] == pytest.approx((100 * (0.767486 - 0.135643), 100 * (0.767486 + 0.135643)), abs=0.01)


def test_seeds_that_disagree_widely_leave_nearly_everything_open():
    right = np.array([[True] * 8, [False] * 8])
    found = intervals(right, np.ones((2, 8)), resample_images(np.zeros(8, int)))
    assert found["top1"] == found["macro"]
    assert found["top1"][0] < 5
    assert found["top1"][1] > 95
    # mean ECE: (0 + 100) / 2 = 50, its samples from 0 to 100, mirrored the same
    assert found["ece"] == (0.0, 100.0)


def test_runs_that_agree_have_the_interval_of_one():
    right, confidence = np.arange(50)[None] % 3 > 0, np.linspace(0.3, 1, 50)[None]
    images = resample_images(np.arange(50) % 5)
    one = intervals(right, confidence, images)
    three = intervals(np.repeat(right, 3, 0), np.repeat(confidence, 3, 0), images)
    for metric, interval in one.items():
        assert three[metric] == pytest.approx(interval, abs=1e-3)


@settings(max_examples=30)
@given(arrays(bool, st.tuples(st.integers(1, 4), st.just(12))))
def test_intervals_are_percentages_in_order(right):
    found = intervals(right, np.full(right.shape, 0.7), resample_images(np.arange(12) % 3))
    for low, high in found.values():
        assert 0 <= low <= high <= 100
    for metric in ("top1", "macro"):
        assert found[metric][0] < found[metric][1]  # not even where all are right
    assert found["top1"][0] - 1e-3 <= 100 * right.mean() <= found["top1"][1] + 1e-3
