"""DisAlign: the logits of a cross-entropy network, moved by class as far as the image asks for it."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from ltbench.config import Recipe
from ltbench.config.recipes.augmentations import IMAGENET
from ltbench.method import (
    BackboneFactory,
    Batch,
    Choice,
    ClassPrior,
    Loss,
    MethodConfig,
    Paper,
    Progress,
    Range,
    Schedule,
    Stage,
)
from ltbench.method.losses import cross_entropy
from ltbench.method.second_stage import SecondStage


class DisAlign(SecondStage):
    """Freeze the whole CE run and learn to shift and scale its logits by class, with a weight from the image.

    Zhang et al. (CVPR 2021): z' = (1 + g a) z + g b with a magnitude a and a margin b for each class and a confidence
    g = sigmoid(w x + w_0) of the features x, as in the classification layer of the authors' code (cvpods), which made
    their figure for ImageNet-LT. There a starts at 1, b at 0 and w at 0.1, with which g begins near 1 on non-negative
    features and z' near 2 z; weight decay draws a and b to 0, where z' = z. The loss is cross entropy with generalised
    re-weighting, classes weighted by (1 / pi)^rho. Images are drawn uniformly, and the frozen batch norms go on
    updating their running statistics. The second stage starts at the recipe's rate; theirs, too, is that of the first
    stage.

    Departures: the authors' segmentation code has (1 - g) z + g (a z + b), which is the same family with a - 1 for a
    and starts at z. On a cosine classifier g is of the features as they are, where their layer normalises them first.
    Mixing belongs to the first stage.
    """

    class Config(MethodConfig):
        """The second stage; mixing is that of the cross-entropy run."""

        rho: float = Field(1.2, ge=0, description="exponent of the class weights; 0 weighs all classes alike")
        epochs: int = Field(10, ge=1, description="of the second stage, beside the recipe's")

        space: ClassVar[Mapping[str, Range | Choice]] = {"rho": Range(0.5, 2.0), "mixup": Range(0.0, 1.0)}

    family = "two stages"
    first = "ce"
    revision = 2
    config: Config
    class_weights: Tensor
    paper = Paper(
        title="Distribution Alignment: A Unified Framework for Long-tail Visual Recognition",
        authors="Songyang Zhang and Zeming Li and Shipeng Yan and Xuming He and Jian Sun",
        venue="IEEE/CVF Conference on Computer Vision and Pattern Recognition",
        year=2021,
        claims=("DisAlign|ImageNet-LT|256|ResNeXt-50-32x4d|90+10",),
        recipes={
            "imagenet-lt": {
                "epochs": 90,
                "batch_size": 256,
                "lr": 0.1,
                "nesterov": False,
                "weight_decay": 5e-4,
                "schedule": "cosine",
                "warmup": 0,
                "augment": IMAGENET,
                "head": "linear",
            }
        },
    )

    def __init__(self, build: BackboneFactory, prior: ClassPrior, config: Config) -> None:
        super().__init__(build, prior, config)
        classes = len(prior.counts)
        self.magnitude = nn.Parameter(torch.ones(classes))
        self.margin = nn.Parameter(torch.zeros(classes))
        self.confidence = nn.Linear(self.network.num_features, 1)
        nn.init.constant_(self.confidence.weight, 0.1)
        self.register_buffer("class_weights", generalised_weights(prior.counts, config.rho))

    def stages(self, recipe: Recipe) -> Sequence[Stage]:
        """One, of the alignment."""
        return (
            Stage(
                "alignment",
                epochs=self.config.epochs,
                trains=("magnitude", "margin", "confidence"),
                frozen_norms="train",
                schedule=Schedule(recipe.lr),
            ),
        )

    def forward(self, batch: Batch, progress: Progress) -> Loss:
        """CE(z', y), each sample weighted by its class."""
        logits = self.predict(batch.images)
        return batch.loss(lambda labels: cross_entropy(logits, labels), self.class_weights)

    def experts(self, images: Tensor) -> Tensor:
        """The aligned logits z'."""
        features = self.network.features(images)
        confidence = torch.sigmoid(self.confidence(features))
        return aligned(self.network.classify(features), confidence, self.magnitude, self.margin)


def aligned(logits: Tensor, confidence: Tensor, magnitude: Tensor, margin: Tensor) -> Tensor:
    """(1 + g a) z + g b.

    Args:
        logits: (..., C), z.
        confidence: (..., 1), g.
        magnitude: (C,), a.
        margin: (C,), b.
    """
    return (1 + confidence * magnitude) * logits + confidence * margin


def generalised_weights(counts: Tensor, rho: float) -> Tensor:
    """Class weights (1 / pi)^rho, summing to C.

    Args:
        counts: (C,) images of each class.
        rho: 0 weighs all classes alike, 1 by inverse frequency.

    Returns:
        (C,) float32.
    """
    weights = (counts.double() / counts.sum()) ** -rho
    return (weights / weights.sum() * len(counts)).float()
