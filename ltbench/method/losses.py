"""Loss functions that several methods share: pure functions of tensors, one value a sample."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross entropy of each sample, in float32 whatever the precision of the logits.

    Args:
        logits: (B, C).
        targets: (B,) class indices.

    Returns:
        (B,) in nats.
    """
    return F.cross_entropy(logits.to(_at_least_float32(logits)), targets, reduction="none")


def logit_adjusted_cross_entropy(logits: Tensor, targets: Tensor, log_prior: Tensor, tau: Tensor) -> Tensor:
    """Cross entropy after adding tau times the log prior to the logits.

    Menon et al., "Long-tail learning via logit adjustment" (ICLR 2021), equation 10; with tau = 1 it is the
    balanced softmax of Ren et al. (NeurIPS 2020), theorem 1, since a constant added to all logits of a sample
    changes nothing and log n_c differs from log pi_c by one.

    Args:
        logits: (B, C).
        targets: (B,) class indices.
        log_prior: (C,) log of the class frequencies of the training set.
        tau: scalar, or (C,) for one strength a class; negative values favour the head.

    Returns:
        (B,) in nats.
    """
    return cross_entropy(logits + tau * log_prior, targets)


def expert_logit_adjusted_cross_entropy(logits: Tensor, targets: Tensor, log_prior: Tensor, taus: Tensor) -> Tensor:
    """The BalPoE loss: the mean over experts of each expert's own logit-adjusted cross entropy.

    Aimar et al., "Balanced Product of Calibrated Experts for Long-Tailed Recognition" (CVPR 2023), as their
    published code computes it; the paper writes lambda = 1 - tau. It is a mean over experts, where SADE and
    RIDE sum.

    Args:
        logits: (M, B, C).
        targets: (B,) class indices.
        log_prior: (C,).
        taus: (M, 1) or (M, C): the strength of each expert's adjustment.

    Returns:
        (B,) in nats.
    """
    experts, batch, _ = logits.shape
    adjusted = logits + (taus * log_prior).unsqueeze(1)
    return cross_entropy(adjusted.flatten(0, 1), targets.repeat(experts)).view(experts, batch).mean(0)


def effective_number_weights(counts: Tensor, beta: float) -> Tensor:
    """Class weights by the inverse effective number of samples, (1 - beta) / (1 - beta^n), summing to C.

    Cui et al., "Class-Balanced Loss Based on Effective Number of Samples" (CVPR 2019), equation 2.

    Args:
        counts: (C,) images of each class.
        beta: in [0, 1); 0 weighs all classes alike, beta near 1 by inverse frequency.

    Returns:
        (C,) float32.
    """
    weights = (1 - beta) / (1 - torch.pow(beta, counts.double()))
    return (weights / weights.sum() * len(counts)).float()


def ldam_margins(counts: Tensor, largest: float = 0.5) -> Tensor:
    """Margins that shrink with the fourth root of the class counts.

    Cao et al., "Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss" (NeurIPS 2019), equation 13.

    Args:
        counts: (C,) images of each class.
        largest: the margin of the rarest class, as a cosine.

    Returns:
        (C,) float32.
    """
    margins = counts.double().pow(-0.25)
    return (largest * margins / margins.max()).float()


def ldam_cross_entropy(logits: Tensor, targets: Tensor, margins: Tensor, scale: float = 30.0) -> Tensor:
    """Cross entropy after taking each sample's margin from the cosine of its class: LDAM.

    Args:
        logits: (B, C) cosines times ``scale``, as a cosine head gives them.
        targets: (B,) class indices.
        margins: (C,) of the cosines, from ``ldam_margins``.
        scale: of the cosines.

    Returns:
        (B,) in nats.
    """
    return cross_entropy(logits - scale * margins * is_target(logits, targets), targets)


def label_aware_smoothing(
    counts: Tensor, head: float, tail: float, shape: Literal["concave", "linear", "convex"] = "concave"
) -> Tensor:
    """Label smoothing factors that grow with the class counts.

    Zhong et al., "Improving Calibration for Long-Tailed Recognition" (CVPR 2021), with x the place of a count
    between the smallest and the largest one. If all counts are equal, all classes get ``tail``.

    Args:
        counts: (C,) images of each class.
        head: factor of the largest class.
        tail: factor of the smallest class.
        shape: of the way between, as a function of x.

    Returns:
        (C,) float32.
    """
    ordered = counts.double()
    x = (ordered - ordered.min()) / (ordered.max() - ordered.min()).clamp(min=1)
    shapes = {"concave": torch.sin(torch.pi / 2 * x), "linear": x, "convex": 1 - torch.cos(torch.pi / 2 * x)}
    return (tail + (head - tail) * shapes[shape]).float()


def smoothed_cross_entropy(logits: Tensor, targets: Tensor, smoothing: Tensor) -> Tensor:
    """Cross entropy against labels smoothed by a factor of each sample's class.

    (1 - eps_y) (-log p_y) + eps_y mean_c(-log p_c): the smoothed label has 1 - eps_y + eps_y / C at y.

    Args:
        logits: (B, C).
        targets: (B,) class indices.
        smoothing: (C,) eps of each class.

    Returns:
        (B,) in nats.
    """
    log_probabilities = F.log_softmax(logits.to(_at_least_float32(logits)), dim=1)
    factors = smoothing[targets]
    of_target = log_probabilities.gather(1, targets.unsqueeze(1)).squeeze(1)
    return -(1 - factors) * of_target - factors * log_probabilities.mean(1)


def is_target(logits: Tensor, targets: Tensor) -> Tensor:
    """Which entry of each row of logits is its target's: (B, C) bool."""
    return targets.unsqueeze(1) == torch.arange(logits.shape[1], device=targets.device)


def _at_least_float32(tensor: Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)
