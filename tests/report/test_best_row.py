"""Which row leads, and which are significantly worse: by hand, as properties, and in small simulations."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import special, stats

from ltbench.report.best_row import adjusted, compare_with_best, one_sided_p, table_seeds

NAN = float("nan")


def seeds_of(*rows):
    """Whether each row has a seed, from words such as "0 1 2"."""
    each = [set(map(int, row.split())) for row in rows]
    return np.array([[seed in one for seed in range(1 + max(set().union(*each)))] for one in each])


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (["0 1 2", "0 1 2"], [0, 1, 2]),
        (["0 1 2 3 4", "0 1"], [0, 1, 2, 3, 4]),  # half of two rows
        (["0 1 2", "0 1 2", "0 1 2", "0"], [0, 1, 2]),
        (["0 1 2", "0 1 2", "0 1 2 7 8"], [0, 1, 2]),  # one of three rows has more
        (["0 1 2", "0 1 3", "0 1 4"], [0, 1]),  # 2, 3, 4 are of one row each
        (["0 1", "1 2", "0 2"], []),  # each seed is of two rows, but no row has all three, and none is of all rows
        (["0 1 2", "3 4 5"], []),  # neither has all six
    ],
)
def test_the_seeds_on_which_a_table_compares(rows, expected):
    assert np.flatnonzero(table_seeds(seeds_of(*rows))).tolist() == expected


def test_two_rows_are_compared_by_the_paired_t_test():
    # differences 1, 2, 3: mean 2, sd 1, t = 2 / (1 / sqrt(3)) = sqrt(12); with two degrees of freedom the two-sided
    # p = 1 - t / sqrt(2 + t^2) = 1 - sqrt(12 / 14) = 0.0742: either row may come out best
    found = compare_with_best(np.array([[2.0, 4.0, 6.0], [1.0, 2.0, 3.0]]))
    assert (found.reference, found.leads) == (0, True)
    assert found.behind == pytest.approx([0.0, 2.0])
    assert found.p == pytest.approx([NAN, 1 - math.sqrt(12 / 14)], nan_ok=True)


def test_of_three_rows_the_variance_of_a_difference_is_its_own_and_the_degrees_of_freedom_are_welchs():
    # Grubbs' estimates of three rows are (v12 + v13 - v23) / 2 and so on: of two rows they add up to v12.
    scores = np.array([[10.0, 11.0, 13.0, 15.0], [0.0, 1.0, 8.0, 9.0], [2.0, 3.0, 8.0, 4.0]])
    variances = {(i, j): np.var(scores[i] - scores[j], ddof=1) for i, j in ((0, 1), (0, 2), (1, 2))}
    of_first = (variances[0, 1] + variances[0, 2] - variances[1, 2]) / 2
    of_second, of_third = variances[0, 1] - of_first, variances[0, 2] - of_first
    assert min(of_first, of_second, of_third) > 0
    expected = []
    for row, own in ((1, of_second), (2, of_third)):
        freedom = 3 * (of_first + own) ** 2 / (of_first**2 + own**2)
        t = (scores[0] - scores[row]).mean() / math.sqrt((of_first + own) / 4)
        expected.append(stats.t.sf(t, freedom))
    assert one_sided_p(scores, np.array(0))[1:] == pytest.approx(expected)


def test_where_all_rows_have_their_own_spread_it_is_estimated_without_bias():
    # 12 rows of standard deviations 1 to 12 on 4000 seeds that matter: t of a row that is as good is standard normal
    rng = np.random.default_rng(0)
    scores = rng.standard_normal((12, 4000)) * np.arange(1, 13)[:, None] + 30 * rng.standard_normal(4000)
    p = one_sided_p(scores, np.array(3))
    differences = scores[3] - scores
    expected = special.ndtr(-differences.mean(1) / np.sqrt((16 + np.arange(1, 13) ** 2) / 4000))
    assert np.delete(p, 3) == pytest.approx(np.delete(expected, 3), abs=0.01)


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
    found = compare_with_best(np.array([first, second]))
    assert np.delete(found.p, found.reference) == pytest.approx([p], nan_ok=True)
    assert not found.wins(0.05)


def test_the_smallest_of_many_p_values_is_adjusted_the_most_and_none_below_a_smaller_one():
    p = np.array([0.2, NAN, 1e-6, 0.001, 0.0011])
    found = adjusted(p, 5)
    assert math.isnan(found[1])
    ratio = found / p
    assert ratio[2] > ratio[3] > ratio[0] > 1
    assert found[3] <= found[4]
    # a committed quantile: of 5 rows on 5 seeds, in 5 % of tables the smallest is below it
    assert adjusted(np.array([0.003018, 1.0, 1.0, 1.0]), 5)[0] == pytest.approx(0.05)
    # the last is the comparison of two rows, either of which may come out best
    assert adjusted(np.array([0.01]), 5) == pytest.approx([0.02])
    assert adjusted(np.full(3, NAN), 5).tolist() == pytest.approx([NAN] * 3, nan_ok=True)


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 300), st.integers(3, 200), st.floats(1e-12, 1), st.floats(1e-12, 1))
def test_adjusted_values_are_probabilities_that_grow_with_p_and_with_the_number_of_rows(rows, seeds, low, high):
    low, high = sorted((low, high))
    several = np.array([low, *[1.0] * (rows - 2)])
    found = adjusted(several, seeds)[0]
    assert 0 <= found <= 1
    assert found <= adjusted(np.array([high, *[1.0] * (rows - 2)]), seeds)[0] + 1e-12
    assert found >= low * (1 - 1e-9)


def test_a_row_that_loses_every_shared_seed_is_not_first_for_its_other_seeds():
    # The first row's mean is 80, thanks to seeds that the others lack; on seeds 0 to 2 it is last.
    scores = np.array([
        [50.0, 51.0, 52.5, 120.0, 126.5], [60.0, 61.2, 62.0, NAN, NAN], [70.1, 71.0, 72.0, NAN, NAN],
    ])  # fmt: skip
    found = compare_with_best(scores)
    assert found.seeds.tolist() == [True, True, True, False, False]
    assert (found.reference, found.leads) == (2, True)
    assert found.behind == pytest.approx([(20.1 + 20 + 19.5) / 3, (10.1 + 9.8 + 10) / 3, 0])
    assert found.beaten(0.05).tolist() == [True, True, False]


def test_a_row_that_lacks_seeds_is_not_first_and_none_is_where_it_is_ahead_on_those_that_it_has():
    scores = np.array([[60.0, 61.0, 62.0, 63.0], [50.0, 51.0, 52.0, 53.0], [60.5, 61.5, NAN, NAN]])
    found = compare_with_best(scores)
    assert (found.reference, found.leads) == (0, False)
    assert found.complete.tolist() == [True, True, False]
    assert found.behind == pytest.approx([0, 10, -0.5])
    assert not found.wins(0.05)
    scores[2] -= 1  # now it is behind there
    assert compare_with_best(scores).leads


def test_of_two_rows_the_one_with_more_seeds_is_not_the_best_for_these():
    scores = np.array([[50.0, 51.0, 52.5, 120.0], [60.0, 61.2, 62.0, NAN], [NAN] * 4])
    found = compare_with_best(scores)
    assert (found.reference, found.leads, found.wins(0.05)) == (1, True, True)
    assert found.seeds.tolist() == [True, True, True, False]
    assert found.behind == pytest.approx([(10 + 10.2 + 9.5) / 3, 0, NAN], nan_ok=True)
    assert found.p[0] == pytest.approx(stats.ttest_rel(scores[0, :3], scores[1, :3]).pvalue)
    scores[1, 2] = NAN  # two seeds of both are too few for a test: neither is first
    found = compare_with_best(scores)
    assert (found.reference, found.leads, found.seeds.tolist()) == (0, False, [True] * 4)


def test_a_row_that_shares_no_seed_is_not_compared():
    found = compare_with_best(np.array([[60.0, 61.0, NAN], [50.0, 51.0, NAN], [NAN, NAN, 99.0]]))
    assert (found.reference, found.leads, found.shared.tolist()) == (0, True, [2, 2, 0])
    assert math.isnan(found.behind[2])
    assert not found.wins(0.05)


def test_a_row_without_the_metric_is_no_obstacle():
    rng = np.random.default_rng(0)
    scores = np.array([60 + rng.random(5), 50 + rng.random(5), [NAN] * 5])
    assert compare_with_best(scores).wins(0.05)


@st.composite
def unequal(draw):
    """Tables of rows with seeds of their own."""
    scores = draw(
        arrays(float, array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=6), elements=st.integers(0, 8))
    )
    there = draw(arrays(bool, scores.shape, elements=st.booleans()))
    there |= draw(st.booleans())  # now and then every row has every seed
    assume(there.any(1).all())
    return np.where(there, scores, NAN)


def loses_all(scores, row, other):
    """Whether a row is behind another on every seed that both have."""
    both = ~np.isnan(scores[row]) & ~np.isnan(scores[other])
    return both.any() and (scores[row][both] < scores[other][both]).all()


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(unequal())
def test_no_row_leads_that_loses_all_shared_seeds_or_lacks_any(scores):
    found = compare_with_best(scores)
    assert np.array_equal(found.complete.any(), found.reference is not None)
    if found.leads:
        assert found.complete[found.reference]
        assert not any(loses_all(scores, found.reference, other) for other in range(len(scores)))
        assert not any((scores[other] - scores[found.reference] > 0).all() for other in range(len(scores)))
    if found.wins(0.05):
        assert found.leads
        others = [other for other in range(len(scores)) if other != found.reference]
        assert all(np.nanmean(scores[found.reference] - scores[other]) > 0 for other in others)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(unequal(), st.randoms())
def test_the_order_of_rows_and_seeds_and_a_common_shift_change_nothing(scores, random):
    rows, seeds = list(range(len(scores))), list(range(scores.shape[1]))
    random.shuffle(rows)
    random.shuffle(seeds)
    first, second = compare_with_best(scores), compare_with_best(scores[rows][:, seeds] + 5)
    assert first.leads == second.leads or (first.behind == 0).sum() > 1  # of equal rows the first counts
    if (first.behind == 0).sum() <= 1:
        assert second.behind == pytest.approx(first.behind[rows], nan_ok=True)
        assert second.p == pytest.approx(first.p[rows], nan_ok=True, rel=1e-6)
