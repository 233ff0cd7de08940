"""How near the truth a measured ECE, its noise floor, its debiased estimate and its interval are.

    python benchmarks/statistics/calibration_error.py     # about two minutes on one core

Writes calibration_error.md beside this file. Test sets are drawn from a population whose binned ECE is known. Seeds of
a model are tested on the same images: what one gets wrong, the others tend to get wrong as well.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from ltbench.metrics.calibration_noise import estimate
from ltbench.metrics.confidence_bins import BINS, Floats, bin_of

IMAGES = (400, 2_000, 10_000)
SEEDS = (1, 3, 5)
ERRORS = (0.0, 2.0, 5.0, 15.0)
CHANCE = 0.1
"""The lowest confidence: that of ten equal classes."""
POPULATION = 100_000
SHARED = 0.7
"""Of the variance that decides whether an image is classified correctly, the share that all seeds have in common."""
Curve = Callable[[Floats, float], Floats]


def _from_logit(logit: Floats) -> Floats:
    return CHANCE + (1 - CHANCE) * special.expit(logit)


def _logit(confidence: Floats) -> Floats:
    return np.asarray(special.logit(np.clip((confidence - CHANCE) / (1 - CHANCE), 1e-6, 1 - 1e-6)))


KINDS: dict[str, Curve] = {
    "overconfident": lambda confidence, by: _from_logit(_logit(confidence) - by),
    "too steep": lambda confidence, by: _from_logit(_logit(confidence) / (1 + by)),
}
"""Accuracy at each confidence: a shift of the logit, which has one sign, and a temperature, which may have two."""


def confidences(images: int, seeds: int, generator: np.random.Generator) -> Floats:
    """(n, N) of some seeds, which agree on which images are hard."""
    common = generator.normal(1.5, 1.6, images)
    return _from_logit(common + generator.normal(0, 0.7, (seeds, images)))


def outcomes(accuracy: Floats, generator: np.random.Generator) -> NDArray[np.bool_]:
    """(n, N) which images are classified correctly, with these probabilities."""
    seeds, images = accuracy.shape
    common, own = generator.normal(size=images), generator.normal(size=(seeds, images))
    drawn: NDArray[np.bool_] = special.ndtr(np.sqrt(SHARED) * common + np.sqrt(1 - SHARED) * own) < accuracy
    return drawn


def tables(confidence: Floats, right: NDArray[np.bool_] | Floats) -> tuple[Floats, Floats, Floats]:
    """(n, B) images, mean confidence and accuracy of the bins of each seed."""
    cell = bin_of(confidence)
    sums = np.array(
        [
            [np.bincount(cells, weights, BINS) for cells, weights in zip(cell, values, strict=True)]
            for values in (np.ones_like(confidence), confidence, right)
        ]
    )
    many = np.maximum(sums[0], 1)
    return sums[0], sums[1] / many, sums[2] / many


def errors(count: Floats, confidence: Floats, accuracy: Floats) -> Floats:
    """(n,) ECE of each seed, percent."""
    ece: Floats = 100 * (count * np.abs(accuracy - confidence)).sum(1) / count.sum(1)
    return ece


@lru_cache
def strength(kind: str, error: float) -> float:
    """How strong a miscalibration is that has this ECE in the population."""
    if not error:
        return 0.0
    confidence = confidences(POPULATION, 1, np.random.default_rng(1))

    def excess(by: float) -> float:
        return float(errors(*tables(confidence, KINDS[kind](confidence, by)))[0]) - error

    return float(optimize.brentq(excess, 0, 20, xtol=1e-4))


@dataclass(frozen=True)
class Row:
    """What many test sets of one population measure."""

    kind: str
    images: int
    seeds: int
    true: float
    """ECE of the population, percent."""
    figures: Floats
    """(R, 5): measured, floor, debiased, low, high of each test set."""
    bootstrap: Floats
    """(R,) the bootstrap estimate of Kumar et al. (NeurIPS 2019), for comparison."""

    @property
    def coverage(self) -> float:
        """Share of the intervals that hold the true ECE."""
        low, high = self.figures[:, 3], self.figures[:, 4]
        return float(((low <= self.true) & (self.true <= high)).mean())

    def error(self, values: Floats) -> tuple[float, float]:
        """Bias and root mean square error."""
        return float((values - self.true).mean()), float(np.sqrt(((values - self.true) ** 2).mean()))


def bootstrap_debiased(count: Floats, confidence: Floats, accuracy: Floats) -> float:
    """2 ECE - its mean under normal resampling of each bin's accuracy: what Kumar et al. do for the l1 error."""
    noise = np.sqrt(np.maximum(accuracy * (1 - accuracy), 0) / np.maximum(count, 1)) + 1e-12
    gap = np.abs(accuracy - confidence)
    folded = noise * np.sqrt(2 / np.pi) * np.exp(-((gap / noise) ** 2) / 2) + gap * special.erf(
        gap / noise / np.sqrt(2)
    )
    return float(100 * ((count * (2 * gap - folded)).sum(1) / count.sum(1)).mean())


