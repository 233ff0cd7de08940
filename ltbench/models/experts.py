"""Networks of several experts: a shared trunk, and a branch and a head for each expert."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class ExpertNetwork(nn.Module):
    """M experts on a shared trunk; with M = 1 an ordinary network.

    Args:
        trunk: (B, channels, H, W) images to what every branch takes.
        branches: each gives (B, D) features.
        heads: each gives (B, C) logits.
    """

    def __init__(self, trunk: nn.Module, branches: Sequence[nn.Module], heads: Sequence[nn.Module]) -> None:
        super().__init__()
        self.trunk = trunk
        self.branches = nn.ModuleList(branches)
        self.heads = nn.ModuleList(heads)

    @property
    def num_features(self) -> int:
        """D, the number of features."""
        weight = self.heads[0].weight
        assert isinstance(weight, Tensor)
        return weight.shape[1]

    def features(self, images: Tensor) -> Tensor:
        """(M, B, D) pooled features of every expert."""
        shared = self.trunk(images)
        return torch.stack([branch(shared) for branch in self.branches])

    def classify(self, features: Tensor) -> Tensor:
        """(M, B, C) logits from (M, B, D) features."""
        return torch.stack([head(expert) for head, expert in zip(self.heads, features, strict=True)])

    def experts(self, images: Tensor) -> Tensor:
        """(M, B, C) logits of every expert."""
        return self.classify(self.features(images))

    def forward(self, images: Tensor) -> Tensor:
        """(B, C) mean of the experts' logits."""
        return self.experts(images).mean(0)
