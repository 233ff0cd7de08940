"""How near the best a temperature is that is fitted on long-tailed validation images for a balanced test set.

    python benchmarks/statistics/temperature.py     # about ten minutes on one core

Writes temperature.md beside this file. Images are points of normal distributions, one a class, so that their exact
posterior is known; "trained" logits know class means from as many training images as there are.
"""

import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ltbench.data.long_tail import profile
from ltbench.metrics import calibration
from ltbench.metrics.temperature import TargetPrior, TrainingPrior, class_weights, fit_for_prior
from ltbench.report.advice import ENOUGH_FOR_TEMPERATURE

DIMENSIONS, DISTANCE, STEEPNESS, TEST_IMAGES = 20, 3.0, 1.5, 10_000
WITHIN = 1.2
LEVELS = (0, 100, 300, 500, 1000, 2000)
SETTINGS = ((100, 100, 500), (100, 10, 500), (10, 100, 5000), (10, 20, 140))
"""Classes, imbalance ratio, images of the largest class: those of CIFAR-100-LT, CIFAR-10-LT and digits-lt."""


class Case(NamedTuple):
    """What is simulated."""

    logits: str
    """"exact"; "trained", from class means that are estimated on the training images; or "tail": only those of the
    rarest third are, and twice as badly."""
    classes: int
    ratio: float
    head: int
    """Images of the largest class."""
    logit_prior: float
    steepness: float = STEEPNESS
    """Factor of the logits; below one they are underconfident."""


CASES = tuple(
    Case(logits, *setting, logit_prior)
    for logits in ("exact", "trained")
    for setting in SETTINGS
    for logit_prior in (1, 0)
)
OTHERS = (
    Case("exact", 100, 50, 2000, 0.5, 0.7),
    Case("trained", 100, 100, 3000, 1, 2.0),
    Case("tail", 50, 20, 1000, 1, 1.0),
    Case("tail", 100, 20, 1000, 0, 1.5),
    Case("trained", 20, 10, 2000, 0.5, 0.7),
    Case("tail", 10, 50, 5000, 0.5, 2.0),
    Case("exact", 200, 50, 300, 1, 1.2),
    Case("trained", 200, 100, 600, 0, 1.0),
    Case("exact", 20, 100, 1000, 0, 2.5),
    Case("trained", 50, 100, 1000, 1, 0.6),
    Case("exact", 10, 10, 5000, 1, 0.6),
    Case("trained", 10, 20, 5000, 0, 2.0),
)
"""These had no part in the choice of the estimator or of the number of images that it needs."""


