"""LADE: balanced softmax with a regulariser that ties the logits to densities instead of to the training prior."""

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from ltbench.config.recipes.augmentations import CIFAR, IMAGENET, INATURALIST
from ltbench.method import Batch, Claim, DatasetDefaults, Loss, Method, MethodConfig, Paper, Progress, Range
from ltbench.method.losses import is_target, logit_adjusted_cross_entropy

CIFAR_DIFFERS = (
    "the authors' ResNet-32 has its last block twice, side by side (128 features)",
    "the authors' warm-up goes from a third of the rate to 87 % of it",
)


def density_regulariser(logits: Tensor, targets: Tensor, log_prior: Tensor, weight: float) -> Tensor:
    """LADER: the negative of a regularised lower bound on how far each class's images lie from a balanced mixture.

    sum_c pi_c (log E_c - mean of z_c over class c + weight (log E_c)^2), with E_c the batch mean of
    exp(z_c) / (C pi_c). The bound is that of Donsker and Varadhan, which leaves a constant of z_c open; the square
    fixes it, so that exp(z_c) becomes p(x|c) over the density of balanced data.

    Args:
        logits: (B, C).
        targets: (B,) class indices; the mean of a class that is not among them counts as zero.
        log_prior: (C,) log pi.
        weight: of the square.

    Returns:
        Scalar.
    """
    size, classes = logits.shape
    values = logits.to(torch.promote_types(logits.dtype, torch.float32))
    own = is_target(values, targets)
    means = (values * own).sum(0) / own.sum(0).clamp(min=1)
    expectation = (values - log_prior).logsumexp(0) - math.log(size * classes)
    return (log_prior.exp() * (expectation - means + weight * expectation.square())).sum()


class LADE(Method):
    """Balanced softmax, and a regulariser (LADER) by which exp(z_c) estimates p(x|c) over the density of balanced data.

    Hong et al. (CVPR 2021), equations 16, 19 and 20. Once the training prior is taken out of the logits, adding
    log pi_test corrects them for another test prior.

    As in the published code E_c weighs all images of a batch by 1 / (C pi_c), after the class of the logit and not of
    the image; the two agree where the classes are separated. The values for each data set are those of the authors'
    commands. With mixing, the regulariser is taken for both labels and shared between them. The authors'
    head is linear.

    Departures of the networks and recipes: the authors' ResNet-32 for CIFAR has its last block twice, side by side, and
    concatenates the two outputs (128 features; here 64); in the five epochs of warm-up their rate goes from 0.067 to
    0.173, here from 0.04 to 0.2.
    """

    class Config(MethodConfig):
        """The weights of the regulariser and of the square in it."""

        alpha: float = Field(0.1, ge=0, description="weight of the regulariser; 0 is balanced softmax")
        square: float = Field(0.01, ge=0, description="weight of the square in it, lambda in the paper")

        dataset_defaults: ClassVar[DatasetDefaults] = {
            "imagenet-lt": {"alpha": 0.05, "square": 0.5},
            "inaturalist2018": {"alpha": 0.05, "square": 0.5},
            "places-lt": {"alpha": 0.005, "square": 0.1},
        }
        space: ClassVar[Mapping[str, Range]] = {
            "alpha": Range(0.005, 0.5, log=True),
            "square": Range(0.01, 0.5, log=True),
            "mixup": Range(0.0, 1.0),
        }

    family = "loss"
    revision = 1
    couples_batch = True
    gathers_across_processes = True
    config: Config
    paper = Paper(
        title="Disentangling Label Distribution for Long-tailed Visual Recognition",
        authors="Youngkyu Hong and Seungju Han and Kwanghee Choi and Seokjun Seo and Beomsu Kim and Buru Chang",
        venue="IEEE/CVF Conference on Computer Vision and Pattern Recognition",
        year=2021,
        claims=(
            Claim("LADE|CIFAR-100-LT|100|ResNet-32|standard (200)", differs=CIFAR_DIFFERS),
            Claim("LADE+prior|CIFAR-100-LT|100|ResNet-32|standard (200)", differs=CIFAR_DIFFERS),
            "LADE|ImageNet-LT|256|ResNeXt-50-32x4d|90",
            "LADE|ImageNet-LT|256|ResNeXt-50-32x4d|200",
            "LADE|ImageNet-LT|256|ResNeXt-50-32x4d|standard (180)",
            "LADE+prior|ImageNet-LT|256|ResNeXt-50-32x4d|standard (180)",
        ),
        recipes={
            "cifar": {
                "epochs": 200,
                "batch_size": 256,
                "lr": 0.2,
                "nesterov": False,
                "weight_decay": 5e-4,
                "milestones": (0.6, 0.8),
                "gamma": 0.01,
                "warmup": 0.025,
                "augment": CIFAR,
                "head": "linear",
            },
            "imagenet-lt": {
                "epochs": 180,
                "batch_size": 256,
                "lr": 0.05,
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
                "augment": INATURALIST,
                "head": "linear",
            },
        },
    )

    @property
    def logit_prior(self) -> float:
        """The training prior is taken out of the logits."""
        return 0.0

    def forward(self, batch: Batch, progress: Progress) -> Loss:
        """CE(z + log pi, y) + alpha LADER."""
        logits, config = self.network(batch.images), self.config
        all_logits = progress.gather(logits)
        one = self.log_prior.new_ones(())

        def per_sample(labels: Tensor) -> Tensor:
            regulariser = density_regulariser(all_logits, progress.gather(labels), self.log_prior, config.square)
            return logit_adjusted_cross_entropy(logits, labels, self.log_prior, one) + config.alpha * regulariser

        return batch.loss(per_sample)
