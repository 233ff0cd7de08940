"""How often a table calls a row worse than the best one though it is as good, and how often it finds one that is worse.

    python benchmarks/statistics/comparisons.py            # writes comparisons.md, about a minute on one core
    python benchmarks/statistics/comparisons.py --table    # writes ltbench/report/smallest_p.csv, about two minutes

A simulated table has k rows and n seeds. The row with the highest mean is its best row, chosen by the same figures that
are then tested. Everything is drawn from a normal distribution: a row's mean, plus the seed's effect, plus noise.
"""

import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special, stats
from scipy.optimize import brentq
from tabulate import tabulate

from ltbench.report import best_row

HERE = Path(__file__).parent
TABLE = HERE.parent.parent / "ltbench/report/smallest_p.csv"
PROBABILITIES = (0.002, 0.01, 0.05, 0.2, 0.5)
SEEDS = (3, 4, 5, 6, 8, 10, 15, 30)
ROWS = (3, 4, 5, 6, 8, 10, 15, 20, 30, 50, 100, 200)
ALPHA = 0.05
TABLES = 2000
"""Simulated tables of a cell: 5 % has a standard error of 0.5 points."""
Array = NDArray[np.float64]
Worse = NDArray[np.bool_]
Procedure = Callable[[Array], Worse]
"""(S, k, n) figures of S tables -> (S, k) which rows are called worse than the best."""


