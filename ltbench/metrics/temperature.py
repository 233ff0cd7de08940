"""Temperature scaling for the class frequencies of the test set, fitted on validation images that have others.

A validation part of a long-tailed training set is long-tailed as well. The temperature that suits it best is the wrong
one for a balanced test set: cross entropy is calibrated for the frequencies that it was trained on, and overconfident
on a balanced set, whichever temperature its validation images ask for.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ltbench.metrics.calibration import HIGHEST, LOWEST, fit_temperature, least_temperature, scaled_block, top
from ltbench.metrics.logits import Logits, blocks
from ltbench.results.records import FittedFor

ESTIMATOR = 2
"""Version of the estimator; those of another give other temperatures. 1: weighted labels, drawn to one calibration."""
_NEAR = 1.01
"""Factor, within which a temperature is at a bound of the search."""
_SIGNIFICANT = 1.96
"""Standard errors, at 5 %."""
_STEPS = 25
_TOLERANCE = 1e-6
"""Nats, that a step of Newton's method still promises."""


@dataclass(frozen=True)
class Temperature:
    """A temperature, and the class frequencies that it is fitted for."""

    value: float
    fitted_for: FittedFor

    @property
    def fault(self) -> str | None:
        """Why it must not be used; None if there is nothing to say against it."""
        if LOWEST * _NEAR < self.value < HIGHEST / _NEAR:
            return None
        return (
            "the validation images do not say which temperature is best: their likelihood still rises at "
            f"{self.value:.2f}, where the search ends"
        )


@dataclass(frozen=True)
class TargetPrior:
    """Class frequencies that a temperature is to be fitted for."""

    name: str
    """Such as "balanced", "test" or "forward-50"."""
    counts: Tensor
    """(C,) of any scale; 0 for a class that is not there."""

    @classmethod
    def of_labels(cls, labels: Tensor, classes: int) -> "TargetPrior":
        """The prior of a test set: "balanced" where all classes have equally many images, otherwise "test"."""
        counts = torch.bincount(labels, minlength=classes).double()
        return cls("balanced" if bool((counts == counts[0]).all()) else "test", counts)


@dataclass(frozen=True)
class TrainingPrior:
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
    logits: Logits,
    labels: Tensor,
    prior: TargetPrior,
    training: TrainingPrior | None = None,
    *,
    corrected: bool = False,
) -> Temperature:
    """The temperature, between 0.05 and 20, with the least negative log likelihood on a set with other frequencies.

    Guo et al. (ICML 2017, section 4.2) minimise the likelihood of the validation images. Under label shift (Saerens et
    al., Neural Computation 2002; Lipton et al., ICML 2018) every image counts by target frequency / validation
    frequency of its class. A class that has no validation image lends its weight to those with the fewest.

    The labels of a few rare images would carry most of that sum. Posteriors therefore replace the labels (Rao and
    Blackwell): all images, and most of them are of frequent classes, tell how far the logits can be trusted, and the
    posteriors tell what each image would be worth in the target set. They come from a calibration of the logits on the
    validation images as they are (Alexandari et al., ICML 2020, calibrate before label shift likewise), see
    ``_Posterior``. It has a slope, the share of the training frequencies that is left in the logits, and a slope that
    changes with the frequency of the class, as networks are overconfident about rare classes. The estimates with
    one, two and three of these are averaged in log T by their Akaike weights (Burnham and Anderson, Model Selection
    and Multimodel Inference, 2002, 4.2); without a known ``logit_prior`` those with two and three.

    The weighted labels have the last word: only where their own temperature differs significantly (5 %, Hausman,
    Econometrica 1978) does the result leave the average, by 1 - (1.96 standard errors / difference) ** 2 of the
    difference. Simulations: benchmarks/statistics/temperature.md.

    Args:
        logits: (N, C) of validation images.
        labels: (N,).
        prior: class frequencies of the set that predictions are for. Nothing else is known of that set.
        training: of the method; without it the frequencies of the validation images stand for those trained on.
        corrected: whether predictions are softmax(z / T - logit_prior log pi_train + log pi_target) and not
            softmax(z / T).
    """
    classes = logits.shape[1]
    images = torch.bincount(labels, minlength=classes).double()
    target = _frequencies(prior.counts)
    by_class = class_weights(target, images)
    training = training or TrainingPrior(images, None)
    added = training.correction(target) if corrected else None
    weight = by_class[labels]
    fitted_for = FittedFor(
        prior=prior.name,
        validation_images=len(labels),
        effective_images=float(weight.sum() ** 2 / weight.square().sum()),
        classes_without_images=int(((images == 0) & (target > 0)).sum()),
        estimator=ESTIMATOR,
    )
    if bool((top(logits)[1] == labels)[weight > 0].all()):  # the smaller the better, until float32 is at its end
        return Temperature(LOWEST, fitted_for)
    by_labels = fit_temperature(logits, labels, weight, added)
    if added is None and bool((weight - weight[0]).abs().max() < 1e-9):
        return Temperature(by_labels, fitted_for)
    value = _by_posteriors(logits, labels, by_class, by_labels, added, training)
    return Temperature(value, fitted_for)


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


