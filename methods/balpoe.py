"""BalPoE: a balanced product of calibrated experts."""

import warnings
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from ltbench.config.recipes.augmentations import CIFAR_ROTATED, IMAGENET, INATURALIST
from ltbench.errors import LtbenchWarning
from ltbench.method import (
    BackboneFactory,
    Batch,
    Choice,
    Claim,
    ClassPrior,
    DatasetDefaults,
    Loss,
    Method,
    MethodConfig,
    Paper,
    Progress,
    Range,
)
from ltbench.method.losses import expert_logit_adjusted_cross_entropy
from ltbench.models.experts import ExpertNetwork


class BalPoE(Method):
    """Experts on a shared trunk, each with a logit-adjusted loss of its own strength tau; their logits averaged.

    Aimar et al. (CVPR 2023). Expert m learns p(x|y) pi^(1 - tau_m); where the taus average to one, the product of
    the experts is unbiased. Mixup keeps each expert calibrated, which that argument needs. The loss is the mean
    over experts (not the sum, as for SADE and RIDE), the experts have full width, and expert logits are used raw.
    """

    class Config(MethodConfig):
        """The experts' strengths and mixup.

        ``experts`` and ``spread`` are a shorthand for ``taus``, evenly spaced from 1 - spread to 1 + spread.
        """

        mixup: float = Field(0.4, ge=0, description="alpha of mixup's Beta(alpha, alpha); 0 turns it off")
        taus: tuple[float | tuple[float, ...], ...] = Field(
            (0.0, 1.0, 2.0), min_length=1, description="one an expert: a number, or a list with one a class"
        )
        width: float = Field(1.0, gt=0, le=1, description="of the experts' stages: 1 as published, or 0.75")

        dataset_defaults: ClassVar[DatasetDefaults] = {
            "cifar10-lt": {"mixup": 0.8},
            "imagenet-lt": {"taus": (0.0, 1.25, 2.5), "mixup": 0.3},
            "inaturalist2018": {"taus": (-1.0, 1.0, 3.0), "mixup": 0.2},
        }
        space: ClassVar[Mapping[str, Range | Choice]] = {
            "experts": Choice((2, 3, 4, 5)),
            "spread": Range(0.0, 2.0),
            "mixup": Range(0.0, 1.0),
        }

        @model_validator(mode="before")
        @classmethod
        def _expand(cls, values: dict[str, Any]) -> dict[str, Any]:
            values = dict(values)
            if isinstance(values.get("taus"), int | float):
                values["taus"] = (values["taus"],)  # one expert
            if {"experts", "spread"} & set(values):
                if "taus" in values:
                    raise ValueError("give either taus, or experts and spread")
                values["taus"] = _spaced(values.pop("experts", 3), values.pop("spread", 1.0))
            return values

    family = "experts"
    revision = 1
    config: Config
    taus: Tensor
    paper = Paper(
        title="Balanced Product of Calibrated Experts for Long-Tailed Recognition",
        authors="Emanuel Sanchez Aimar and Arvi Jonnarth and Michael Felsberg and Marco Kuhlmann",
        venue="IEEE/CVF Conference on Computer Vision and Pattern Recognition",
        year=2023,
        claims=(
            *(f"BalPoE|CIFAR-100-LT|{ratio}|ResNet-32|not stated (inferred 200)" for ratio in (10, 50, 100)),
            *(f"BalPoE|CIFAR-100-LT|{ratio}|ResNet-32|400" for ratio in (10, 50, 100)),
            "BalPoE (calibrated)|CIFAR-100-LT|100|ResNet-32|standard (200)",
            "BalPoE|CIFAR-100-LT|100|ResNet-32|standard (200)",
            "BalPoE+prior|CIFAR-100-LT|100|ResNet-32|standard (200)",
            "BalPoE mean of 5 seeds|CIFAR-100-LT|100|ResNet-32|200",
            "BalPoE mean of 5 seeds|CIFAR-100-LT|100|ResNet-32|400",
            "BalPoE M=3|CIFAR-100-LT|100|ResNet-32|long (400)",
            "BalPoE|CIFAR-10-LT|100|ResNet-32|long (400)",
            "BalPoE|ImageNet-LT|256|ResNet-50|not stated (inferred 180)",
            "BalPoE|ImageNet-LT|256|ResNet-50|400",
            "BalPoE|ImageNet-LT|256|ResNeXt-50-32x4d|not stated (inferred 180)",
            "BalPoE|ImageNet-LT|256|ResNeXt-50-32x4d|400",
            "BalPoE|ImageNet-LT|256|ResNeXt-50-32x4d|standard (180)",
            "BalPoE+prior|ImageNet-LT|256|ResNeXt-50-32x4d|standard (180)",
            "BalPoE|iNaturalist-2018|500|ResNet-50|not stated (inferred 100)",
            "BalPoE|iNaturalist-2018|500|ResNet-50|100",
            "BalPoE|iNaturalist-2018|500|ResNet-50|400",
            Claim("BalPoE-ERM (no mixup)|CIFAR-100-LT|100|ResNet-32|standard (200)", {"mixup": 0}),
            *(
                Claim(f"BalPoE M={experts}|CIFAR-100-LT|100|ResNet-32|{epochs}", {"experts": experts})
                for epochs in ("long (400)", "400")
                for experts in (1, 2, 4, 5, 6, 7)
            ),
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
                "schedule": "cosine",
                "warmup": 0.0,
                "augment": INATURALIST,
            },
        },
        checkpoint="last epoch",
        draw="Cao et al.",
    )

    def __init__(self, build: BackboneFactory, prior: ClassPrior, config: Config) -> None:
        super().__init__(build, prior, config)
        classes = len(prior.counts)
        self.register_buffer("taus", torch.stack([_per_class(tau, classes) for tau in config.taus]))
        mean = self.taus.mean(0)
        if not torch.allclose(mean, torch.ones(classes), atol=1e-4):
            message = f"the taus average to {mean.mean():.4g} and not to one: the combined prediction is biased"
            warnings.warn(message, LtbenchWarning, stacklevel=2)

    def make_network(self, build: BackboneFactory) -> ExpertNetwork:
        """One expert for each tau."""
        return build(len(self.config.taus), width=self.config.width, head=self.head)

    @property
    def logit_prior(self) -> float | None:
        """1 - the mean tau; not one number if it differs between classes."""
        mean = self.taus.mean(0)
        return 1.0 - float(mean[0]) if torch.allclose(mean, mean[0]) else None

    def forward(self, batch: Batch, progress: Progress) -> Loss:
        """The mean over experts of CE(z_m + tau_m log pi, y)."""
        logits = self.network.experts(batch.images)
        return batch.loss(lambda labels: expert_logit_adjusted_cross_entropy(logits, labels, self.log_prior, self.taus))


def _spaced(experts: Any, spread: Any) -> tuple[float, ...]:
    if not isinstance(experts, int) or experts < 1 or not isinstance(spread, int | float) or not 0 <= spread < np.inf:
        raise ValueError(f"experts must be 1, 2, ... and spread at least 0 (got {experts!r} and {spread!r})")
    taus = np.linspace(1 - spread, 1 + spread, experts) if experts > 1 else [1.0]
    return tuple(round(float(tau), 4) for tau in taus)


def _per_class(tau: float | tuple[float, ...], classes: int) -> Tensor:
    values = torch.tensor(tau, dtype=torch.float32)
    if values.ndim and len(values) != classes:
        raise ValueError(f"a tau has {len(values)} numbers for {classes} classes")
    return values.expand(classes).clone()
