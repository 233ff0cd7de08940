"""Methods on a network whose outputs are given, so that their losses can be held against numbers."""

from typing import Any

import numpy as np
import torch
from torch import nn

from ltbench import registry
from ltbench.method import Batch, ClassPrior, Method


class FixedLogits(nn.Module):
    """A network whose logits (M, B, C) are given, whatever the images."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def experts(self, images: torch.Tensor) -> torch.Tensor:
        return self.logits

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.logits.mean(0)


def method_with_logits(name: str, logits: np.ndarray, class_counts: np.ndarray, **hyperparameters: Any) -> Method:
    """A registered method whose network gives these (M, B, C) logits.

    Its gradient is at ``method.network.logits.grad``.
    """
    cls = registry.method(name)
    network = FixedLogits(torch.from_numpy(np.asarray(logits)).clone())
    prior = ClassPrior(torch.from_numpy(np.asarray(class_counts)).long())
    return cls(lambda *args, **kwargs: network, prior, cls.Config(**hyperparameters))


def batch_of(targets: np.ndarray, views: int = 1) -> Batch:
    """A batch with these labels and no images to speak of."""
    labels = torch.from_numpy(np.asarray(targets)).long()
    return Batch((torch.zeros(len(labels), 1, 2, 2),) * views, torch.arange(len(labels)), labels)
