"""Calibration: do probabilities mean what they say? All errors in percent.

Logits are worked through in blocks of rows (``ltbench.metrics.logits``), so that no matrix of all probabilities is
made and memory does not grow with the number of images.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ltbench.metrics.calibration_noise import ECEEstimate, ece_floor, estimate
from ltbench.metrics.confidence_bins import BINS, bin_edges
from ltbench.metrics.logits import Changed, Logits, blocks

LOWEST, HIGHEST = 2.0**-4.32, 2.0**4.32
"""Bounds of the search for a temperature: 0.05 and 20."""


@dataclass(frozen=True)
class Bins:
    """A reliability table."""

    count: Tensor
    """(bins,) images in each bin."""
    confidence: Tensor
    """(bins,) mean confidence; 0 where empty."""
    accuracy: Tensor
    """(bins,) fraction of correct predictions; 0 where empty."""

    @property
    def gaps(self) -> Tensor:
        """(bins,) absolute difference of accuracy and confidence."""
        return (self.accuracy - self.confidence).abs()

    @property
    def ece(self) -> float:
        """Expected calibration error, percent: the gaps weighted by the fraction of images."""
        return float(100 * (self.gaps * self.count).sum() / self.count.sum())

    @property
    def ece_floor(self) -> float:
        """Noise floor of the ECE, percent: that of ``estimate``, which takes much longer."""
        return float(ece_floor(*(values.double().cpu().numpy() for values in (self.count, self.confidence))))

    @property
    def estimate(self) -> ECEEstimate:
        """Noise floor and debiased estimate of the ECE, with a 95 % interval."""
        return estimate(
            *(values.double().cpu().numpy()[None] for values in (self.count, self.confidence, self.accuracy))
        )

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
    """The class with the highest logit of each image, the first of several, and its probability.

    The class is chosen by logits, as in ``ltbench.metrics.accuracy``: two logits that differ may have one float32
    probability.

    Args:
        logits: (N, C).

    Returns:
        (N,) float32 confidences and (N,) predicted classes.
    """
    found = [torch.empty(logits.shape[0], dtype=kind, device=logits.device) for kind in (torch.float32, torch.int64)]
    for block, *own in blocks(logits, *found):  # filled in place: small tensors kept between large ones split the heap
        torch.amax(probabilities(block), 1, out=own[0])
        torch.argmax(block, 1, out=own[1])
    return found[0], found[1]


def reliability(confidence: Tensor, right: Tensor, bins: int = BINS) -> Bins:
    """Equal-width bins of the confidence; a bin holds (lower, upper], so 1.0 lies in the last.

    Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017), equations 3 and 5.

    Args:
        confidence: (N,) highest probabilities.
        right: (N,) whether the prediction is correct.
        bins: how many.
    """
    return _binned(confidence, right, torch.bucketize(confidence.float(), _edges(bins, confidence.device)), bins)


def adaptive_reliability(confidence: Tensor, right: Tensor, bins: int = BINS) -> Bins:
    """Bins of equally many images by rank of confidence (Nguyen and O'Connor, EMNLP 2015, section 3).

    Images of equal confidence that lie in several bins are spread over these evenly: each counts as correct by the
    fraction of them that is. A bin then holds what it holds on average over all orders of equal images, so that the
    order of images does not matter.

    Args:
        confidence: (N,) highest probabilities.
        right: (N,) whether the prediction is correct.
        bins: how many.
    """
    ordered, order = confidence.sort()
    tie = torch.cat([ordered[:1] * 0, ordered.diff().ne(0)]).long().cumsum(0)
    size = tie.bincount()
    fraction = torch.zeros(len(size), dtype=torch.float64, device=right.device).index_add_(
        0, tie, right[order].double()
    )
    rank = torch.arange(len(right), device=right.device)
    return _binned(ordered, (fraction / size)[tie], rank * bins // len(right), bins)


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
    edges = _edges(bins, logits.device)
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


def fit_temperature(logits: Logits, labels: Tensor, weight: Tensor | None = None, added: Tensor | None = None) -> float:
    """The temperature, between 0.05 and 20, with the least negative log likelihood (Guo et al., section 4.2).

    Args:
        logits: (N, C) of validation images.
        labels: (N,).
        weight: (N,) of the images, at least 0; None for equal ones. See ``ltbench.metrics.temperature``.
        added: (C,) to add to scaled logits, e.g. the logarithm of a prior.
    """
    device = logits.device
    each = torch.ones(len(labels), dtype=torch.float64, device=device) if weight is None else weight.double().to(device)

    def loss(temperature: float) -> float:
        total = torch.zeros((), dtype=torch.float64, device=device)
        for block, its, own in blocks(logits, labels, each):
            losses = F.cross_entropy(scaled_block(block, temperature, added), its, reduction="none").double()
            total += torch.where(own > 0, own * losses, 0.0).sum()  # what has no weight may be impossible
        return float(total / each.sum())

    return least_temperature(loss)


def least_temperature(loss: Callable[[float], float]) -> float:
    """The temperature with the least loss, which is convex in 1 / T."""
    from scipy.optimize import minimize_scalar  # not above: it takes long to import, and most runs need none

    bounds = float(np.log2(LOWEST)), float(np.log2(HIGHEST))
    found = minimize_scalar(lambda log_t: loss(float(2.0**log_t)), bounds=bounds, method="bounded")
    return float(2.0**found.x)


def scaled_block(block: Tensor, temperature: float, added: Tensor | None = None) -> Tensor:
    """(N, C) float32 logits divided by a temperature, with something added afterwards."""
    scaled = block.float() / temperature
    return scaled if added is None else scaled + added.float()


def calibration(logits: Logits, labels: Tensor, bins: int = BINS) -> dict[str, float]:
    """Every calibration figure of a set of predictions.

    Args:
        logits: (N, C).
        labels: (N,).
        bins: of the binned errors.

    Returns:
        ``ece``, ``mce``, ``overconfidence``, ``adaptive_ece``, ``classwise_ece`` in percent; ``nll`` in nats;
        ``brier``. The noise floor of the ECE follows from ``reliability``, see ``ltbench.metrics.calibration_noise``.
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


def _edges(bins: int, device: torch.device) -> Tensor:
    return torch.from_numpy(bin_edges(bins)).to(device)


def _binned(confidence: Tensor, right: Tensor, cell: Tensor, bins: int) -> Bins:
    sums = torch.zeros(3, bins, dtype=torch.float64, device=confidence.device)
    values = torch.stack([torch.ones_like(confidence, dtype=torch.float64), confidence.double(), right.double()])
    sums.index_add_(1, cell, values)
    count = sums[0]
    return Bins(count.long(), sums[1] / count.clamp(min=1), sums[2] / count.clamp(min=1))
