"""The best row of a table and the rows that are significantly worse: one paired comparison for order, bold and ties."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special

from ltbench.report.compare import FEWEST, Floats

_EQUAL = 1e-9
"""Figures that differ by no more are equal but for rounding."""


@dataclass(frozen=True)
class Comparison:
    """The rows of a table against the best of those that have all of the table's seeds."""

    seeds: NDArray[np.bool_]
    """(S,) the table's seeds."""
    complete: NDArray[np.bool_]
    """(k,) the rows that have all of them."""
    reference: int | None
    """The complete row with the highest mean over the table's seeds; None where no row is complete."""
    leads: bool
    """Whether no other row is ahead of the reference on the seeds that both have."""
    present: NDArray[np.bool_]
    """(k,) the rows that have any figure."""
    behind: NDArray[np.float64]
    """(k,) mean difference of the reference and the row over the seeds that both have; NaN where they share none."""
    shared: NDArray[np.int64]
    """(k,) the number of these seeds."""
    p: NDArray[np.float64]
    """(k,) that the row is not worse than the reference, adjusted; NaN for the reference and where there is no test."""

    def beaten(self, alpha: float) -> NDArray[np.bool_]:
        """(k,) the rows that are significantly worse than the reference."""
        return self.p < alpha

    def wins(self, alpha: float) -> bool:
        """Whether the reference leads, and every other row that has the metric is significantly worse."""
        if self.reference is None or not self.leads:
            return False
        others = self.present.copy()
        others[self.reference] = False
        return bool(others.any() and self.beaten(alpha)[others].all())