@dataclass(frozen=True)
class World:
    """A data set and a classifier of it."""

    trained_on: Tensor
    """(C,) training images, without the validation part."""
    means: Tensor
    """(C, D) of the classes."""
    known: Tensor
    """(C, D) what the classifier takes for them."""
    case: Case

    @classmethod
    def make(cls, case: Case, generator: torch.Generator) -> tuple["World", Tensor]:
        """The world, and (C,) validation images of each class: a fifth, at least one."""
        counts = torch.from_numpy(profile(case.head, case.classes, case.ratio))
        held = torch.minimum((0.2 * counts + 0.5).floor().clamp(min=1).long(), counts - 1)
        means = torch.randn(case.classes, DIMENSIONS, generator=generator)
        means *= DISTANCE / means.norm(dim=1, keepdim=True)
        noise = torch.randn(means.shape, generator=generator) / (counts - held)[:, None].sqrt()
        rare = (torch.arange(case.classes) >= case.classes - case.classes // 3)[:, None]
        share = {"exact": 0.0, "trained": 1.0, "tail": 2.0 * rare}[case.logits]
        return cls(counts - held, means, means + share * noise, case), held

    def draw(self, images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Logits and labels of (C,) images of each class."""
        labels = torch.arange(len(images)).repeat_interleave(images)
        points = self.means[labels] + torch.randn(len(labels), DIMENSIONS, generator=generator)
        prior = (self.trained_on / self.trained_on.sum()).log()
        logits = points @ self.known.T - self.known.square().sum(1) / 2 + self.case.logit_prior * prior
        return self.case.steepness * logits, labels


class Scaled(NamedTuple):
    """The balanced test set with logits divided by a temperature."""

    temperature: float
    ece: float
    debiased: float
    """ECE without its noise."""


class Draw(NamedTuple):
    """What one data set gives: with each way to choose a temperature."""

    unscaled: Scaled
    unweighted: Scaled
    weighted: Scaled
    fitted: Scaled
    test: Scaled
    """Fitted on the test images, which nobody may do."""
    effective_images: float


def simulate(case: Case, seed: int, test_images: int = TEST_IMAGES) -> Draw:
    """One data set."""
    generator = torch.Generator().manual_seed(seed)
    world, held = World.make(case, generator)
    validation = world.draw(held, generator)
    test, labels = world.draw(torch.full((case.classes,), test_images // case.classes), generator)
    prior = TargetPrior("balanced", torch.ones(case.classes))
    fitted = fit_for_prior(*validation, prior, TrainingPrior(world.trained_on, case.logit_prior))
    weight = class_weights(torch.full((case.classes,), 1 / case.classes), held.double())[validation[1]]
    temperatures = (
        1.0,
        calibration.fit_temperature(*validation),
        calibration.fit_temperature(*validation, weight),
        fitted.value,
        calibration.fit_temperature(test, labels),
    )
    found = []
    for temperature in temperatures:
        confidence, predicted = calibration.top(calibration.scaled(test, temperature))
        table = calibration.reliability(confidence, predicted == labels)
        found.append(Scaled(temperature, table.ece, table.estimate.debiased))
    return Draw(*found, fitted.fitted_for.effective_images)


class Row(NamedTuple):
    """Means over the data sets of a case."""

    case: Case
    effective_images: float
    ece: list[float]
    """Unscaled, unweighted, weighted, fitted, test."""
    debiased: tuple[float, float]
    """Fitted and test."""
    apart: float
    """Root mean square of log T - log T of the test images."""

    @property
    def ratio(self) -> float:
        """Of the fitted temperature's ECE to the test images' own."""
        return self.ece[3] / self.ece[4]

    @classmethod
    def of(cls, case: Case, draws: Sequence[Draw]) -> "Row":
        """Of some data sets."""
        each = np.array([draw[:5] for draw in draws])  # (draws, ways, 3)
        mean = each.mean(0)
        apart = np.log(each[:, 3, 0] / each[:, 4, 0])
        return cls(
            case,
            draws[0].effective_images,
            mean[:, 1].tolist(),
            (float(mean[3, 2]), float(mean[4, 2])),
            float(np.sqrt(np.mean(apart**2))),
        )

    def __str__(self) -> str:
        case = self.case
        within = [
            name for name, inside in (("ECE", self.ratio <= WITHIN), ("T", self.apart <= np.log(WITHIN))) if inside
        ]
        cells = [
            case.logits, case.classes, case.ratio, case.head, case.logit_prior, case.steepness,
            f"{self.effective_images:.0f}", *(f"{value:.2f}" for value in (*self.ece, self.ratio, *self.debiased)),
            f"{np.exp(self.apart):.3f}", ", ".join(within) or "-",
        ]  # fmt: skip
        return f"| {' | '.join(map(str, cells))} |"


HEADER = """# Temperature scaling for another class distribution

Asked: how good is a temperature on a balanced test set that is fitted on a long-tailed validation part (a fifth of each
class, at least one image)?

Made by `python benchmarks/statistics/temperature.py`: means over {draws} data sets a row, {images:,} balanced test
images each. Classes are normal distributions. Logits: those of the posterior (exact), or of what is estimated of it
from the training images (trained, overconfident about rare classes), or from fewer and for the rarest third of the
classes alone (tail); times a steepness. Prior: exponent of the training frequencies that is left in them, 1 for cross
entropy and 0 for balanced methods. Worth: equally weighted images that the weighted validation images are worth.

ECE in percent: of the logits as they are; divided by the temperature of the validation images as they are (unweighted,
Guo et al. 2017); weighted for the balanced set; fitted as ltbench does (`ltbench.metrics.temperature.fit_for_prior`);
and of the temperature fitted on the test images themselves, which is out of reach. Ratio: fitted over that. Debiased:
the ECE without the noise of {images:,} test images, of the fitted temperature and of that of the test images. T: root
mean square factor between these two temperatures. Within 20 %: the ratio is at most 1.2 (ECE), the factor is at most
1.2 (T).
"""

TABLE = """
## {title}

| Logits | Classes | IR | Largest class | Prior | Steepness | Worth | Unscaled | Unweighted | Weighted | Fitted | Test \
| Ratio | Debiased, fitted | Debiased, test | T | Within 20 % |
|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|
{rows}
"""

BY_WORTH = """
## By what the validation images are worth

Mean ratio of the rows that are worth so many images, how many rows, and how many of them are within 20 % (ECE; T).

| Worth at least | Rows of the choice | | | Other rows | | |
|---:|---:|---:|---|---:|---:|---|
{rows}

The advice of a report names a temperature where the validation images are worth at least {enough}
(`ltbench.report.advice`).
"""


def by_worth(rows: Sequence[Row], fewest: int) -> str:
    """Cells: mean ratio, rows, rows within 20 %."""
    own = [row for row in rows if row.effective_images >= fewest]
    if not own:
        return "- | 0 | -"
    ece = sum(row.ratio <= WITHIN for row in own)
    apart = sum(row.apart <= np.log(WITHIN) for row in own)
    return f"{np.mean([row.ratio for row in own]):.2f} | {len(own)} | {ece}; {apart}"


def page(chosen: Sequence[Row], others: Sequence[Row], draws: int) -> str:
    """The text of temperature.md."""
    tables = {"Rows of the choice": chosen, "Rows that had no part in any choice": others}
    text = HEADER.format(draws=draws, images=TEST_IMAGES)
    for title, rows in tables.items():
        text += TABLE.format(title=title, rows="\n".join(map(str, rows)))
    lines = [f"| {fewest} | {by_worth(chosen, fewest)} | {by_worth(others, fewest)} |" for fewest in LEVELS]
    return text + BY_WORTH.format(rows="\n".join(lines), enough=ENOUGH_FOR_TEMPERATURE)


def main() -> None:
    """Simulate and write the page."""
    draws = int(sys.argv[1]) if len(sys.argv) > 1 else 16
    jobs = [(case, seed) for case in (*CASES, *OTHERS) for seed in range(draws)]
    with ProcessPoolExecutor(initializer=torch.set_num_threads, initargs=(1,)) as pool:
        found = list(pool.map(simulate, *zip(*jobs, strict=True)))
    rows = [Row.of(case, found[i * draws : (i + 1) * draws]) for i, case in enumerate((*CASES, *OTHERS))]
    text = page(rows[: len(CASES)], rows[len(CASES) :], draws)
    Path(__file__).with_suffix(".md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
