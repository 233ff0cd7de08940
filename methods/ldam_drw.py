"""LDAM-DRW: LDAM, with classes weighted late in training."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from pydantic import Field
from torch import Tensor

from ltbench.config import Recipe
from ltbench.method import (
    BackboneFactory,
    Batch,
    ClassPrior,
    Loss,
    Progress,
    Range,
    Stage,
    StageData,
    deferred,
)
from ltbench.method.losses import effective_number_weights, ldam_cross_entropy
from ltbench_methods.ldam import LDAM


class LDAMDRW(LDAM):
    """LDAM, and for the last fifth of training each class weighted by its inverse effective number of samples.

    Cao et al. (NeurIPS 2019), equation 13 and algorithm 1; the weights are those of Cui et al. (CVPR 2019), equation 2,
    and the loss is divided by the sum of the batch's weights, as published. Learning rates fall when the weights come
    where the recipe's first milestone is at 0.8, as in the authors' and the standard recipe.
    """

    class Config(LDAM.Config):
        """Margins, and when and how strongly to weight."""

        share: float = Field(0.8, ge=0, le=1, description="of the epochs, before the weights come")
        beta: float = Field(
            0.9999, ge=0, lt=1, description="of the effective number: 0 weighs all alike, near 1 by inverse frequency"
        )

        space: ClassVar[Mapping[str, Range]] = {
            "largest_margin": Range(0.1, 0.8),
            "share": Range(0.5, 0.9),
            "mixup": Range(0.0, 1.0),
        }

    revision = 1
    config: Config
    class_weights: Tensor
    paper = replace(
        LDAM.paper,
        claims=(
            *(f"LDAM-DRW|CIFAR-100-LT|{ratio}|ResNet-32|200" for ratio in (10, 50, 100)),
            "LDAM-DRW|ImageNet-LT|256|ResNet-50|90",
            "LDAM-DRW|iNaturalist-2018|500|ResNet-50|see source",
        ),
    )

    def __init__(self, build: BackboneFactory, prior: ClassPrior, config: Config) -> None:
        super().__init__(build, prior, config)
        self.register_buffer("class_weights", self.log_prior.new_ones(len(prior.counts)))

    def stages(self, recipe: Recipe) -> Sequence[Stage]:
        """Without and with weights."""
        return deferred(recipe, self.config.share)

    def begin(self, stage: Stage, data: StageData) -> None:
        """Set the weights."""
        if stage.name == "deferred":
            self.class_weights.copy_(effective_number_weights(self.prior.counts, self.config.beta))

    def forward(self, batch: Batch, progress: Progress) -> Loss:
        """The weighted mean of LDAM."""
        logits = self.network(batch.images)
        return batch.loss(lambda labels: ldam_cross_entropy(logits, labels, self.margins), self.class_weights)
