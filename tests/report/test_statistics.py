"""The simulations of benchmarks/statistics, smaller."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ltbench.report import best_row

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parents[2] / "benchmarks/statistics"


def script(name):
    spec = importlib.util.spec_from_file_location(f"statistics_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def intervals():
    return script("accuracy_intervals")


@pytest.fixture(scope="module")
def comparisons():
    return script("comparisons")


def test_simulated_runs_have_the_accuracy_and_the_spread_that_were_asked_for(intervals):
    case = intervals.Case(seeds=2, images=2000, accuracy=0.9, spread=4.0)
    patterns, counts = case.draw(20_000, np.random.default_rng(0))
    accuracies = counts @ patterns / case.images
    error = np.sqrt(0.9 * 0.1 / case.images)
    assert accuracies.mean() == pytest.approx(0.9, abs=0.001)
    # 4 errors of an accuracy, and one for the images: sqrt(17)
    assert accuracies[:, 0].std() == pytest.approx(np.sqrt(17) * error, rel=0.08)
    assert np.corrcoef(accuracies.T)[0, 1] < 0.1


# Three standard errors of 95 % in 600 test sets are 2.7 points.
@pytest.mark.parametrize("spread", [0.0, 1.0, 4.0])
@pytest.mark.parametrize(("seeds", "accuracy"), [(3, 0.5), (3, 0.9), (5, 0.9), (5, 0.98)])
def test_intervals_of_accuracies_cover_the_truth(intervals, spread, seeds, accuracy):
    case = intervals.Case(seeds, images=2000, accuracy=accuracy, spread=spread)
    covered, _ = intervals.coverage(case, 600)["ltbench"]
    assert 92 <= covered <= 98.5


def test_intervals_of_one_seed_and_of_class_means_cover_the_truth(intervals):
    covered, _ = intervals.coverage(intervals.Case(1, 400, 0.98, 0.0), 600)["ltbench"]
    assert 92 <= covered <= 98
    for seeds, spread in ((1, 0.0), (3, 0.0), (3, 4.0)):
        assert 92 <= intervals.macro_coverage(seeds, spread, 600)[0] <= 99


def test_what_was_there_before_covers_too_little_where_seeds_dominate(intervals):
    case = intervals.Case(seeds=3, images=2000, accuracy=0.9, spread=4.0)
    covered, _ = intervals.coverage(case, 600)["two-way bootstrap"]
    assert covered < 85


# Three standard errors of 5 % in 1500 tables are 1.7 points.
@pytest.mark.parametrize(("rows", "seeds"), [(2, 3), (3, 3), (5, 5), (12, 5), (36, 5)])
def test_tables_of_equal_rows_have_a_false_claim_in_five_percent(comparisons, rows, seeds):
    tables = 1500 if rows < 20 else 600
    rng = np.random.default_rng(3)
    for name, (means, spreads, effect) in comparisons.situations(rows).items():
        scores = comparisons.draw(means, spreads, seeds, tables, rng, effect)
        level = comparisons.false_claims(comparisons.ltbench(scores), scores, means)
        assert level <= 7.5, name
        if name in ("all equal", "all equal, seeds matter (sd 3)"):
            assert level >= 2.8, name


@pytest.mark.parametrize(("rows", "seeds"), [(2, 3), (5, 4), (12, 5)])
def test_the_simulated_procedure_is_that_of_the_tables(comparisons, rows, seeds):
    rng = np.random.default_rng(7)
    scores = comparisons.draw(np.linspace(3, 0, rows), np.geomspace(0.5, 2, rows), seeds, 60, rng)
    tables = np.stack([best_row.compare_with_best(one).beaten(0.05) for one in scores])
    assert tables.any()
    assert np.array_equal(comparisons.ltbench(scores), tables)


def test_it_finds_more_than_corrections_that_keep_the_level_and_holms_does_not(comparisons):
    rng = np.random.default_rng(4)
    means, alike = np.where(np.arange(12) < 1, 3.0, 0.0), np.ones(12)
    scores = comparisons.draw(means, alike, 5, 600, rng)
    ours, pairs = (comparisons.found(one(scores))[0] for one in (comparisons.ltbench, comparisons.all_pairs))
    assert ours > 2 * pairs
    equal = comparisons.draw(np.zeros(12), alike, 5, 1500, rng)
    assert comparisons.false_claims(comparisons.holm(equal), equal, np.zeros(12)) > 8


@pytest.mark.parametrize(("rows", "seeds"), [(3, 3), (5, 5), (10, 4), (30, 10)])
def test_the_committed_quantiles_are_those_of_the_simulation(comparisons, rows, seeds):
    table = pd.read_csv(comparisons.TABLE, index_col=["seeds", "rows"])
    p = comparisons.smallest_p(rows, seeds, 20_000, np.random.default_rng(5))
    for quantile in ("0.05", "0.2", "0.5"):
        # the share below the committed value: three standard errors of this one and one and a half of that
        share, error = (p < table.loc[(seeds, rows), quantile]).mean(), np.sqrt(float(quantile) / 20_000)
        assert share == pytest.approx(float(quantile), abs=4.5 * error)


def test_between_the_committed_quantiles_the_level_is_kept(comparisons):
    for rows, seeds in ((7, 7), (12, 12)):
        p = comparisons.smallest_p(rows, seeds, 20_000, np.random.default_rng(6))
        assert (p < comparisons.critical_p(rows, seeds)).mean() == pytest.approx(0.05, abs=0.006)