def simulate(kind: str, error: float, images: int, seeds: int, draws: int) -> Row:
    """Test sets of one population."""
    generator, by = np.random.default_rng([images, seeds]), strength(kind, error)
    whole = confidences(POPULATION, seeds, np.random.default_rng(2))
    true = 0.0 if not by else float(errors(*tables(whole, KINDS[kind](whole, by))).mean())
    figures, bootstrap = [], []
    for _ in range(draws):
        confidence = confidences(images, seeds, generator)
        table = tables(confidence, outcomes(KINDS[kind](confidence, by), generator))
        found = estimate(*table)
        figures.append([errors(*table).mean(), found.floor, found.debiased, found.low, found.high])
        bootstrap.append(bootstrap_debiased(*table))
    return Row(kind, images, seeds, true, np.array(figures), np.array(bootstrap))


def rows(draws: int) -> Iterator[Row]:
    """All of them; a calibrated population is of no kind."""
    for error in ERRORS:
        for kind in KINDS if error else [next(iter(KINDS))]:
            for images in IMAGES:
                for seeds in SEEDS:
                    yield simulate(kind, error, images, seeds, draws)


HEADER = """# What a measured ECE says

Asked: by how much is an ECE of 15 bins too large, how near the truth is the debiased one, and how often does its 95 %
interval hold the true one, the binned ECE of the population (the mean over the seeds of theirs)?

Made by `python benchmarks/statistics/calibration_error.py`: {draws} test sets a row, seeds on the same images.
Overconfident: the logit of the accuracy is that of the confidence less a constant. Too steep: divided by a constant.
Floor: mean of `ece_floor`. Bias and root mean square error (RMSE) are to the true ECE. Bootstrap: the estimate of Kumar
et al. (NeurIPS 2019) for the same error, 2 ECE - the mean ECE of resampled bins. All in percent.

"""
COLUMNS = (
    "Population", "True ECE", "Images", "Seeds", "Measured", "Floor", "Debiased", "Bias", "RMSE", "Bias, bootstrap",
    "RMSE, bootstrap", "Coverage, %", "Width",
)  # fmt: skip


def markdown(found: list[Row], draws: int) -> str:
    """The page."""
    lines = []
    for row in found:
        measured, floor, debiased, low, high = row.figures.T
        bias, rmse = row.error(debiased)
        other_bias, other_rmse = row.error(row.bootstrap)
        kind = row.kind if row.true else "calibrated"
        cells = [
            kind, f"{row.true:.1f}", f"{row.images:,}", str(row.seeds), f"{measured.mean():.2f}", f"{floor.mean():.2f}",
            f"{debiased.mean():.2f}", f"{bias:+.2f}", f"{rmse:.2f}", f"{other_bias:+.2f}", f"{other_rmse:.2f}",
            f"{100 * row.coverage:.0f}", f"{(high - low).mean():.1f}",
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    calibrated = [row for row in found if not row.true]
    off = max(abs(float((row.figures[:, 0] - row.figures[:, 1]).mean())) for row in calibrated)
    lowest = min(found, key=lambda row: row.coverage)
    plain, ours, other = (
        float(np.mean([row.error(values(row))[1] for row in found]))
        for values in (lambda row: row.figures[:, 0], lambda row: row.figures[:, 2], lambda row: row.bootstrap)
    )
    follows = f"""
What follows:

- The floor is what a calibrated population measures, to {off:.2f} points: an ECE can be read against it.
- The debiased ECE has an RMSE of {ours:.2f} points on average over the rows, the measured one {plain:.2f}, the
  bootstrap estimate {other:.2f}. The latter is better where the true ECE is well above the floor and worse where it is
  near 0, since it resamples around gaps that are noise themselves. The debiased ECE is still too large there, as an
  estimate that is never negative must be.
- The interval holds the true ECE in {100 * lowest.coverage:.0f} % of cases or more (the least: {lowest.kind},
  {lowest.true:.1f} %, {lowest.images:,} images, seeds: {lowest.seeds}). With several seeds it is wider than need be,
  since the noise of all seeds is taken to be the same.
"""
    head = [f"| {' | '.join(COLUMNS)} |", f"|---|{'---:|' * (len(COLUMNS) - 1)}"]
    return HEADER.format(draws=draws) + "\n".join([*head, *lines]) + "\n" + follows


def main() -> None:
    """Simulate and write the page."""
    draws = int(sys.argv[1]) if len(sys.argv) > 1 else 120
    Path(__file__).with_suffix(".md").write_text(markdown(list(rows(draws)), draws), encoding="utf-8")


if __name__ == "__main__":
    main()
