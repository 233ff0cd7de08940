"""MiSLAS: mixup in the first stage, label-aware smoothing of the classifier in the second."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from ltbench.config import Recipe
from ltbench.config.recipes.augmentations import CIFAR, IMAGENET
from ltbench.method import (
    BackboneFactory,
    Batch,
    Choice,
    ClassPrior,
    DatasetDefaults,
    Loss,
    MethodConfig,
    Paper,
    Progress,
    Range,
    Sampler,
    Schedule,
    Stage,
    class_balanced,
)
from ltbench.method.losses import label_aware_smoothing, smoothed_cross_entropy
from ltbench.method.second_stage import SecondStage


class MiSLAS(SecondStage):
    """Train with cross entropy and mixup, then the classifier on balanced classes with labels smoothed by class.

    Zhong et al. (CVPR 2021). Head classes, of which a network is over-confident, are smoothed most (the concave
    form). The second stage freezes the backbone, whose batch norms go on updating their running statistics ("shift
    learning"), trains the classifier on at a small rate, and learns one scale a class for its logits at the full rate.

    Departures: classes are drawn at random, where the published code visits them in a shuffled cycle and takes four
    images at each visit; the rate of the second stage starts at the recipe's, which is theirs (0.1) at their batch
    sizes; the last epoch counts, not the best on the test set; on Places-LT the whole network trains in the first
    stage, where theirs trains a new last block on a frozen network. The defaults are those of CIFAR-100-LT at
    imbalance ratio 100; the authors' values for its other ratios and for other data sets are filled in by themselves.
    """

    class Config(MethodConfig):
        """Mixup of the first stage, smoothing and rate of the second."""

        mixup: float = Field(1.0, ge=0, description="alpha of the first stage's Beta(alpha, alpha); 0 turns it off")
        epochs: int = Field(10, ge=1, description="of the second stage, beside the recipe's")
        smooth_head: float = Field(0.4, ge=0, le=1, description="smoothing of the largest class")
        smooth_tail: float = Field(0.1, ge=0, le=1, description="smoothing of the smallest class")
        lr_factor: float = Field(0.2, gt=0, description="of the classifier's rate in the second stage")
        shift_norms: bool = Field(True, description="whether batch norms update their statistics in the second stage")

        dataset_defaults: ClassVar[DatasetDefaults] = {
            "cifar10-lt": {"smooth_head": 0.3, "smooth_tail": 0.0, "lr_factor": 0.5, "shift_norms": False},
            ("cifar10-lt", 50): {"smooth_head": 0.2, "lr_factor": 0.2},
            ("cifar10-lt", 10): {"smooth_head": 0.1, "lr_factor": 0.2},
            ("cifar100-lt", 50): {"smooth_head": 0.3, "smooth_tail": 0.0, "lr_factor": 0.1},
            ("cifar100-lt", 10): {"smooth_head": 0.2, "smooth_tail": 0.0, "lr_factor": 0.1},
            "imagenet-lt": {"mixup": 0.2, "smooth_head": 0.3, "smooth_tail": 0.0, "lr_factor": 0.05},
            "inaturalist2018": {"mixup": 0.2, "smooth_head": 0.3, "smooth_tail": 0.0, "lr_factor": 0.05},
            "places-lt": {"mixup": 0.2, "lr_factor": 0.05},
        }
        space: ClassVar[Mapping[str, Range | Choice]] = {
            "mixup": Range(0.0, 1.0),
            "smooth_head": Range(0.1, 0.5),
            "lr_factor": Range(0.05, 0.5, log=True),
        }

    family = "two stages"
    first = "ce"
    revision = 1
    config: Config
    smoothing: Tensor
    paper = Paper(
        title="Improving Calibration for Long-Tailed Recognition",
        authors="Zhisheng Zhong and Jiequan Cui and Shu Liu and Jiaya Jia",
        venue="IEEE/CVF Conference on Computer Vision and Pattern Recognition",
        year=2021,
        claims=(
            *(f"MiSLAS|CIFAR-100-LT|{ratio}|ResNet-32|200+10" for ratio in (10, 50, 100)),
            "MiSLAS|CIFAR-100-LT|100|ResNet-32|standard (200)",
            *(f"MiSLAS|CIFAR-10-LT|{ratio}|ResNet-32|200+10" for ratio in (10, 50, 100)),
            "MiSLAS|ImageNet-LT|256|ResNet-50|180+10",
            "MiSLAS|ImageNet-LT|256|ResNeXt-50-32x4d|90",
            "MiSLAS|ImageNet-LT|256|ResNeXt-50-32x4d|200",
            "MiSLAS|ImageNet-LT|256|ResNeXt-50-32x4d|standard (180)",
            "MiSLAS|iNaturalist-2018|500|ResNet-50|200+10",
        ),
        recipes={
            "cifar": {
                "epochs": 200,
                "batch_size": 128,
                "lr": 0.1,
                "nesterov": False,
                "weight_decay": 2e-4,  # their read-me recommends 5e-4
                "milestones": (0.8, 0.9),
                "warmup": 0.025,
                "augment": CIFAR,
                "head": "linear",
            },
            "imagenet-lt": {
                "epochs": 180,
                "batch_size": 256,
                "lr": 0.1,
                "nesterov": False,
                "weight_decay": 5e-4,
                "schedule": "cosine",
                "warmup": 0,
                "augment": IMAGENET,
                "head": "linear",
            },
            "inaturalist2018": {
                "epochs": 200,
                "batch_size": 256,
                "lr": 0.1,
                "nesterov": False,
                "weight_decay": 1e-4,
                "schedule": "cosine",
                "warmup": 0,
                "augment": IMAGENET,
                "head": "linear",
            },
        },
        checkpoint="best epoch on the test set",
        draw="Cao et al.",
    )

    def __init__(self, build: BackboneFactory, prior: ClassPrior, config: Config) -> None:
        super().__init__(build, prior, config)
        self.scales = nn.Parameter(torch.ones(len(prior.counts)))
        smoothing = label_aware_smoothing(prior.counts, config.smooth_head, config.smooth_tail)
        self.register_buffer("smoothing", smoothing)

    def stages(self, recipe: Recipe) -> Sequence[Stage]:
        """One, of the classifier and its scales."""
        return (
            Stage(
                "classifier",
                epochs=self.config.epochs,
                trains=("network.heads", "scales"),
                frozen_norms="train" if self.config.shift_norms else "eval",
                lr_scale={"network.heads": self.config.lr_factor},
                schedule=Schedule(recipe.lr),
            ),
        )

    def samplers(self, labels: Tensor, stage: Stage) -> dict[str, Sampler]:
        """Every class with the same chance."""
        return {"main": class_balanced(labels)}

    def forward(self, batch: Batch, progress: Progress) -> Loss:
        """(1 - eps_y) CE(f z, y) + eps_y mean over classes of CE(f z, c)."""
        logits = self.predict(batch.images)
        return batch.loss(lambda labels: smoothed_cross_entropy(logits, labels, self.smoothing))

    def experts(self, images: Tensor) -> Tensor:
        """F_c z_c, with one scale f a class."""
        return self.network.experts(images) * self.scales
