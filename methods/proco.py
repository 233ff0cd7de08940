"""ProCo: probabilistic contrastive learning, with a distribution of features for each class."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ltbench.method import Batch, Method, MethodConfig, Range, hyperparameter
from ltbench.method.losses import logit_adjusted_cross_entropy
from ltbench.models.heads import projector

SMALLEST_DIMENSION = 32
"""Dimension from which on the Bessel function's expansion is right to 1e-5."""
LARGEST_CONCENTRATION = 1e5
START = 0.9
"""Length of the mean of a class of which nothing has been seen yet."""


def log_partition(squared: Tensor, dimension: int) -> Tensor:
    """How much a von Mises-Fisher density must be divided by: log I_nu(k) - nu log k, where nu = dimension / 2 - 1.

    Constants are left out. By Olver's expansion of the Bessel function for large orders (DLMF 10.41.3) to its third
    term, in which the logarithms of k cancel, so that it is smooth in k^2 and finite at 0.

    Args:
        squared: k^2, at least 0, float64: at concentrations of 1e5, differences would drown in float32.
        dimension: of the features.

    Raises:
        ValueError: if the dimension is too small for the expansion.
    """
    if dimension < SMALLEST_DIMENSION:
        raise ValueError(f"the dimension of the features must be at least {SMALLEST_DIMENSION}, not {dimension}")
    order = dimension / 2 - 1
    root = (order**2 + squared).sqrt()
    t = order / root
    first = (3 * t - 5 * t**3) / 24
    second = (81 * t**2 - 462 * t**4 + 385 * t**6) / 1152
    third = (30375 * t**3 - 369603 * t**5 + 765765 * t**7 - 425425 * t**9) / 414720
    series = torch.log1p(first / order + second / order**2 + third / order**3)
    return root - order * (order + root).log() - (2 * math.pi * root).log() / 2 + series


def concentration(length: Tensor, dimension: int) -> Tensor:
    """The concentration of a von Mises-Fisher distribution from the length of the mean of its samples.

    Args:
        length: of the mean of unit vectors, 0 to 1.
        dimension: of these vectors.
    """
    squares = length**2
    estimate = length * (dimension - squares) / (1 - squares).clamp(min=1e-12)
    return estimate.clamp(max=LARGEST_CONCENTRATION)


def expected_logits(features: Tensor, means: Tensor, temperature: float) -> Tensor:
    """The log of the mean of exp(z . v / T) over the features v of each class, if they are von Mises-Fisher.

    Args:
        features: z, (B, D) of unit length.
        means: (C, D), the mean feature of each class, not of unit length.
        temperature: T.

    Returns:
        (B, C): log C_D(k) - log C_D(|k m + z / T|), with the class's direction m and concentration k.
    """
    dimension = features.shape[1]
    with torch.autocast(features.device.type, enabled=False):
        cosines = (features @ F.normalize(means, dim=1).T).double()
    kappa = concentration(torch.linalg.vector_norm(means.double(), dim=1), dimension)
    squared = kappa**2 + 2 * kappa * cosines / temperature + temperature**-2
    return log_partition(squared.clamp(min=0), dimension) - log_partition(kappa**2, dimension)


class ProCo(Method):
    """A logit-adjusted classifier, and beside it contrast with all features that a class could have.

    Du et al. (TPAMI 2024). Each class's features are taken to be von Mises-Fisher, so that the mean over infinitely
    many of them has a closed form, and the contrast is a classifier, too, to which the prior is added. Departures
    from the authors' code: the Bessel function is a large-order expansion and not a recurrence; the concentration is
    the paper's R (D - R^2) / (1 - R^2), where the code leaves R^2 out of D - R^2; both contrast views enter the class
    means before their loss is taken. As there, a mean is over the epoch before and this one so far, here counted from
    the second step of an epoch; it starts with a random direction of length 0.9. Mixed images enter the means of both
    their classes by share.
    """

    class Config(MethodConfig):
        searches_mixup = False

        contrast_weight: float = hyperparameter(
            1.0,
            search=Range(0.1, 2.0, log=True),
            ge=0,
            description="weight of the contrastive loss beside the classifier's loss",
        )
        temperature: float = hyperparameter(
            0.1, search=Range(0.05, 0.3, log=True), gt=0, description="temperature of the similarities between features"
        )

    family = "contrastive"
    revision = 1
    logit_prior = 0.0  # the classifier learns with the prior added, so that none is left
    views = ("train", "contrast", "contrast")
    couples_batch = True
    gathers_across_processes = True
    start: Tensor
    sums: Tensor
    counts: Tensor
    new_sums: Tensor
    new_counts: Tensor

    def __init__(self, build, prior, config):
        super().__init__(build, prior, config)
        features, classes = self.network.num_features, len(prior.counts)
        hidden, dimension = (512, 128) if features <= 64 else (features, 1024)
        self.projection = projector(features, hidden, dimension)
        self.register_buffer("start", START * F.normalize(torch.randn(classes, dimension), dim=1))
        self.register_buffer("sums", torch.zeros(2, classes, dimension))  # of the epoch before, and of this one
        self.register_buffer("counts", torch.zeros(2, classes))
        self.register_buffer("new_sums", torch.zeros(classes, dimension), persistent=False)
        self.register_buffer("new_counts", torch.zeros(classes), persistent=False)

    def forward(self, batch, progress):
        """Cross entropy of the classifier on the first view, and the mean of the contrast's on the other two."""
        size = len(batch.labels)
        features = self.network.features(torch.cat(batch.views))
        logits = self.network.classify(features[:, :size])[0]
        compared = F.normalize(self.projection(features[0, size:]).float(), dim=1)
        means = self._means(compared.detach().view(2, size, -1), batch, progress.gather)
        first, second = expected_logits(compared, means, self.config.temperature).float().chunk(2)
        tau = self.log_prior.new_ones(())

        def per_sample(labels):
            classifier, *contrast = (
                logit_adjusted_cross_entropy(own, labels, self.log_prior, tau) for own in (logits, first, second)
            )
            return classifier + self.config.contrast_weight * (contrast[0] + contrast[1]) / 2

        return batch.loss(per_sample)

    def after_step(self, progress):
        """The step's features join those of its epoch; in the first step of an epoch, a new count begins."""
        self.sums[1] += self.new_sums
        self.counts[1] += self.new_counts
        if progress.step == 0:
            for totals in (self.sums, self.counts):
                totals[0] = totals[1]
                totals[1] = 0.0

    def _means(self, features: Tensor, batch: Batch, gather: Callable[[Tensor], Tensor] = lambda own: own) -> Tensor:
        """The mean feature of each class, this step's features (V, B, D) included; they are counted after the step."""
        classes = len(self.start)
        shares = F.one_hot(batch.labels, classes).float()
        if batch.mixed_labels is not None and batch.weight is not None:
            weight = batch.weight.expand(len(shares)).unsqueeze(1)
            shares = weight * shares + (1 - weight) * F.one_hot(batch.mixed_labels, classes)
        shares, both = gather(shares), gather(features.sum(0))
        with torch.autocast(features.device.type, enabled=False):
            self.new_sums.copy_(shares.T @ both)
        self.new_counts.copy_(len(features) * shares.sum(0))
        counts = (self.counts.sum(0) + self.new_counts).unsqueeze(1)
        means = (self.sums.sum(0) + self.new_sums) / counts.clamp(min=1e-12)
        return torch.where(counts > 0, means, self.start)