def _by_posteriors(
    logits: Logits, labels: Tensor, by_class: Tensor, by_labels: float, added: Tensor | None, training: TrainingPrior
) -> float:
    """The average over calibrations, and what the weighted labels have against it."""
    images = torch.bincount(labels, minlength=len(by_class)).double()
    offset = training.correction(images)
    known = offset is not None
    if offset is None:
        offset = _frequencies(images).log()
    frequency = training.counts.double().clamp(min=0.5).log()
    frequency = frequency - frequency.mean()
    varies = float(frequency.abs().max()) > 1e-9
    frequency = frequency / frequency.abs().max() if varies else frequency
    own = _label_influence(logits, labels, by_class[labels], by_labels, added)
    slope = torch.tensor([1 / fit_temperature(logits, labels, added=offset)], dtype=torch.float64)
    found, start = [], slope
    for size in range(1 if known or not varies else 2, 4 if varies else 2):
        start = torch.cat([start, torch.zeros(size - len(start), dtype=torch.float64)])
        posterior = _Posterior(start, offset, frequency).fitted(logits, labels)
        start = posterior.parameters
        value = least_temperature(posterior.expected_likelihood(logits, by_class, added))
        influence = posterior.influence(logits, labels, by_class, value, added)
        error = float((own - influence).square().sum().sqrt())
        found.append((posterior.likelihood(logits, labels) - size, np.log(value), error))
    evidence, values, errors = np.array(found).T
    share = np.exp(evidence - evidence.max())
    share /= share.sum()
    average, error = float(share @ values), float(share @ errors)
    difference = float(np.log(by_labels)) - average
    significant = max(0.0, 1 - (_SIGNIFICANT * error / difference) ** 2) if difference and np.isfinite(error) else 0.0
    return float(np.exp(average + significant * difference))


