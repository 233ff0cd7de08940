"""Methods on a network whose outputs are given, so that their losses can be held against numbers."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
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


@pytest.fixture
def method_with_logits() -> Callable[..., Method]:
    """``method_with_logits(name, logits (M, B, C), class_counts, **hyperparameters)``: a registered method.

    Its gradient is at ``method.network.logits.grad``.
    """

    def make(name: str, logits: np.ndarray, class_counts: np.ndarray, **hyperparameters: Any) -> Method:
        cls = registry.method(name)
        network = FixedLogits(torch.from_numpy(np.asarray(logits)).clone())
        prior = ClassPrior(torch.from_numpy(np.asarray(class_counts)).long())
        return cls(lambda *args, **kwargs: network, prior, cls.Config(**hyperparameters))

    return make


@pytest.fixture
def batch_of() -> Callable[..., Batch]:
    """``batch_of(targets)``: a batch with these labels and no images to speak of."""

    def make(targets: np.ndarray, views: int = 1) -> Batch:
        labels = torch.from_numpy(np.asarray(targets)).long()
        return Batch((torch.zeros(len(labels), 1, 2, 2),) * views, torch.arange(len(labels)), labels)

    return make
