"""SADE: three experts for long-tailed, balanced and reversed class frequencies."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from ltbench.config.recipes.augmentations import CIFAR_ROTATED, IMAGENET, INATURALIST
from ltbench.method import (
    BackboneFactory,
    Batch,
    Choice,
    ClassPrior,
    DatasetDefaults,
    Loss,
    Method,
    MethodConfig,
    Paper,
    Progress,
    Range,
)
from ltbench.method.losses import cross_entropy
from ltbench.models.experts import ExpertNetwork


class SADE(Method):
    """Three experts on a shared trunk, skilled at the head, at all classes and at the tail; their logits averaged.

    The first expert has the cross entropy, the second the balanced softmax, and the third a softmax adjusted by
    log pi - tau log pi~, where pi~ is the prior with its ranks reversed. Zhang et al. (NeurIPS 2022). The loss is the
    sum over experts (not the mean, as for BalPoE); the experts have three quarters of the width.

    Departures: log pi stands for the published log(pi + 1e-9), which differs by less than 0.001 for a class with one
    image in a million. Test-time aggregation, which looks at the test images, is a method of its own: ``sade_tta``.
    """

    class Config(MethodConfig):
        """The third expert's strength, and the width."""

        tau: float = Field(2.0, ge=0, description="strength of the reversed prior in the third expert's loss")
        width: float = Field(0.75, gt=0, le=1, description="of the experts' stages: 0.75 as published, or 1")

        dataset_defaults: ClassVar[DatasetDefaults] = {
            "inaturalist2018": {"tau": 1.0},
            "places-lt": {"tau": 1.0, "width": 1.0},
        }
        space: ClassVar[Mapping[str, Range | Choice]] = {"tau": Range(0.5, 3.0), "mixup": Range(0.0, 1.0)}

    family = "experts"
    revision = 1
    config: Config
    adjustments: Tensor
    paper = Paper(
        title="Self-Supervised Aggregation of Diverse Experts for Test-Agnostic Long-Tailed Recognition",
        authors="Yifan Zhang and Bryan Hooi and Lanqing Hong and Jiashi Feng",
        venue="Advances in Neural Information Processing Systems",
        year=2022,
        claims=(
            *(f"SADE|CIFAR-100-LT|{ratio}|ResNet-32|400" for ratio in (10, 50, 100)),
            "SADE|CIFAR-100-LT|100|ResNet-32|standard (200)",
            *(f"SADE CIFAR-10 (user)|CIFAR-10-LT|{ratio}|ResNet-32|200" for ratio in (10, 100)),
            "SADE|ImageNet-LT|256|ResNeXt-50-32x4d|400",
            "SADE|ImageNet-LT|256|ResNeXt-50-32x4d|standard (180)",
            "SADE (listed as TADE)|ImageNet-LT|256|ResNeXt-50-32x4d|90",
            "SADE (listed as TADE)|ImageNet-LT|256|ResNeXt-50-32x4d|200",
            "SADE|iNaturalist-2018|500|ResNet-50|400",
        ),
        recipes={
            "cifar": {
                "epochs": 200,
                "batch_size": 128,
                "lr": 0.1,
                "weight_decay": 5e-4,
                "milestones": (0.8, 0.9),
                "warmup": 0.025,
                "augment": CIFAR_ROTATED,
            },
            "imagenet-lt": {
                "epochs": 180,
                "batch_size": 64,
                "lr": 0.025,
                "weight_decay": 5e-4,
                "schedule": "cosine",
                "warmup": 0.0,
                "augment": IMAGENET,
            },
            "inaturalist2018": {
                "epochs": 100,
                "batch_size": 512,
                "lr": 0.2,
                "weight_decay": 2e-4,
                "milestones": (0.6, 0.8),
                "warmup": 0.05,
                "augment": INATURALIST,
            },
            "places-lt": {  # of a pre-trained network, whose own layers have a tenth of this rate there
                "epochs": 30,
                "batch_size": 128,
                "lr": 0.01,
                "weight_decay": 4e-4,
                "milestones": (1 / 3, 2 / 3),
                "warmup": 0.0,
                "augment": IMAGENET,
            },
        },
        checkpoint="last epoch",
        draw="Cao et al.",
    )

    def __init__(self, build: BackboneFactory, prior: ClassPrior, config: Config) -> None:
        super().__init__(build, prior, config)
        balanced = self.log_prior
        adjustments = [torch.zeros_like(balanced), balanced, balanced - config.tau * rank_reversed(balanced)]
        self.register_buffer("adjustments", torch.stack(adjustments))

    def make_network(self, build: BackboneFactory) -> ExpertNetwork:
        """Three experts."""
        return build(3, width=self.config.width, head=self.head)

    @property
    def logit_prior(self) -> float | None:
        """Not one number: the third expert's prior is a permutation of the training prior."""
        return None

    def forward(self, batch: Batch, progress: Progress) -> Loss:
        """The sum over experts of CE(z_m + adjustment_m, y)."""
        logits = self.network.experts(batch.images)
        return batch.loss(lambda labels: sade_loss(logits, labels, self.adjustments))


def rank_reversed(values: Tensor) -> Tensor:
    """The same values, the largest where the smallest was and so on."""
    order = values.argsort(stable=True)
    turned = torch.empty_like(values)
    turned[order] = values[order].flip(0)
    return turned


def sade_loss(logits: Tensor, targets: Tensor, adjustments: Tensor) -> Tensor:
    """The sum over experts of each one's adjusted cross entropy.

    Args:
        logits: (M, B, C).
        targets: (B,) class indices.
        adjustments: (M, C) added to the logits of each expert.

    Returns:
        (B,) in nats.
    """
    return torch.stack(
        [cross_entropy(own + adjustment, targets) for own, adjustment in zip(logits, adjustments, strict=True)]
    ).sum(0)