def smallest_p(rows: int, seeds: int, tables: int, rng: np.random.Generator) -> Array:
    """(tables,) the smallest p against the best of equal rows, as ``ltbench.report.best_row.one_sided_p`` has it."""
    found = []
    step = max(1, 2_000_000 // (rows * seeds))
    for start in range(0, tables, step):
        scores = rng.standard_normal((min(step, tables - start), rows, seeds))
        best = scores.mean(-1).argmax(-1)
        p = best_row.one_sided_p(scores, best)
        np.put_along_axis(p, best[:, None], 2.0, -1)
        found.append(p.min(-1))
    return np.concatenate(found)


def critical_table() -> pd.DataFrame:
    """Quantiles of the smallest p, by seeds and rows."""
    rng = np.random.default_rng(0)
    lines = []
    for seeds in SEEDS:
        for rows in ROWS:
            tables = int(np.clip(12_000_000 // (rows * seeds), 10_000, 200_000))
            quantiles = np.quantile(smallest_p(rows, seeds, tables, rng), PROBABILITIES)
            lines.append((seeds, rows, *quantiles))
            print(seeds, rows, tables, file=sys.stderr)
    return pd.DataFrame(lines, columns=["seeds", "rows", *map(str, PROBABILITIES)])


def ltbench(scores: Array) -> Worse:
    """What the tables do, many at once; the tests show that it is what ``ltbench.report.best_row`` does."""
    seeds = scores.shape[2]
    best = scores.mean(-1).argmax(-1)
    p = best_row.one_sided_p(scores, best)
    np.put_along_axis(p, best[:, None], 2.0, 1)
    return _step_down(p, lambda left: critical_p(left + 1, seeds))


@cache
def critical_p(rows: int, seeds: int) -> float:
    """The largest p that is adjusted to less than 5 % where it is the smallest of ``rows`` - 1."""

    def excess(log_p: float) -> float:
        several = np.ones(rows - 1)
        several[0] = np.exp(log_p)
        return float(best_row.adjusted(several, seeds)[0]) - ALPHA

    return float(np.exp(brentq(excess, -40, 0)))


def holm(scores: Array) -> Worse:
    """Two-sided paired t tests against the best row, corrected by Holm: as benchmark tables often do."""
    return _step_down(2 * _paired_p(scores), lambda left: ALPHA / left)


def all_pairs(scores: Array) -> Worse:
    """One-sided paired t tests, corrected for all ordered pairs of rows by Bonferroni."""
    rows = scores.shape[1]
    return _paired_p(scores) < ALPHA / (rows * (rows - 1))


def hsu(scores: Array) -> Worse:
    """Hsu's multiple comparisons with the best: one-sided Dunnett bounds with the pooled variance of rows x seeds."""
    rows, seeds = scores.shape[1:]
    freedom = (rows - 1) * (seeds - 1)
    rng = np.random.default_rng(1)
    # The largest of k - 1 differences to one control over their common error.
    normal = rng.standard_normal((20_000, rows))
    error = np.sqrt(rng.chisquare(freedom, 20_000) / freedom)
    bound = np.quantile((normal[:, 1:].max(1) - normal[:, 0]) / error, 1 - ALPHA)
    return _behind(scores) > bound * _pooled_error(scores)[:, None]


def tukey(scores: Array) -> Worse:
    """All pairs by the studentized range, with the pooled variance of rows x seeds."""
    rows, seeds = scores.shape[1:]
    bound = stats.studentized_range.ppf(1 - ALPHA, rows, (rows - 1) * (seeds - 1))
    return _behind(scores) > bound * _pooled_error(scores)[:, None]


PROCEDURES: dict[str, Procedure] = {
    "ltbench": ltbench,
    "paired t, Holm": holm,
    "paired t, all pairs": all_pairs,
    "Hsu, pooled": hsu,
    "Tukey, pooled": tukey,
}


def _behind(scores: Array) -> Array:
    means = scores.mean(-1)
    return np.asarray(means.max(-1, keepdims=True) - means)


def _pooled_error(scores: Array) -> Array:
    """(S,) the standard error of a mean, all rows alike, the seeds' effects taken off."""
    rows, seeds = scores.shape[1:]
    residuals = scores - scores.mean(2, keepdims=True) - scores.mean(1, keepdims=True)
    residuals += scores.mean((1, 2), keepdims=True)
    return np.asarray(np.sqrt((residuals**2).sum((1, 2)) / ((rows - 1) * (seeds - 1)) / seeds))


def _paired_p(scores: Array) -> Array:
    """One-sided p of the paired t test of every row against the best; 2 for itself."""
    best = scores.mean(-1).argmax(-1)[:, None]
    differences = np.take_along_axis(scores, best[..., None], 1) - scores
    error = differences.std(-1, ddof=1) / np.sqrt(scores.shape[2])
    t = np.divide(differences.mean(-1), error, out=np.zeros(error.shape), where=error > 0)
    p = special.stdtr(scores.shape[2] - 1, -t)
    np.put_along_axis(p, best, 2.0, 1)
    return np.asarray(p)


def _step_down(p: Array, level: Callable[[int], float]) -> Worse:
    rows = p.shape[1]
    order = np.argsort(p, 1)
    levels = np.array([level(rows - 1 - place) if place < rows - 1 else -1 for place in range(rows)])
    passed = np.logical_and.accumulate(np.take_along_axis(p, order, 1) < levels, 1)
    worse = np.zeros(p.shape, bool)
    np.put_along_axis(worse, order, passed, 1)
    return worse


def draw(means: Array, spreads: Array, seeds: int, tables: int, rng: np.random.Generator, effect: float = 0) -> Array:
    """(tables, k, seeds) figures."""
    noise = rng.standard_normal((tables, len(means), seeds)) * spreads[:, None]
    return means[:, None] + noise + effect * rng.standard_normal((tables, 1, seeds))


def false_claims(worse: Worse, scores: Array, means: Array) -> float:
    """Percent of tables in which some row is called worse than the best that is as good as it, or better."""
    best = means[scores.mean(-1).argmax(-1)]
    return float(100 * (worse & (means >= best[:, None])).any(1).mean())


def found(worse: Worse) -> tuple[float, float]:
    """Percent of the worse rows that are found; percent of tables in which all are, so that the best is bold."""
    rows = worse.shape[1]
    return float(100 * worse.sum(1).mean() / (rows - 1)), float(100 * (worse.sum(1) == rows - 1).mean())


def _first(rows: int, count: int, value: float, rest: float) -> Array:
    return np.where(np.arange(rows) < count, value, rest).astype(float)


def situations(rows: int) -> dict[str, tuple[Array, Array, float]]:
    """Name -> means, standard deviations, standard deviation of the seeds' effects."""
    equal, alike = np.zeros(rows), np.ones(rows)
    quarter = max(1, rows // 4)
    made = {
        "all equal": (equal, alike, 0.0),
        "all equal, seeds matter (sd 3)": (equal, alike, 3.0),
        "all equal, one noisy (sd 5 beside 0.4)": (equal, _first(rows, 1, 5, 0.4), 0.0),
        "all equal, a quarter noisy": (equal, _first(rows, quarter, 5, 0.4), 0.0),
        "all equal, one quiet (sd 0.4 beside 5)": (equal, _first(rows, 1, 0.4, 5), 0.0),
        "all equal, sd 0.5 to 2": (equal, np.geomspace(0.5, 2, rows), 0.0),
    }
    if rows > 2:
        two, half = _first(rows, 2, 1e4, 0), _first(rows, max(2, rows // 2), 1e4, 0)
        made |= {
            "two equal, the others far below": (two, alike, 0.0),
            "two equal, one of them noisy": (two, _first(rows, 1, 5, 0.4), 0.0),
            "two equal and noisy": (two, _first(rows, 2, 5, 0.4), 0.0),
            "two equal and quiet": (two, _first(rows, 2, 0.4, 5), 0.0),
            "half equal, the others far below": (half, alike, 0.0),
        }
    return made


SIZES = ((2, 3), (2, 5), (3, 3), (5, 3), (5, 5), (12, 3), (12, 5), (12, 10), (36, 5), (36, 10))


def levels(sizes: tuple[tuple[int, int], ...] = SIZES, tables: int = TABLES) -> pd.DataFrame:
    """The level of every procedure in every situation: columns situation, rows, seeds, and a procedure each."""
    lines = []
    for rows, seeds in sizes:
        for number, (name, (means, spreads, effect)) in enumerate(situations(rows).items()):
            rng = np.random.default_rng([rows, seeds, number])
            scores = draw(means, spreads, seeds, tables, rng, effect)
            claims = {key: false_claims(one(scores), scores, means) for key, one in PROCEDURES.items()}
            lines.append({"situation": name, "rows": rows, "seeds": seeds, **claims})
    return pd.DataFrame(lines)


def powers(sizes: tuple[tuple[int, int], ...] = SIZES, tables: int = TABLES) -> pd.DataFrame:
    """The best row is 1, 2 or 3 standard deviations of a run ahead of all others, which are equal."""
    lines = []
    for rows, seeds in sizes:
        for ahead in (1, 2, 3):
            rng = np.random.default_rng([rows, seeds, 100 + ahead])
            scores = draw(_first(rows, 1, ahead, 0), np.ones(rows), seeds, tables, rng)
            shares = {key: "{:.0f} / {:.0f}".format(*found(one(scores))) for key, one in PROCEDURES.items()}
            lines.append({"ahead by": f"{ahead} sd", "rows": rows, "seeds": seeds, **shares})
    return pd.DataFrame(lines)


def _markdown(table: pd.DataFrame) -> str:
    return tabulate(table, headers="keys", tablefmt="github", showindex=False, floatfmt=".1f")


def main() -> None:
    """Write the table of quantiles, or the page."""
    if sys.argv[1:] == ["--table"]:
        critical_table().to_csv(TABLE, index=False, float_format="%.4g")
        return
    page = (HERE / "comparisons.md").read_text(encoding="utf-8")
    head = page.partition("<!-- tables -->")[0]
    measured, power = levels(), powers()
    names = list(PROCEDURES)
    extent = measured[names].agg(["min", "max"]).T.reset_index(names="procedure")
    parts = [
        head + "<!-- tables -->",
        "### Lowest and highest level over all situations, percent",
        _markdown(extent),
        "### Level: percent of tables with a false claim",
        _markdown(measured),
        "### Power: percent of worse rows found / percent of tables in which all are, so that the best is bold",
        _markdown(power),
    ]
    (HERE / "comparisons.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
