"""Accuracy: overall, by class, by shot group."""

import torch
from torch import Tensor

from ltbench.metrics.logits import Logits, blocks


def correct_by_class(logits: Logits, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Number of images of each class that are classified correctly, and number of its images.

    Args:
        logits: (N, C).
        labels: (N,).

    Returns:
        Two (C,) int64 tensors.
    """
    classes = logits.shape[1]
    right = torch.empty_like(labels, dtype=torch.bool)
    for block, its, own in blocks(logits, labels, right):
        torch.eq(block.argmax(1), its, out=own)
    return torch.bincount(labels[right], minlength=classes), torch.bincount(labels, minlength=classes)


def macro_accuracy(logits: Logits, labels: Tensor) -> float:
    """The mean over the classes that are there of the percentage of their images that is classified correctly.

    Args:
        logits: (N, C).
        labels: (N,).
    """
    return float(accuracies(*correct_by_class(logits, labels), {})["macro"] or 0.0)


def mean_over(values: Tensor, members: list[int]) -> float | None:
    """The mean of some classes' values; None for no class, and classes without images (nan) are left out."""
    chosen = values[members]
    chosen = chosen[~chosen.isnan()]
    return float(chosen.mean()) if len(chosen) else None


def accuracies(correct: Tensor, total: Tensor, groups: dict[str, list[int]]) -> dict[str, float | None]:
    """Accuracy in percent.

    Args:
        correct: (C,) images classified correctly.
        total: (C,) images.
        groups: class labels of each shot group. A group's value is the mean of its classes' accuracies.

    Returns:
        ``top1`` (of images), ``macro`` (mean over classes), ``worst_class`` and one entry a group.
    """
    by_class = 100 * correct.double() / total  # 0 / 0 is nan: a class without images has no accuracy
    present = by_class[total > 0]
    return {
        "top1": 100 * int(correct.sum()) / int(total.sum()),
        "macro": float(present.mean()),
        "worst_class": float(present.min()),
        **{name: mean_over(by_class, members) for name, members in groups.items()},
    }
