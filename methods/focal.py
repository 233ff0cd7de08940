"""Focal loss: samples that are classified well count less."""

import torch
from torch import Tensor

from ltbench.method import Method, MethodConfig, Range, hyperparameter
from ltbench.method.losses import cross_entropy


class Focal(Method):
    """Cross entropy times (1 - p_y)^gamma, so that samples which are classified well count less.

    Lin et al. (ICCV 2017), equation 4, with the softmax in place of their sigmoids, as long-tailed papers use it;
    some of them, such as LDAM's code, have gamma 1. The mean is over samples and no class is weighted. The figure
    claimed is that of a survey (Zhang et al., TPAMI 2023): the authors' are on object detection.
    """

    class Config(MethodConfig):
        gamma: float = hyperparameter(
            2.0, search=Range(0.0, 3.0), ge=0, description="exponent of the factor (1 - p_y); 0 is cross entropy"
        )

    family = "loss"
    revision = 1

    def forward(self, batch, progress):
        """(1 - p_y)^gamma CE(z, y)."""
        logits = self.network(batch.images)
        return batch.loss(lambda labels: focal_cross_entropy(logits, labels, self.config.gamma))


def focal_cross_entropy(logits: Tensor, targets: Tensor, gamma: float | Tensor) -> Tensor:
    """Cross entropy times (1 - p_y)^gamma.

    Lin et al., "Focal Loss for Dense Object Detection" (ICCV 2017), equation 4, with the softmax's p_y.

    Args:
        logits: (B, C).
        targets: (B,) class indices.
        gamma: at least 0, which is cross entropy.

    Returns:
        (B,) in nats.
    """
    values = cross_entropy(logits, targets)
    # 1 - p without cancellation, and above 0, where the power has no gradient.
    return (-torch.expm1(-values)).clamp(min=torch.finfo(values.dtype).tiny) ** gamma * values
