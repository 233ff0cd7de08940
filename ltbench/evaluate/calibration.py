"""Calibration: do probabilities mean what they say? All errors in percent.

Logits are worked through in blocks of rows (``ltbench.evaluate.logits``), so that no matrix of all probabilities is
made and memory does not grow with the number of images.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from scipy.optimize import minimize_scalar
from torch import Tensor

from ltbench.evaluate.logits import Changed, Logits, blocks

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


def mean_probability(logits: Logits) -> Tensor:
    """(C,) float64: the mean predicted distribution."""
    total = torch.zeros(logits.shape[1], dtype=torch.float64, device=logits.device)
    for (block,) in blocks(logits):
        total += probabilities(block).double().sum(0)
    return total / logits.shape[0]


def top(logits: Logits) -> tuple[Tensor, Tensor]:
    """The highest probability of each image and its class.

    Args:
        logits: (N, C).

    Returns:
        (N,) float32 confidences and (N,) predicted classes.
    """
    found = [torch.empty(logits.shape[0], dtype=kind, device=logits.device) for kind in (torch.float32, torch.int64)]
    for block, *own in blocks(logits, *found):  # filled in place: small tensors kept between large ones split the heap
        torch.max(probabilities(block), 1, out=own)
    return found[0], found[1]


def reliability(confidence: Tensor, right: Tensor, bins: int = BINS) -> Bins:
    """Equal-width bins of the confidence; a bin holds (lower, upper], so 1.0 lies in the last.

    Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017), equations 3 and 5.

    Args:
        confidence: (N,) highest probabilities.
        right: (N,) whether the prediction is correct.
        bins: how many.
    """
    edges = torch.linspace(0, 1, bins + 1)[1:-1].to(confidence)
    return _binned(confidence, right, torch.bucketize(confidence, edges), bins)


def adaptive_reliability(confidence: Tensor, right: Tensor, bins: int = BINS) -> Bins:
    """Bins of equally many images by rank of confidence (Nguyen and O'Connor, EMNLP 2015, section 3)."""
    rank = confidence.argsort(stable=True).argsort()
    return _binned(confidence, right, rank * bins // len(right), bins)


def classwise_ece(logits: Logits, labels: Tensor, bins: int = BINS) -> float:
    """Class-wise ECE, percent: the mean over classes of the ECE of "this image is of class k".

    Kull et al., "Beyond temperature scaling" (NeurIPS 2019), equation 4. The BalPoE code instead compares one-hot
    predictions with one-hot labels, so that agreeing on "not k" counts as correct; that is not done here.

    Args:
        logits: (N, C).
        labels: (N,).
        bins: how many.
    """
    images, classes = logits.shape
    edges = torch.linspace(0, 1, bins + 1)[1:-1].to(logits.device)
    first = bins * torch.arange(classes, device=logits.device)
    excess = torch.zeros(classes * bins, dtype=torch.float64, device=logits.device)
    for block, its in blocks(logits, labels):
        probs = probabilities(block)
        cell = torch.bucketize(probs, edges) + first
        gap = -probs.double()
        gap[torch.arange(len(its)), its] += 1
        excess += torch.bincount(cell.flatten(), gap.flatten(), minlength=classes * bins)
    return float(100 * excess.abs().sum() / (images * classes))


def negative_log_likelihood(logits: Logits, labels: Tensor) -> float:
    """Mean over images, nats."""
    losses = torch.empty(logits.shape[0], device=logits.device)
    for block, its, own in blocks(logits, labels, losses):
        own.copy_(F.cross_entropy(block.float(), its, reduction="none"))
    return float(losses.double().mean())


def brier(logits: Logits, labels: Tensor) -> float:
    """Brier score: mean over images of the squared distance to the one-hot label, 0 to 2 (Brier 1950)."""
    total = torch.zeros((), dtype=torch.float64, device=logits.device)
    for block, its in blocks(logits, labels):
        gap = probabilities(block).double()
        gap[torch.arange(len(its)), its] -= 1
        total += gap.square_().sum()
    return float(total / len(labels))


def scaled(logits: Logits, temperature: float) -> Logits:
    """Logits divided by a temperature."""
    return Changed(logits, lambda rows: rows / temperature)


def fit_temperature(logits: Logits, labels: Tensor) -> float:
    """The temperature, between 0.05 and 20, with the least negative log likelihood (Guo et al., section 4.2).

    Args:
        logits: (N, C) of validation images.
        labels: (N,).
    """
    found = minimize_scalar(
        lambda log_t: negative_log_likelihood(scaled(logits, 2.0**log_t), labels),
        bounds=(-4.32, 4.32),
        method="bounded",
    )
    return float(2.0**found.x)


def calibration(logits: Logits, labels: Tensor, bins: int = BINS) -> dict[str, float]:
    """Every calibration figure of a set of predictions.

    Args:
        logits: (N, C).
        labels: (N,).
        bins: of the binned errors.

    Returns:
        ``ece``, ``mce``, ``overconfidence``, ``adaptive_ece``, ``classwise_ece`` in percent; ``nll`` in nats;
        ``brier``.
    """
    confidence, predicted = top(logits)
    right = predicted == labels
    table = reliability(confidence, right, bins)
    return {
        "ece": table.ece,
        "mce": table.mce,
        "overconfidence": table.overconfidence,
        "adaptive_ece": adaptive_reliability(confidence, right, bins).ece,
        "classwise_ece": classwise_ece(logits, labels, bins),
        "nll": negative_log_likelihood(logits, labels),
        "brier": brier(logits, labels),
    }


def _binned(confidence: Tensor, right: Tensor, cell: Tensor, bins: int) -> Bins:
    sums = torch.zeros(3, bins, dtype=torch.float64, device=confidence.device)
    values = torch.stack([torch.ones_like(confidence, dtype=torch.float64), confidence.double(), right.double()])
    sums.index_add_(1, cell, values)
    count = sums[0]
    return Bins(count.long(), sums[1] / count.clamp(min=1), sums[2] / count.clamp(min=1))
