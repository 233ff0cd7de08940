"""Loss functions that several methods share: pure functions of tensors, one value a sample."""

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


def _at_least_float32(tensor: Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)
