"""How near the best a temperature is that is fitted on long-tailed validation images for a balanced test set.

    python benchmarks/statistics/temperature.py     # about two minutes on one core

Writes temperature.md beside this file. Images are points of normal distributions, one a class, so that their exact
posterior is known; "trained" logits know class means from as many training images as there are.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ltbench.data.long_tail import profile
from ltbench.metrics import calibration
from ltbench.metrics.temperature import Prior, Training, fit_for_prior

DIMENSIONS, DISTANCE, STEEPNESS, TEST_IMAGES = 20, 3.0, 1.5, 10_000
SETTINGS = ((100, 100, 500), (100, 10, 500), (10, 100, 5000), (10, 20, 140))
"""Classes, imbalance ratio, images of the largest class: those of CIFAR-100-LT, CIFAR-10-LT and digits-lt."""


@dataclass(frozen=True)
class World:
    """A data set and a classifier of it."""

    trained_on: Tensor
    """(C,) training images, without the validation part."""
    means: Tensor
    """(C, D) of the classes."""
    known: Tensor
    """(C, D) what the classifier takes for them."""
    logit_prior: float

    @classmethod
    def make(
        cls, classes: int, ratio: int, head: int, logit_prior: float, *, trained: bool, generator: torch.Generator
    ) -> tuple["World", Tensor]:
        """The world, and (C,) validation images of each class: a fifth, at least one."""
        counts = torch.from_numpy(profile(head, classes, ratio))
        held = torch.minimum((0.2 * counts + 0.5).floor().clamp(min=1).long(), counts - 1)
        means = torch.randn(classes, DIMENSIONS, generator=generator)
        means *= DISTANCE / means.norm(dim=1, keepdim=True)
        noise = torch.randn(means.shape, generator=generator) / (counts - held)[:, None].sqrt()
        return cls(counts - held, means, means + noise if trained else means, logit_prior), held

    def draw(self, images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Logits and labels of (C,) images of each class; logits are too steep by a factor."""
        labels = torch.arange(len(images)).repeat_interleave(images)
        points = self.means[labels] + torch.randn(len(labels), DIMENSIONS, generator=generator)
        prior = (self.trained_on / self.trained_on.sum()).log()
        logits = points @ self.known.T - self.known.square().sum(1) / 2 + self.logit_prior * prior
        return STEEPNESS * logits, labels


NAMES = ("unscaled", "unweighted", "weighted", "fitted", "test")


def errors(
    classes: int, ratio: int, head: int, logit_prior: float, *, trained: bool, seed: int, test_images: int = TEST_IMAGES
) -> list[float]:
    """ECE on a balanced test set, percent, in the order of ``NAMES``."""
    generator = torch.Generator().manual_seed(seed)
    world, held = World.make(classes, ratio, head, logit_prior, trained=trained, generator=generator)
    validation = world.draw(held, generator)
    test, labels = world.draw(torch.full((classes,), test_images // classes), generator)
    prior, training = Prior("balanced", torch.ones(classes)), Training(world.trained_on, logit_prior)
    temperatures = (
        1.0,
        calibration.fit_temperature(*validation),
        fit_for_prior(*validation, prior).value,
        fit_for_prior(*validation, prior, training).value,
        calibration.fit_temperature(test, labels),  # which nobody may do
    )
    found = []
    for temperature in temperatures:
        confidence, predicted = calibration.top(calibration.scaled(test, temperature))
        found.append(calibration.reliability(confidence, predicted == labels).ece)
    return found


HEADER = """# Temperature scaling for another class distribution

Asked: how good is a temperature on a balanced test set that is fitted on a long-tailed validation part (a fifth of each
class, at least one image)?

Made by `python benchmarks/statistics/temperature.py`: means over {draws} data sets a row, {images:,} balanced test
images each. Classes are normal distributions; logits are {steepness} times those of the posterior (exact), or of what
is estimated of it from the training images (trained, overconfident about rare classes). Prior: exponent of the training
frequencies that is left in them, 1 for cross entropy and 0 for balanced methods. ECE in percent: of the logits as they
are; divided by the temperature of the validation images as they are (unweighted, Guo et al. 2017); weighted for the
balanced set; fitted as ltbench does (`ltbench.metrics.temperature.fit_for_prior`); and of the temperature fitted on
the test images themselves, which is out of reach. Ratio: fitted over that.

| Logits | Classes | IR | Largest class | Prior | Unscaled | Unweighted | Weighted | Fitted | On the test set | Ratio |
|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|
"""

FOLLOWS = """
What follows:

- Unweighted, the temperature leaves cross entropy miscalibrated on a balanced set: it suits the validation images.
- With 100 classes, where the weighted validation images are worth some hundred equally weighted ones, the fitted
  temperature has an ECE of {large:.2f} times that of the temperature of the test images on average, at most {most:.2f}
  times ({apart:.2f} points more).
- With ten classes it is within {middle:.1f} points (CIFAR-10-LT's size) and {small:.1f} points (that of digits-lt, with
  one validation image of the rarest class), and better than no scaling.
- Weights alone have an ECE of {weighted:.2f} points on average over the rows, the fitted temperature {fitted:.2f}.
"""


def rows(draws: int) -> Iterator[tuple[tuple[str, int, int, int, int], list[float]]]:
    """Each setting, and the mean errors."""
    for trained in (False, True):
        for classes, ratio, head in SETTINGS:
            for logit_prior in (1, 0):
                each = [errors(classes, ratio, head, logit_prior, trained=trained, seed=seed) for seed in range(draws)]
                name = "trained" if trained else "exact"
                yield (name, classes, ratio, head, logit_prior), np.mean(each, 0).tolist()


def main() -> None:
    """Simulate and write the page."""
    draws = int(sys.argv[1]) if len(sys.argv) > 1 else 16
    torch.set_num_threads(1)
    found = list(rows(draws))
    lines = [
        f"| {' | '.join(map(str, setting))} | {' | '.join(f'{value:.2f}' for value in means)} "
        f"| {means[3] / means[4]:.2f} |"
        for setting, means in found
    ]
    ratios = [means[3] / means[4] for (_, classes, *_), means in found if classes == 100]
    apart = {
        head: max(means[3] - means[4] for (*_, own, _), means in found if own == head) for head in (500, 5000, 140)
    }
    text = HEADER.format(draws=draws, images=TEST_IMAGES, steepness=STEEPNESS) + "\n".join(lines) + "\n"
    text += FOLLOWS.format(
        large=np.mean(ratios),
        most=max(ratios),
        apart=apart[500],
        middle=apart[5000],
        small=apart[140],
        weighted=np.mean([means[2] for _, means in found]),
        fitted=np.mean([means[3] for _, means in found]),
    )
    Path(__file__).with_suffix(".md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
