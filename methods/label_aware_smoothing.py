"""Label-aware smoothing: the more images a class has, the more its labels are smoothed."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

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
    losses,
)


class LabelAwareSmoothing(Method):
    """Cross entropy against smoothed labels, smoothed the more the more images a class has.

    Zhong et al. (CVPR 2021). There it is the loss of MiSLAS's second stage, on class-balanced samples of a frozen
    network; here it trains the network from the start, alone and on all images, to show what it does by itself. The
    method of the paper is ``mislas``, whose values for each data set and imbalance ratio it has.
    """

    class Config(MethodConfig):
        """How much to smooth."""

        smooth_head: float = Field(0.4, ge=0, lt=1, description="smoothing factor of the largest class")
        smooth_tail: float = Field(0.1, ge=0, lt=1, description="smoothing factor of the smallest class")
        shape: Literal["concave", "linear", "convex"] = Field(
            "concave", description="of the factor between them, as a function of the count"
        )

        dataset_defaults: ClassVar[DatasetDefaults] = {
            "cifar10-lt": {"smooth_head": 0.3, "smooth_tail": 0.0},
            ("cifar10-lt", 50): {"smooth_head": 0.2},
            ("cifar10-lt", 10): {"smooth_head": 0.1},
            ("cifar100-lt", 50): {"smooth_head": 0.3, "smooth_tail": 0.0},
            ("cifar100-lt", 10): {"smooth_head": 0.2, "smooth_tail": 0.0},
            "imagenet-lt": {"smooth_head": 0.3, "smooth_tail": 0.0},
            "inaturalist2018": {"smooth_head": 0.3, "smooth_tail": 0.0},
        }
        space: ClassVar[Mapping[str, Range | Choice]] = {
            "smooth_head": Range(0.1, 0.6),
            "smooth_tail": Range(0.0, 0.1),
            "mixup": Range(0.0, 1.0),
        }

    family = "loss"
    revision = 1
    config: Config
    smoothing: Tensor
    paper = Paper(
        title="Improving Calibration for Long-Tailed Recognition",
        authors="Zhisheng Zhong and Jiequan Cui and Shu Liu and Jiaya Jia",
        venue="IEEE/CVF Conference on Computer Vision and Pattern Recognition",
        year=2021,
        checkpoint="best epoch on the test set",
        draw="Cao et al.",
    )

    def __init__(self, build: BackboneFactory, prior: ClassPrior, config: Config) -> None:
        super().__init__(build, prior, config)
        factors = losses.label_aware_smoothing(prior.counts, config.smooth_head, config.smooth_tail, config.shape)
        self.register_buffer("smoothing", factors)

    def forward(self, batch: Batch, progress: Progress) -> Loss:
        """(1 - eps_y) (-log p_y) + eps_y mean_c(-log p_c)."""
        logits = self.network(batch.images)
        return batch.loss(lambda labels: losses.smoothed_cross_entropy(logits, labels, self.smoothing))
