"""How often the 95 % interval of an accuracy covers the truth: that of another seed on other images.

    python benchmarks/statistics/accuracy_intervals.py     # writes accuracy_intervals.md, about two minutes on one core

Run r classifies image i correctly where skill + s_r + d_i + e_ri > 0, all normal: the seed's effect s_r, the image's
difficulty d_i, which all runs share, and noise of variance 1. Given the seeds' effects, the runs that classify an image
correctly are a pattern of n zeros and ones, whose probabilities are an integral over d (Gauss-Hermite). So a test set
is one multinomial draw of how many images have each pattern.
"""

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri
from scipy.stats import norm, t
from tabulate import tabulate

from ltbench.report.compare import accuracy_interval

HERE = Path(__file__).parent
TABLES = 1000
"""Simulated test sets of a cell: 95 % has a standard error of 0.7 points."""
DIFFICULTY = 2.0
"""Standard deviation of d_i: two runs of equal skill disagree on a minority of the images that either gets wrong."""
SPREADS = {"images only": 0.0, "both": 1.0, "seeds dominate": 4.0}
"""Standard deviation of a run's true accuracy over seeds, in standard errors of an accuracy over the images."""
IMAGES, ACCURACIES, SEEDS = (400, 10_000), (0.5, 0.9, 0.98), (1, 2, 3, 4, 5)
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(25)
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Case:
    """What is simulated."""

    seeds: int
    images: int
    accuracy: float
    """Expected, as a share."""
    spread: float
    """Of the seeds, as in ``SPREADS``."""
    difficulty: float = DIFFICULTY

    def draw(self, tables: int, rng: np.random.Generator) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """(2^n, n) the patterns, and (tables, 2^n) how many images have each."""
        patterns = np.array(list(itertools.product([False, True], repeat=self.seeds)))
        skill, effect = self.latent()
        effects = effect * rng.standard_normal((tables, self.seeds))
        right = ndtr(skill + effects[:, None] + self.difficulty * _NODES[:, None])  # (tables, nodes, n)
        chances = np.zeros((tables, len(patterns)))
        for number, pattern in enumerate(patterns):
            chances[:, number] = np.where(pattern, right, 1 - right).prod(-1) @ (_WEIGHTS / _WEIGHTS.sum())
        return patterns, rng.multinomial(self.images, chances / chances.sum(1, keepdims=True))

    def numbers(self) -> list[int]:
        """That seed the random generator: a case is the same whatever else is simulated."""
        return [self.seeds, self.images, round(100 * self.accuracy), round(self.spread)]

    def latent(self) -> tuple[float, float]:
        """The skill and the standard deviation of the seeds' effects that make the accuracy and its spread."""
        quantile = float(ndtri(self.accuracy))
        error = np.sqrt(self.accuracy * (1 - self.accuracy) / self.images)
        of_images = np.sqrt(1 + self.difficulty**2)
        effect = float(self.spread * error * of_images / norm.pdf(quantile))
        return quantile * float(np.sqrt(of_images**2 + effect**2)), effect


def _ours(patterns: NDArray[np.bool_], counts: NDArray[np.int64]) -> Array:
    return np.array([accuracy_interval(np.repeat(patterns.T, count, axis=1)) for count in counts])


def _variances(patterns: NDArray[np.bool_], counts: NDArray[np.int64]) -> tuple[Array, Array, Array]:
    """(tables,) mean accuracy, its variance by the images, and that by the seeds: 0 of one seed."""
    images = counts.sum(1)
    accuracies = counts @ patterns / images[:, None]
    means = accuracies.mean(1)
    of_images = ((patterns.mean(1) - means[:, None]) ** 2 * counts).sum(1) / images**2
    runs = patterns.shape[1]
    return means, of_images, accuracies.var(1, ddof=1) / runs if runs > 1 else np.zeros(len(counts))


def satterthwaite(patterns: NDArray[np.bool_], counts: NDArray[np.int64]) -> Array:
    """Both variances added, and Student's t with Satterthwaite's degrees of freedom."""
    means, of_images, of_seeds = _variances(patterns, counts)
    variance, seeds = of_images + of_seeds, patterns.shape[1]
    freedom = np.divide(variance**2 * (seeds - 1), of_seeds**2, out=np.full(len(counts), 1e9), where=of_seeds > 0)
    return _around(means, t.ppf(0.975, freedom) * np.sqrt(variance))


