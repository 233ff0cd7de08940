"""Temperature scaling for the class frequencies of the test set, fitted on validation images that have others.

A validation part of a long-tailed training set is long-tailed as well. The temperature that suits it best is the wrong
one for a balanced test set: cross entropy is calibrated for the frequencies that it was trained on, and overconfident
on a balanced set, whichever temperature its validation images ask for.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ltbench.metrics.calibration import fit_temperature, least_temperature, scaled_block
from ltbench.metrics.logits import Logits, blocks
from ltbench.results.schema import FittedFor


@dataclass(frozen=True)
class Temperature:
    """A temperature, and the class frequencies that it is fitted for."""

    value: float
    fitted_for: FittedFor


@dataclass(frozen=True)
class Prior:
    """Class frequencies that a temperature is to be fitted for."""

    name: str
    """Such as "balanced", "test" or "forward-50"."""
    counts: Tensor
    """(C,) of any scale; 0 for a class that is not there."""

    @classmethod
    def of_labels(cls, labels: Tensor, classes: int) -> "Prior":
        """Of a test set: "balanced" where all classes have the same number of images, otherwise "test"."""
        counts = torch.bincount(labels, minlength=classes).double()
        return cls("balanced" if bool((counts == counts[0]).all()) else "test", counts)


@dataclass(frozen=True)
class Training:
    """What training has left in the logits."""

    counts: Tensor
    """(C,) images that were trained on."""
    logit_prior: float | None
    """Exponent of their frequencies that is left in the logits; None if not known."""

    def correction(self, target: Tensor) -> Tensor | None:
        """(C,) What to add to logits so that their softmax is the posterior under other class frequencies."""
        if self.logit_prior is None:
            return None
        return _frequencies(target).log() - self.logit_prior * _frequencies(self.counts.clamp(min=0.5)).log()


def fit_for_prior(
    logits: Logits, labels: Tensor, prior: Prior, training: Training | None = None, *, corrected: bool = False
) -> Temperature:
    """The temperature, between 0.05 and 20, with the least negative log likelihood on a set with other frequencies.

    Guo et al. (ICML 2017, section 4.2) minimise the likelihood of the validation images. Here every validation image
    has the weight target frequency / validation frequency of its class, as under label shift
    (Saerens et al., Neural Computation 2002; Lipton et al., ICML 2018), so that the sum is that of the target set on
    average, whatever the logits are. A class that has no validation image lends its weight to those with the fewest.

    Few images carry most of this sum. Where it is known how much of the training prior is left in the logits, a second
    estimate is less noisy: a temperature is fitted without weights to the logits that are corrected for the validation
    frequencies; the posteriors that it gives replace the labels in the weighted sum. This second one is wrong where the
    logits are not what they are said to be, e.g. overconfident about rare classes. The result lies between the two, in
    log T: it departs from the second by the difference of the two times 1 - (standard error of the first / difference)
    ** 2, by nothing if the difference is within the standard error (positive-part shrinkage, James and Stein 1961).

    Args:
        logits: (N, C) of validation images.
        labels: (N,).
        prior: class frequencies of the set that predictions are for. Nothing else is known of that set.
        training: of the method; None leaves the second estimate out.
        corrected: whether predictions are softmax(z / T - logit_prior log pi_train + log pi_target) and not
            softmax(z / T).
    """
    classes = logits.shape[1]
    images = torch.bincount(labels, minlength=classes).double()
    target = _frequencies(prior.counts)
    by_class = class_weights(target, images)
    added = training.correction(target) if training is not None and corrected else None
    weight = by_class[labels]
    fitted_for = FittedFor(
        prior=prior.name,
        validation_images=len(labels),
        effective_images=float(weight.sum() ** 2 / weight.square().sum()),
        classes_without_images=int(((images == 0) & (target > 0)).sum()),
    )
    here = weight > 0
    first = fit_temperature(logits, labels, weight, added)
    even = bool((weight[here] - weight[here][0]).abs().max() < 1e-9) and bool(here.all())
    own = training.correction(images / images.sum()) if training is not None else None
    if own is None or training is None or (even and added is None):
        return Temperature(first, fitted_for)
    second = fit_temperature(logits, labels, added=own)
    if added is None:
        second = least_temperature(_expected_likelihood(logits, by_class, second, own))
    error = _standard_error(logits, labels, weight, first, added)
    difference = float(np.log(first / second))
    kept = max(0.0, 1 - (error / difference) ** 2) if difference and np.isfinite(error) else 0.0
    return Temperature(second * float(np.exp(kept * difference)), fitted_for)


def class_weights(target: Tensor, images: Tensor) -> Tensor:
    """(C,) The weight of a validation image by its class: target frequency over validation frequency.

    Args:
        target: (C,) frequencies of the set that is aimed at.
        images: (C,) validation images. What classes without any have of ``target`` goes to those with the fewest.
    """
    there = images > 0
    fewest = images == images[there].min()
    target = torch.where(there, target, 0.0) + fewest / fewest.sum() * target[~there].sum()
    return torch.where(there, target / images.clamp(min=1) * images.sum(), 0.0)


def _frequencies(counts: Tensor) -> Tensor:
    return counts.double() / counts.sum()


def _expected_likelihood(
    logits: Logits, by_class: Tensor, temperature: float, added: Tensor
) -> Callable[[float], float]:
    """The same of softmax(z / T), with the posteriors softmax(z / temperature + added) in place of labels."""
    mass = torch.empty(logits.shape[0], dtype=torch.float64)
    dot = torch.zeros((), dtype=torch.float64)
    for block, own in blocks(logits, mass):
        each = scaled_block(block, temperature, added).softmax(1).double() * by_class
        own.copy_(each.sum(1))
        dot += (each * block.double()).sum()

    def loss(value: float) -> float:
        total = -dot / value
        for block, own in blocks(logits, mass):
            total = total + (own * scaled_block(block, value, None).logsumexp(1).double()).sum()
        return float(total / mass.sum())

    return loss


def _standard_error(logits: Logits, labels: Tensor, weight: Tensor, temperature: float, added: Tensor | None) -> float:
    """Of the logarithm of the temperature with the least weighted loss: the sandwich estimate (Huber 1967)."""
    slopes = curvature = torch.zeros((), dtype=torch.float64)
    for block, its, own in blocks(logits, labels, weight):
        value = block.double() / temperature
        probability = scaled_block(block, temperature, added).softmax(1).double()
        mean = (probability * value).sum(1)
        slope = value.gather(1, its[:, None]).squeeze(1) - mean
        slopes = slopes + (own * slope).square().sum()
        curvature = curvature + (own * ((probability * value.square()).sum(1) - mean.square())).sum()
    return float(slopes.sqrt() / curvature)
