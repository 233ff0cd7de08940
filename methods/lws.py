"""LWS: one learned scale a class on the logits of a cross-entropy network."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from ltbench.config import Recipe
from ltbench.method import (
    BackboneFactory,
    Batch,
    Choice,
    Claim,
    ClassPrior,
    Loss,
    MethodConfig,
    Progress,
    Range,
    Sampler,
    Schedule,
    Stage,
    class_balanced,
)
from ltbench.method.losses import cross_entropy
from ltbench.method.second_stage import SecondStage
from ltbench_methods.crt import ClassifierRetraining


class LearnableWeightScaling(SecondStage):
    """Freeze the whole CE run and learn one scale a class for its logits, on classes drawn alike.

    Kang et al. (ICLR 2020), "LWS": a scale f_c makes the classifier f_c w_c, so that the norms of the weights, which
    grow with the class counts, are put right while their directions stay. As in the published code the bias is
    scaled too, the scales start at 1 and decay like any weight, and the frozen batch norms go on updating their
    running statistics. On a cosine classifier, whose weights have no norms, a scale is a temperature of its class.

    Departures: as for cRT, classes are drawn at random and not in a cycle, and mixing belongs to the first stage.
    """

    class Config(MethodConfig):
        """The second stage; mixing is that of the cross-entropy run."""

        epochs: int = Field(5, ge=1, description="of the second stage, beside the recipe's")

        space: ClassVar[Mapping[str, Range | Choice]] = {"epochs": Choice((5, 10, 20)), "mixup": Range(0.0, 1.0)}

    family = "two stages"
    first = "ce"
    revision = 1
    config: Config
    paper = replace(
        ClassifierRetraining.paper,
        claims=(
            "LWS|ImageNet-LT|256|ResNeXt-50-32x4d|90(+10 cRT/+5 LWS)",
            "LWS|ImageNet-LT|256|ResNet-50|180+10",
            "Softmax / LWS|ImageNet-LT|256|ResNeXt-50-32x4d|200",
            *(Claim(f"LWS+mixup|CIFAR-100-LT|{ratio}|ResNet-32|200+10", {"mixup": ...}) for ratio in (10, 50, 100)),
            Claim("LWS+mixup|ImageNet-LT|256|ResNet-50|180+10", {"mixup": ...}),
            Claim("LWS+mixup|iNaturalist-2018|500|ResNet-50|see source", {"mixup": ...}),
        ),
    )

    def __init__(self, build: BackboneFactory, prior: ClassPrior, config: Config) -> None:
        super().__init__(build, prior, config)
        self.scales = nn.Parameter(torch.ones(len(prior.counts)))

    def stages(self, recipe: Recipe) -> Sequence[Stage]:
        """One, of the scales."""
        return (
            Stage(
                "scales",
                epochs=self.config.epochs,
                trains=("scales",),
                frozen_norms="train",
                schedule=Schedule(recipe.lr),
            ),
        )

    def samplers(self, labels: Tensor, stage: Stage) -> dict[str, Sampler]:
        """Every class with the same chance."""
        return {"main": class_balanced(labels)}

    def forward(self, batch: Batch, progress: Progress) -> Loss:
        """CE(f z, y)."""
        logits = self.predict(batch.images)
        return batch.loss(lambda labels: cross_entropy(logits, labels))

    def experts(self, images: Tensor) -> Tensor:
        """F_c z_c."""
        return self.network.experts(images) * self.scales
