"""Focal loss: samples that are classified well count less."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from ltbench.method import Batch, Loss, Method, MethodConfig, Paper, Progress, Range
from ltbench.method.losses import cross_entropy


class Focal(Method):
    """Cross entropy times (1 - p_y)^gamma, so that samples which are classified well count less.

    Lin et al. (ICCV 2017), equation 4, with the softmax in place of their sigmoids, as long-tailed papers use it;
    some of them, such as LDAM's code, have gamma 1. The mean is over samples and no class is weighted. The figure
    claimed is that of a survey (Zhang et al., TPAMI 2023): the authors' are on object detection.
    """

    class Config(MethodConfig):
        """How strongly to focus."""

        gamma: float = Field(2.0, ge=0, description="exponent of 1 - p_y; 0 is cross entropy")

        space: ClassVar[Mapping[str, Range]] = {"gamma": Range(0.0, 3.0), "mixup": Range(0.0, 1.0)}

    family = "loss"
    revision = 1
    config: Config
    paper = Paper(
        title="Focal Loss for Dense Object Detection",
        authors="Tsung-Yi Lin and Priya Goyal and Ross Girshick and Kaiming He and Piotr Dollár",
        venue="IEEE International Conference on Computer Vision",
        year=2017,
        claims=(
            "Focal loss|ImageNet-LT|256|ResNeXt-50-32x4d|90",
            "Focal loss|ImageNet-LT|256|ResNeXt-50-32x4d|200",
            "Focal / joint|ImageNet-LT|256|ResNeXt-50-32x4d|200",
        ),
    )

    def forward(self, batch: Batch, progress: Progress) -> Loss:
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