def table_seeds(there: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The seeds on which a table compares: those that at least half of its rows have.

    Where fewer than half of the rows have all of these, the seeds that the fewest rows have are dropped, until at least
    half have all that are left; none is left where rows share too little.

    Args:
        there: (k, S) whether a row has a run of a seed.

    Returns:
        (S,).
    """
    counts = there.sum(0)
    for least in range(-(-len(there) // 2), len(there) + 1):
        seeds: NDArray[np.bool_] = (counts >= least) & (counts > 0)
        if seeds.any() and 2 * there[:, seeds].all(1).sum() >= len(there):
            return seeds
    return np.zeros(there.shape[1], bool)


def compare_with_best(scores: Floats) -> Comparison:
    """Compare the rows of a table with the best one, on the seeds that both have.

    The best row is chosen by the same runs that it is then tested on, and the runs are few. Each row gets a one-sided
    p value of a paired t test against the best row (``one_sided_p``), and that is adjusted for the choice of the best
    row and for the number of rows by the distribution that the smallest of these p values has where all rows are equal
    (``adjusted``).

    In simulated tables of 2 to 36 rows on 3 to 10 seeds, where all or some rows are equally good, a row that is as good
    as the one that came out best is called worse in 4.5 to 5.8 % of tables if all rows spread alike, and in 0.4 to
    7.0 % if their standard deviations differ (0.4 beside 5). Holm's correction of paired t tests has up to 27 % there,
    pooled variances up to 89 %; benchmarks/statistics/comparisons.md, with their power.

    Two rows are compared on the seeds of both where the one that has more is behind there.

    Args:
        scores: (k, S) figures, the higher the better; NaN where there is no run. Of several best rows the first counts.
    """
    there = ~np.isnan(scores)
    present: NDArray[np.bool_] = np.asarray(there.any(1))
    found = _compare_on(table_seeds(there[present]), scores, there, present)
    both: NDArray[np.bool_] = np.asarray(there.sum(0) == 2)
    if found.leads or present.sum() > 2 or both.sum() < FEWEST:
        return found
    # Half of two rows is one: its own seeds do not make it the best where it is behind on those of both.
    return _compare_on(both, scores, there, present)


def _compare_on(
    seeds: NDArray[np.bool_], scores: Floats, there: NDArray[np.bool_], present: NDArray[np.bool_]
) -> Comparison:
    """The comparison on some seeds, for rows that have them all; see ``compare_with_best``."""
    complete: NDArray[np.bool_] = np.asarray(there[:, seeds].all(1) & present & seeds.any())
    if not complete.any():
        unknown, none = np.full(len(scores), np.nan), np.zeros(len(scores), np.int64)
        return Comparison(seeds, complete, None, False, present, unknown, none, unknown)
    means = np.where(complete, np.where(there, scores, 0)[:, seeds].mean(1), -np.inf).round(9)
    reference = int(means.argmax())
    # Complete rows are compared on the table's seeds, all others on all that they share with the reference.
    used = np.where(complete[:, None], seeds, there & there[reference])
    shared = used.sum(1)
    differences = np.where(used, scores[reference] - scores, 0).sum(1)
    behind = np.divide(differences, shared, out=np.full(len(scores), np.nan), where=shared > 0).round(9) + 0.0
    p = np.full(len(scores), np.nan)
    for rows, among, pattern in _groups(complete, used, there):
        if pattern.sum() >= FEWEST and len(among) > 1:
            found = one_sided_p(scores[np.ix_(among, pattern)], np.array(np.searchsorted(among, reference)))
            p[rows] = found[np.searchsorted(among, rows)]
    p[reference] = np.nan
    leads = not (behind < 0).any()
    return Comparison(seeds, complete, reference, leads, present, behind, shared, adjusted(p, int(seeds.sum())))


def _groups(
    complete: NDArray[np.bool_], used: NDArray[np.bool_], there: NDArray[np.bool_]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]]:
    """Rows that are compared on the same seeds, these with the complete rows that have them all, and the seeds."""
    for pattern in np.unique(used[used.any(1)], axis=0):
        rows = np.flatnonzero((used == pattern).all(1))
        others = np.flatnonzero(complete & there[:, pattern].all(1))
        yield rows, np.union1d(rows, others), pattern


def one_sided_p(scores: Floats, best: NDArray[np.int64]) -> NDArray[np.float64]:
    """One-sided p of a paired t test of every row against one, not adjusted.

    The variance of a difference is the sum of the variances of the two rows about the seeds' effects, which all rows
    of the table help to estimate (Grubbs, Journal of the American Statistical Association 1948), none below 0 and
    their sum at least half of what these two rows alone say. Degrees of freedom are Welch's (Biometrika 1947). Of two
    rows this is the paired t test; of many, a test with up to twice its degrees of freedom, which matters with five.

    Args:
        scores: (..., k, n) figures of k rows on n seeds, for any number of tables.
        best: (...) the row that the others are compared with.

    Returns:
        (..., k); NaN where nothing tells how large the spread is.
    """
    rows, seeds = scores.shape[-2:]
    differences = np.take_along_axis(scores, best[..., None, None], -2) - scores
    means = differences.mean(-1)
    own = differences.var(-1, ddof=1)
    variance, freedom = own, np.full(own.shape, seeds - 1.0)
    if rows > 2:
        spread = _row_variances(scores)
        chosen = np.take_along_axis(spread, best[..., None], -1)
        both = spread + chosen
        squares = spread**2 + chosen**2
        freedom = (seeds - 1) * np.divide(both**2, squares, out=np.ones(both.shape), where=squares > 0)
        variance = np.maximum(both, own / 2)
    error = np.sqrt(variance / seeds)
    equal = np.abs(differences).max(-1) < _EQUAL
    t = np.divide(means, error, out=np.full(means.shape, np.nan), where=error > _EQUAL)
    p: NDArray[np.float64] = np.where(equal, 0.5, special.stdtr(freedom, -t))
    return p


def _row_variances(scores: Floats) -> NDArray[np.float64]:
    """(..., k) variance of each of at least three rows about the seeds' effects."""
    rows, seeds = scores.shape[-2:]
    centred = scores - scores.mean(-1, keepdims=True)
    residuals = centred - centred.mean(-2, keepdims=True)
    mean_squares = (residuals**2).sum(-1) / (seeds - 1) * rows / (rows - 1)
    # A residual has a fraction of the spread of every row, through the seed's mean.
    others = mean_squares.sum(-1, keepdims=True) / (rows * (rows - 1))
    variances: NDArray[np.float64] = np.maximum(0, (mean_squares - others) * (rows - 1) / (rows - 2))
    return variances


def adjusted(p: Floats, seeds: int) -> NDArray[np.float64]:
    """Adjust one-sided p values against the best row for its choice and for their number, step down.

    The smallest of k - 1 is compared with the smallest that k equal rows show, the next with that of k - 1 rows, and
    so on (as Holm and as Romano & Wolf, Journal of the American Statistical Association 2005, do).

    Args:
        p: (k - 1,) or more; what is NaN was not tested and does not count.
        seeds: on which the rows were compared.
    """
    result = np.full(len(p), np.nan)
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    levels = [_smallest_p(float(p[one]), len(order) + 1 - place, seeds) for place, one in enumerate(order)]
    result[order] = np.maximum.accumulate(levels) if levels else []
    return result


def _smallest_p(p: float, rows: int, seeds: int) -> float:
    """The probability that, of equal rows, some row has a p as small against the one that came out best."""
    if rows == 2:
        return min(1.0, 2 * p)
    quantiles, log_p = _quantiles(rows, seeds)
    if p <= 0 or np.log(p) < log_p[0]:
        return float(p * quantiles[0] / np.exp(log_p[0]))
    return float(np.exp(np.interp(np.log(min(p, 0.5)), log_p, np.log(quantiles))))


@cache
def _quantiles(rows: int, seeds: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Probabilities, and the logarithm of the smallest p that is below it with that probability."""
    simulated = _simulated()
    of_rows = _between(np.log(rows), simulated.log_rows, simulated.log_p)
    fewest, most = simulated.inverse_seeds[[0, -1]]
    at = _between(float(np.clip(1 / seeds, fewest, most)), simulated.inverse_seeds, of_rows)
    return simulated.probabilities, np.array([*at, np.log(0.5)])


def _between(place: float, places: Floats, values: Floats) -> NDArray[np.float64]:
    """Values (P, ...) at ascending places (P,), linear between two, and beyond them on the line of the last two."""
    right = int(np.clip(np.searchsorted(places, place), 1, len(places) - 1))
    fraction = (place - places[right - 1]) / (places[right] - places[right - 1])
    return np.asarray(values[right - 1] + fraction * (values[right] - values[right - 1]))


@dataclass(frozen=True)
class _Simulated:
    """Quantiles of the smallest p of equal rows; made by benchmarks/statistics/comparisons.py."""

    log_rows: NDArray[np.float64]
    """(R,)"""
    inverse_seeds: NDArray[np.float64]
    """(S,)"""
    probabilities: NDArray[np.float64]
    """(Q + 1,) up to 1, the one of a p of 0.5."""
    log_p: NDArray[np.float64]
    """(R, S, Q)"""


@cache
def _simulated() -> _Simulated:
    table = pd.read_csv(Path(str(files(__package__) / "smallest_p.csv")))
    table = table.sort_values(["rows", "seeds"], ascending=[True, False])
    rows, seeds = table["rows"].unique(), table["seeds"].unique()
    values = table.drop(columns=["rows", "seeds"])
    return _Simulated(
        log_rows=np.log(rows),
        inverse_seeds=1 / seeds,
        probabilities=np.array([*map(float, values.columns), 1.0]),
        log_p=np.log(values.to_numpy()).reshape(len(rows), len(seeds), -1),
    )
