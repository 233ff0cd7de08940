"""Classifier heads."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CosineLinear(nn.Module):
    """Scaled cosine similarity between features and class directions.

    ``logits = scale * <x / |x|, w / |w|>``, computed in float32 whatever the precision around it. Weights start
    uniform in (-1, 1), rescaled to unit length (LDAM's published code, which RIDE, SADE and BalPoE use).

    Args:
        features: D.
        classes: C.
        scale: factor of the cosine.
    """

    def __init__(self, features: int, classes: int, scale: float = 30.0) -> None:
        super().__init__()
        self.scale = scale
        self.weight = nn.Parameter(F.normalize(torch.empty(classes, features).uniform_(-1, 1), dim=1))

    def forward(self, features: Tensor) -> Tensor:
        """(B, C) from (B, D)."""
        with torch.autocast(features.device.type, enabled=False):
            dtype = torch.promote_types(features.dtype, torch.float32)
            directions = F.normalize(self.weight.to(dtype), dim=1)
            return self.scale * F.linear(F.normalize(features.to(dtype), dim=1), directions)


def float32_linear(features: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Logits (B, C) of features (B, D) by a weight (C, D), in the weight's precision whatever that around it.

    In bfloat16 the logits of one image in forty would tie, and the lowest label wins a tie, often the largest class.
    """
    with torch.autocast(features.device.type, enabled=False):
        return F.linear(features.to(torch.promote_types(features.dtype, weight.dtype)), weight, bias)


class Float32Linear(nn.Linear):
    """A linear layer that computes in float32 whatever the precision around it; see ``float32_linear``."""

    def forward(self, features: Tensor) -> Tensor:
        """(B, C) from (B, D)."""
        return float32_linear(features, self.weight, self.bias)


def linear(features: int, classes: int) -> nn.Linear:
    """An ordinary linear classifier with Kaiming-normal weights, as in the CIFAR ResNets."""
    layer = Float32Linear(features, classes)
    nn.init.kaiming_normal_(layer.weight)
    return layer


def projector(features: int, hidden: int, dimension: int) -> nn.Sequential:
    """The two-layer perceptron with batch norm behind which contrastive methods compare images; (B, dimension)."""
    return nn.Sequential(
        nn.Linear(features, hidden), nn.BatchNorm1d(hidden), nn.ReLU(inplace=True), nn.Linear(hidden, dimension)
    )


def reinitialise(head: nn.Module) -> None:
    """Give a classifier new random weights, for the second stage of two-stage methods.

    A linear one gets torch's own, uniform with standard deviation 1 / sqrt(3 D), as in the code of Kang et al. (ICLR
    2020); the Kaiming-normal ones of ``linear`` are 2.4 times as large. A cosine classifier gets what it had at first.
    """
    assert isinstance(head.weight, Tensor)
    classes, features = head.weight.shape
    fresh = CosineLinear(features, classes) if isinstance(head, CosineLinear) else nn.Linear(features, classes)
    head.load_state_dict(fresh.state_dict())


HEADS: dict[str, Callable[[int, int], nn.Module]] = {"linear": linear, "cosine": CosineLinear}
