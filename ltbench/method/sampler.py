"""Samplers: which training images an epoch has, and in which order."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor


class Sampler(Protocol):
    """Draws the images of an epoch."""

    def __call__(self, generator: np.random.Generator) -> Tensor:
        """(N,) indices of training images, in order; those of the "main" sampler set the length of an epoch."""


@dataclass(frozen=True)
class Shuffled:
    """Each image once, in random order."""

    images: int

    def __call__(self, generator: np.random.Generator) -> Tensor:
        """(N,) indices, a permutation."""
        return torch.from_numpy(generator.permutation(self.images))


@dataclass(frozen=True)
class Weighted:
    """As many images as the training set has, drawn with replacement, with probabilities in proportion to weights."""

    weights: Tensor

    def __call__(self, generator: np.random.Generator) -> Tensor:
        """(N,) indices."""
        weights = self.weights.double().numpy()
        return torch.from_numpy(generator.choice(len(weights), len(weights), p=weights / weights.sum()))


def class_balanced(labels: Tensor) -> Weighted:
    """A sampler that draws each class with the same probability."""
    return Weighted(1 / torch.bincount(labels)[labels].double())
