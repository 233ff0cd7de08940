"""LDAM: a margin for each class, larger for rarer ones."""

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

from pydantic import Field
from torch import Tensor

from ltbench.config.recipes.augmentations import CIFAR
from ltbench.method import BackboneFactory, Batch, ClassPrior, Loss, Method, MethodConfig, Paper, Progress, Range
from ltbench.method.losses import ldam_cross_entropy, ldam_margins

PAPER = Paper(
    title="Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss",
    authors="Kaidi Cao and Colin Wei and Adrien Gaidon and Nikos Arechiga and Tengyu Ma",
    venue="Advances in Neural Information Processing Systems",
    year=2019,
    recipes={
        "cifar": {
            "epochs": 200,
            "batch_size": 128,
            "lr": 0.1,
            "nesterov": False,
            "weight_decay": 2e-4,
            "milestones": (0.8, 0.9),
            "gamma": 0.01,
            "warmup": 0.025,
            "augment": CIFAR,
            "head": "cosine",
        }
    },
    checkpoint="best epoch on the test set",
    draw="Cao et al.",
)


class LDAM(Method):
    """Cross entropy with a margin n_y^(-1/4) taken from the cosine of the right class, so that rare classes keep away.

    Cao et al. (NeurIPS 2019), equation 13, on a cosine head of scale 30, whatever head the recipe says. Without the
    deferred re-weighting that the authors recommend: that is ``ldam_drw``.
    """

    class Config(MethodConfig):
        """The size of the margins."""

        largest_margin: float = Field(0.5, ge=0, le=2, description="margin of the rarest class, as a cosine")

        space: ClassVar[Mapping[str, Range]] = {"largest_margin": Range(0.1, 0.8), "mixup": Range(0.0, 1.0)}

    family = "loss"
    revision = 1
    head = "cosine"
    config: Config
    margins: Tensor
    paper = replace(
        PAPER,
        claims=(
            "LDAM|ImageNet-LT|256|ResNeXt-50-32x4d|90",
            "LDAM|ImageNet-LT|256|ResNeXt-50-32x4d|200",
        ),
    )

    def __init__(self, build: BackboneFactory, prior: ClassPrior, config: Config) -> None:
        super().__init__(build, prior, config)
        self.register_buffer("margins", ldam_margins(prior.counts, config.largest_margin))

    def forward(self, batch: Batch, progress: Progress) -> Loss:
        """CE(30 (cos - m_y at y), y)."""
        logits = self.network(batch.images)
        return batch.loss(lambda labels: ldam_cross_entropy(logits, labels, self.margins))
