"""Methods on a network whose outputs are given, so that their losses can be held against numbers."""

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


class GivenFeatures(nn.Module):
    """A network with the features of each image given: the first pixel of an image is its row in them.

    The last columns are the image's logits, so that ``classify`` reads them off.

    Args:
        features: (N, D) of all views of all images.
        logits: (N, C).
        weight: (C, D) of the classifier, for methods that read it.
    """

    def __init__(self, features: torch.Tensor, logits: torch.Tensor, weight: torch.Tensor | None = None) -> None:
        super().__init__()
        self.given, self.logits = nn.Parameter(features.clone()), nn.Parameter(logits.clone())
        self.num_features = features.shape[1]
        head = nn.Linear(self.num_features, logits.shape[1])
        if weight is not None:
            head.weight.data = weight.clone()
        self.heads = nn.ModuleList([head])

    def features(self, images: torch.Tensor) -> torch.Tensor:
        rows = images.flatten(1)[:, 0].long()
        return torch.cat([self.given[rows], self.logits[rows]], 1)[None]

    def classify(self, features: torch.Tensor) -> torch.Tensor:
        return features[..., self.num_features :]


class FirstColumns(nn.Module):
    """The first columns of its input."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, : self.number]


def rows(first: int, last: int) -> torch.Tensor:
    """Images for ``GivenFeatures``, (N, 1, 1, 1): of these rows of its features."""
    return torch.arange(first, last, dtype=torch.float32).view(-1, 1, 1, 1)


def tangential(gradient: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
    """What is left of a gradient behind the normalisation of vectors that have length one."""
    return gradient - (gradient * directions).sum(-1, keepdim=True) * directions


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


def same(found: torch.Tensor, want: torch.Tensor | np.ndarray) -> None:
    """Equal but for rounding in float32, whose unit is 1.2e-7 of the largest number."""
    want = torch.as_tensor(want).to(found.dtype)
    rounding = min(2e-6 * want.abs().max().item(), 1e-5)
    torch.testing.assert_close(found.detach(), want, rtol=1e-5, atol=max(rounding, 1e-9))


def same_loss(found: torch.Tensor, want: float) -> None:
    """Equal but for rounding in float32."""
    assert found.item() == pytest.approx(float(want), rel=2e-6)