@dataclass(frozen=True)
class _Posterior:
    """Calibrated probabilities of validation images: softmax over k of (a + c f_k) z_k + b f_k + offset_k.

    z_k is a logit less the mean of its image's, f_k the logarithm of the class's training frequency, centred.
    """

    parameters: Tensor
    """(1 to 3,) a, b, c; those left out are 0."""
    offset: Tensor
    """(C,) known beforehand; -inf for a class without validation images."""
    frequency: Tensor
    """(C,) f."""

    def features(self, block: Tensor) -> Tensor:
        """(P, B, C) What each parameter is multiplied by."""
        centred = block.double() - block.double().mean(1, keepdim=True)
        each = (centred, self.frequency.expand_as(centred), self.frequency * centred)
        return torch.stack(each[: len(self.parameters)])

    def logits(self, features: Tensor) -> Tensor:
        """(B, C) before the softmax."""
        return torch.einsum("p,pbc->bc", self.parameters, features) + self.offset

    def likelihood(self, logits: Logits, labels: Tensor) -> float:
        """Log likelihood of the labels, nats."""
        return -sum(
            float(F.cross_entropy(self.logits(self.features(block)), its, reduction="sum"))
            for block, its in blocks(logits, labels)
        )

    def fitted(self, logits: Logits, labels: Tensor) -> "_Posterior":
        """The same with the parameters of the greatest likelihood, by Newton's method; it is concave."""
        now, height = self, self.likelihood(logits, labels)
        for _ in range(_STEPS):
            slopes, curvature = now.derivatives(logits, labels)
            slope = slopes.sum(0)
            step = torch.linalg.pinv(curvature) @ slope
            rise = float(step @ slope)
            if not rise > _TOLERANCE:
                break
            for share in (0.5**halvings for halvings in range(_STEPS)):
                tried = replace(now, parameters=now.parameters + share * step)
                reached = tried.likelihood(logits, labels)
                if reached > height:
                    break
            else:
                break
            now, height = tried, reached
        return now

    def derivatives(self, logits: Logits, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Derivatives of the log likelihood: (N, P) slopes by image; (P, P) the sum's negative second derivative."""
        size = len(self.parameters)
        slopes = torch.empty(len(labels), size, dtype=torch.float64)
        curvature = torch.zeros(size, size, dtype=torch.float64)
        for block, its, own in blocks(logits, labels, slopes):
            features = self.features(block)
            probability = self.logits(features).softmax(1)
            mean = torch.einsum("bc,pbc->bp", probability, features)
            own.copy_(features[:, torch.arange(len(its)), its].T - mean)
            curvature += torch.einsum("bc,pbc,qbc->pq", probability, features, features) - mean.T @ mean
        return slopes, curvature

    def expected_likelihood(self, logits: Logits, by_class: Tensor, added: Tensor | None) -> Callable[[float], float]:
        """The weighted negative log likelihood of softmax(z / T + added) with these posteriors in place of labels."""
        mass = torch.empty(logits.shape[0], dtype=torch.float64)
        dot = torch.zeros((), dtype=torch.float64)
        for block, own in blocks(logits, mass):
            each = self.logits(self.features(block)).softmax(1) * by_class
            own.copy_(each.sum(1))
            dot += (each * block.double()).sum()

        def loss(value: float) -> float:
            total = -dot / value
            for block, own in blocks(logits, mass):
                total = total + (own * scaled_block(block, value, added).logsumexp(1).double()).sum()
            return float(total / mass.sum())

        return loss

    def influence(
        self, logits: Logits, labels: Tensor, by_class: Tensor, temperature: float, added: Tensor | None
    ) -> Tensor:
        """(N,) Of each image on the logarithm of the temperature: directly, and by way of the parameters.

        The infinitesimal jackknife (Jaeckel 1972); the sum of squares is the squared standard error.
        """
        slopes, curvature = self.derivatives(logits, labels)
        direct = torch.empty(len(labels), dtype=torch.float64)
        by_parameter = torch.zeros(len(self.parameters), dtype=torch.float64)
        second = torch.zeros((), dtype=torch.float64)
        for block, own in blocks(logits, direct):
            value, mean, spread = _moments(block, temperature, added)
            excess = by_class * (mean[:, None] - value)
            features = self.features(block)
            probability = self.logits(features).softmax(1)
            own.copy_((probability * excess).sum(1))
            centred = features - torch.einsum("bc,pbc->pb", probability, features)[..., None]
            by_parameter += torch.einsum("bc,pbc,bc->p", probability, centred, excess)
            second += ((probability * by_class).sum(1) * spread).sum()
        result: Tensor = (direct + slopes @ (torch.linalg.pinv(curvature) @ by_parameter)) / second
        return result


def _label_influence(
    logits: Logits, labels: Tensor, weight: Tensor, temperature: float, added: Tensor | None
) -> Tensor:
    """(N,) Of each image on the logarithm of the temperature with the least weighted loss."""
    direct = torch.empty(len(labels), dtype=torch.float64)
    second = torch.zeros((), dtype=torch.float64)
    for block, its, own, effect in blocks(logits, labels, weight, direct):
        value, mean, spread = _moments(block, temperature, added)
        effect.copy_(own * (mean - value.gather(1, its[:, None]).squeeze(1)))
        second += (own * spread).sum()
    return direct / second


def _moments(block: Tensor, temperature: float, added: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Scaled logits (B, C), and their means and variances (B,) under softmax(z / temperature + added)."""
    value = block.double() / temperature
    probability = scaled_block(block, temperature, added).softmax(1).double()
    mean = (probability * value).sum(1)
    return value, mean, (probability * (value - mean[:, None]).square()).sum(1)
