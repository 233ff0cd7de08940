"""The order in which training images are drawn."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor


class Sampler(Protocol):
    """Orders an epoch."""

    def __call__(self, generator: np.random.Generator) -> Tensor:
        """Indices of training images, in order; the length of the "main" one sets the epoch."""


@dataclass(frozen=True)
class Shuffled:
    """Every image once, in random order."""

    images: int

    def __call__(self, generator: np.random.Generator) -> Tensor:
        """(N,) a permutation."""
        return torch.from_numpy(generator.permutation(self.images))


@dataclass(frozen=True)
class Weighted:
    """As many images as there are weights, drawn with replacement, in proportion to the weights."""

    weights: Tensor

    def __call__(self, generator: np.random.Generator) -> Tensor:
        """(N,) draws."""
        chances = self.weights.double().numpy()
        return torch.from_numpy(generator.choice(len(chances), len(chances), p=chances / chances.sum()))


def class_balanced(labels: Tensor) -> Weighted:
    """As many images as there are, each class with the same chance."""
    return Weighted(1 / torch.bincount(labels)[labels].double())