def two_way_bootstrap(patterns: NDArray[np.bool_], counts: NDArray[np.int64]) -> Array:
    """The normal interval with the variance that a bootstrap over seeds and images has."""
    means, of_images, of_seeds = _variances(patterns, counts)
    seeds = patterns.shape[1]
    return _around(means, norm.ppf(0.975) * np.sqrt(of_images + of_seeds * (seeds - 1) / seeds))


def _around(means: Array, half: Array) -> Array:
    return 100 * np.stack([means - half, means + half], axis=1)


INTERVALS = {"ltbench": _ours, "Satterthwaite": satterthwaite, "two-way bootstrap": two_way_bootstrap}


def coverage(case: Case, tables: int) -> dict[str, tuple[float, float]]:
    """Percent of intervals that cover the truth, and their median width in points, for every kind of interval."""
    drawn = case.draw(tables, np.random.default_rng(case.numbers()))
    return {name: _summary(interval(*drawn), 100 * case.accuracy) for name, interval in INTERVALS.items()}


def macro_coverage(seeds: int, spread: float, tables: int) -> tuple[float, float]:
    """The same of the mean class accuracy of 10 classes with 400 to 10 test images and accuracies of 98 to 50 %."""
    sizes = np.geomspace(400, 10, 10).round().astype(int)
    accuracies = np.linspace(0.98, 0.5, 10)
    error = np.sqrt((accuracies * (1 - accuracies) / sizes).sum()) / len(sizes)
    weights = np.repeat(1 / (len(sizes) * sizes), sizes)
    ends = []
    rng = np.random.default_rng([seeds, round(spread)])
    labels = np.repeat(np.arange(len(sizes)), sizes)
    quantiles = ndtri(accuracies)
    of_images = np.sqrt(1 + DIFFICULTY**2)
    effect = spread * error * of_images / norm.pdf(quantiles).mean()
    skill = quantiles * np.sqrt(of_images**2 + effect**2)
    for _ in range(tables):
        difficulty = DIFFICULTY * rng.standard_normal(len(labels))
        noise = rng.standard_normal((seeds, len(labels)))
        right = (skill[labels] + effect * rng.standard_normal((seeds, 1)) + difficulty + noise) > 0
        ends.append(accuracy_interval(right, weights))
    return _summary(np.array(ends), 100 * float(accuracies.mean()))


def _summary(ends: Array, truth: float) -> tuple[float, float]:
    covered = (ends[:, 0] <= truth) & (truth <= ends[:, 1])
    return float(100 * covered.mean()), float(np.median(ends[:, 1] - ends[:, 0]))


def table(
    images: tuple[int, ...] = IMAGES,
    accuracies: tuple[float, ...] = ACCURACIES,
    seeds: tuple[int, ...] = SEEDS,
    tables: int = TABLES,
) -> pd.DataFrame:
    """A line a case: percent of intervals that cover the truth, and the median width in points."""
    lines = []
    for name, spread in SPREADS.items():
        for accuracy, size, count in itertools.product(accuracies, images, seeds):
            if count == 1 and spread:
                continue
            found = coverage(Case(count, size, accuracy, spread), tables)
            shown = {kind: f"{covered:.1f} ({width:.1f})" for kind, (covered, width) in found.items()}
            lines.append({"spread": name, "accuracy": f"{accuracy:.0%}", "images": size, "seeds": count, **shown})
    return pd.DataFrame(lines)


def macro_table(tables: int = TABLES) -> pd.DataFrame:
    """A line a case."""
    lines = []
    for (name, spread), count in itertools.product(SPREADS.items(), SEEDS):
        if count > 1 or not spread:
            covered, width = macro_coverage(count, spread, tables)
            lines.append({"spread": name, "seeds": count, "ltbench": f"{covered:.1f} ({width:.1f})"})
    return pd.DataFrame(lines)


def main() -> None:
    """Write the page's tables anew."""
    page = HERE / "accuracy_intervals.md"
    head = page.read_text(encoding="utf-8").partition("<!-- tables -->")[0]
    parts = [
        head + "<!-- tables -->",
        "### Percent of 95 % intervals that cover the truth (median width in points)",
        tabulate(table(), headers="keys", tablefmt="github", showindex=False, disable_numparse=True),
        "### The same of the mean class accuracy",
        tabulate(macro_table(), headers="keys", tablefmt="github", showindex=False, disable_numparse=True),
    ]
    page.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
