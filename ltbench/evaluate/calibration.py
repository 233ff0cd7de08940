"""Calibration: do probabilities mean what they say? All errors in percent."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from scipy.optimize import minimize_scalar
from torch import Tensor

BINS = 15


@dataclass(frozen=True)
class Bins:
    """A reliability table."""

    count: Tensor
    """(bins,) images in each bin."""
    confidence: Tensor
    """(bins,) mean confidence; 0 where empty."""
    accuracy: Tensor
    """(bins,) share of correct predictions; 0 where empty."""

    @property
    def gaps(self) -> Tensor:
        """(bins,) absolute difference of accuracy and confidence."""
        return (self.accuracy - self.confidence).abs()

    @property
    def ece(self) -> float:
        """Expected calibration error, percent: the gaps weighted by the share of images."""
        return float(100 * (self.gaps * self.count).sum() / self.count.sum())

    @property
    def mce(self) -> float:
        """Maximum calibration error, percent: the largest gap of a bin that has images, however few."""
        return float(100 * self.gaps[self.count > 0].max())

    @property
    def overconfidence(self) -> float:
        """Overconfidence error, percent (Thulasidasan et al., NeurIPS 2019, section 3)."""
        excess = self.confidence * (self.confidence - self.accuracy).clamp(min=0)
        return float(100 * (excess * self.count).sum() / self.count.sum())


def probabilities(logits: Tensor) -> Tensor:
    """(N, C) softmax in float32."""
    return logits.float().softmax(1)


def reliability(probs: Tensor, labels: Tensor, bins: int = BINS) -> Bins:
    """Equal-width bins of the highest probability; a bin holds (lower, upper], so 1.0 lies in the last.

    Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017), equations 3 and 5.

    Args:
        probs: (N, C).
        labels: (N,).
        bins: how many.
    """
    confidence, predicted = probs.max(1)
    edges = torch.linspace(0, 1, bins + 1)[1:-1].to(confidence)
    return _binned(confidence, predicted == labels, torch.bucketize(confidence, edges), bins)


def adaptive_reliability(probs: Tensor, labels: Tensor, bins: int = BINS) -> Bins:
    """Bins of equally many images by rank of confidence (Nguyen and O'Connor, EMNLP 2015, section 3)."""
    confidence, predicted = probs.max(1)
    rank = confidence.argsort(stable=True).argsort()
    return _binned(confidence, predicted == labels, rank * bins // len(labels), bins)


def classwise_ece(probs: Tensor, labels: Tensor, bins: int = BINS) -> float:
    """Class-wise ECE, percent: the mean over classes of the ECE of "this image is of class k".

    Kull et al., "Beyond temperature scaling" (NeurIPS 2019), equation 4. The BalPoE code instead compares one-hot
    predictions with one-hot labels, so that agreeing on "not k" counts as correct; that is not done here.

    Args:
        probs: (N, C).
        labels: (N,).
        bins: how many.
    """
    images, classes = probs.shape
    edges = torch.linspace(0, 1, bins + 1)[1:-1].to(probs)
    cell = torch.bucketize(probs, edges) + bins * torch.arange(classes, device=probs.device)
    hit = F.one_hot(labels, classes).to(torch.float64)
    excess = torch.zeros(classes * bins, dtype=torch.float64, device=probs.device)
    excess.index_add_(0, cell.flatten(), (hit - probs.double()).flatten())
    return float(100 * excess.abs().sum() / (images * classes))


def negative_log_likelihood(logits: Tensor, labels: Tensor) -> float:
    """Mean over images, nats."""
    return float(F.cross_entropy(logits.float(), labels, reduction="none").double().mean())


def brier(probs: Tensor, labels: Tensor) -> float:
    """Brier score: mean over images of the squared distance to the one-hot label, 0 to 2 (Brier 1950)."""
    return float((probs.double() - F.one_hot(labels, probs.shape[1])).square().sum(1).mean())


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature, between 0.05 and 20, with the least negative log likelihood (Guo et al., section 4.2).

    Args:
        logits: (N, C) of validation images.
        labels: (N,).
    """
    found = minimize_scalar(
        lambda log_t: negative_log_likelihood(logits / 2.0**log_t, labels),
        bounds=(-4.32, 4.32),
        method="bounded",
    )
    return float(2.0**found.x)


def calibration(logits: Tensor, labels: Tensor, bins: int = BINS) -> dict[str, float]:
    """Every calibration figure of a set of predictions.

    Args:
        logits: (N, C).
        labels: (N,).
        bins: of the binned errors.

    Returns:
        ``ece``, ``mce``, ``overconfidence``, ``adaptive_ece``, ``classwise_ece`` in percent; ``nll`` in nats;
        ``brier``.
    """
    probs = probabilities(logits)
    table = reliability(probs, labels, bins)
    return {
        "ece": table.ece,
        "mce": table.mce,
        "overconfidence": table.overconfidence,
        "adaptive_ece": adaptive_reliability(probs, labels, bins).ece,
        "classwise_ece": classwise_ece(probs, labels, bins),
        "nll": negative_log_likelihood(logits, labels),
        "brier": brier(probs, labels),
    }


def _binned(confidence: Tensor, right: Tensor, cell: Tensor, bins: int) -> Bins:
    sums = torch.zeros(3, bins, dtype=torch.float64, device=confidence.device)
    values = torch.stack([torch.ones_like(confidence, dtype=torch.float64), confidence.double(), right.double()])
    sums.index_add_(1, cell, values)
    count = sums[0]
    return Bins(count.long(), sums[1] / count.clamp(min=1), sums[2] / count.clamp(min=1))
