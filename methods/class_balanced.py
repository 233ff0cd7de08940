"""Class-balanced loss: classes weighted by their inverse effective number of samples."""

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field
from torch import Tensor

from ltbench.config.recipes.augmentations import CIFAR
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
from ltbench.method.losses import cross_entropy, effective_number_weights


class ClassBalanced(Method):
    """Cross entropy with each class weighted by (1 - beta) / (1 - beta^n), its inverse effective number of samples.

    Cui et al. (CVPR 2019), equation 2, with the softmax. The effective number is nearly n itself while n is far below
    1 / (1 - beta): up to about a thousand images a class, beta = 0.9999 is weighting by inverse frequency, and a sample
    of a rare class then counts as much as many of a frequent one, from the first step on. The loss is divided by the
    sum of the batch's weights, as in LDAM's code, and not by the number of samples as in the authors'.
    """

    class Config(MethodConfig):
        """How strongly to weight."""

        beta: float = Field(0.9999, ge=0, lt=1, description="0 weighs all classes alike, near 1 by inverse frequency")

        dataset_defaults: ClassVar[DatasetDefaults] = {"inaturalist2018": {"beta": 0.999}}  # beside a focal loss there
        space: ClassVar[Mapping[str, Range | Choice]] = {
            "beta": Choice((0.9, 0.99, 0.999, 0.9999)),
            "mixup": Range(0.0, 1.0),
        }

    family = "loss"
    revision = 1
    config: Config
    class_weights: Tensor
    paper = Paper(
        title="Class-Balanced Loss Based on Effective Number of Samples",
        authors="Yin Cui and Menglin Jia and Tsung-Yi Lin and Yang Song and Serge Belongie",
        venue="IEEE/CVF Conference on Computer Vision and Pattern Recognition",
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
                "head": "linear",
            }
        },
        draw="Cui et al.",
    )

    def __init__(self, build: BackboneFactory, prior: ClassPrior, config: Config) -> None:
        super().__init__(build, prior, config)
        self.register_buffer("class_weights", effective_number_weights(prior.counts, config.beta))

    def forward(self, batch: Batch, progress: Progress) -> Loss:
        """The weighted mean of CE(z, y)."""
        logits = self.network(batch.images)
        return batch.loss(lambda labels: cross_entropy(logits, labels), self.class_weights)
