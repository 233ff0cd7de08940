"""RIDE: diverse experts that are re-weighted late."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from ltbench.config import Recipe, RunConfig
from ltbench.config.recipes.augmentations import CIFAR_ROTATED, IMAGENET, INATURALIST
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
    Stage,
    StageData,
    base_run,
    deferred,
)
from ltbench.method.losses import effective_number_weights, ldam_cross_entropy, ldam_margins
from ltbench.models.experts import ExpertNetwork

TEACHER_EXPERTS = 6
DISTILL_TEMPERATURE = 1.5


class RIDE(Method):
    """Experts on a shared trunk with the LDAM loss, pushed away from their mean; re-weighted in the last fifth.

    Wang et al. (ICLR 2021). Expert m adds diversity * T^2 KL(mean || expert m) to its own LDAM loss, the mean taken
    as given; a negative factor pushes experts apart. From four fifths of training on, the LDAM loss is weighted by
    effective numbers, and the logits of rare classes have a lower temperature. Losses are summed over experts. The
    margins need the cosine head. Optionally the mean of the experts learns from a trained run with six experts.

    Departures: without the router of the second stage, which saves work and not errors; the prediction is the mean
    of all experts. ``diversity=0`` only leaves the term out; the published code then also trains the mean of the
    experts. Distillation is that of the published code: the mean of the experts' logits learns from the teacher, and
    the whole loss is multiplied by the number of experts, because the code adds it up once for each expert. The text
    of the paper was not at hand. Our teacher is in evaluation mode, and trained with this run's settings, as the
    published one for CIFAR is.
    """

    class Config(MethodConfig):
        """The experts, and what keeps them apart."""

        experts: int = Field(3, ge=2, le=8, description="how many")
        width: float = Field(0.75, gt=0, le=1, description="of the experts' stages: 0.75 as published, or 1")
        diversity: float = Field(-0.45, description="factor of the KL divergence from the mean; negative pushes apart")
        reweight: float = Field(
            0.05, ge=0, lt=1, description="how far temperatures follow class frequencies once re-weighted (eta)"
        )
        distill: bool = Field(False, description="learn from a run with six experts")

        dataset_defaults: ClassVar[DatasetDefaults] = {
            "imagenet-lt": {"diversity": -0.2, "reweight": 0.02},
            "inaturalist2018": {"diversity": -0.2, "reweight": 0.015},
        }
        space: ClassVar[Mapping[str, Range | Choice]] = {
            "diversity": Range(-0.6, 0.0),
            "reweight": Range(0.0, 0.1),
            "mixup": Range(0.0, 1.0),
        }

    family = "experts"
    revision = 1
    couples_batch = True  # two means over a batch, of different weights, are added once it is re-weighted
    gathers_across_processes = True
    head = "cosine"
    config: Config
    margins: Tensor
    class_weights: Tensor
    temperatures: Tensor
    paper = Paper(
        title="Long-Tailed Recognition by Routing Diverse Distribution-Aware Experts",
        authors="Xudong Wang and Long Lian and Zhongqi Miao and Ziwei Liu and Stella X. Yu",
        venue="International Conference on Learning Representations",
        year=2021,
        claims=(
            "RIDE 3 experts|CIFAR-100-LT|100|ResNet-32|200",
            "RIDE 3 experts after sign fix (author)|CIFAR-100-LT|100|ResNet-32|200",
            "RIDE|CIFAR-100-LT|100|ResNet-32|200",
            "RIDE|CIFAR-100-LT|100|ResNet-32|standard (200)",
            "RIDE 3 experts|ImageNet-LT|256|ResNeXt-50-32x4d|100",
            "RIDE|ImageNet-LT|256|ResNeXt-50-32x4d|90",
            "RIDE|ImageNet-LT|256|ResNeXt-50-32x4d|180",
            "RIDE|ImageNet-LT|256|ResNeXt-50-32x4d|200",
            "RIDE|ImageNet-LT|256|ResNeXt-50-32x4d|standard (180)",
            "RIDE 3 experts|iNaturalist-2018|500|ResNet-50|100",
            "RIDE|iNaturalist-2018|500|ResNet-50|100",
            Claim("RIDE 3 experts + distill|CIFAR-100-LT|100|ResNet-32|200", {"distill": True}),
            *(
                Claim(f"RIDE 4 experts + distill|{where}", {"experts": 4, "distill": True})
                for where in (
                    "CIFAR-100-LT|100|ResNet-32|200",
                    "ImageNet-LT|256|ResNeXt-50-32x4d|100",
                    "iNaturalist-2018|500|ResNet-50|100",
                    "iNaturalist-2018|500|ResNet-50|200",
                )
            ),
            *(
                Claim(f"RIDE 6-expert teacher|{where}", {"experts": 6})
                for where in (
                    "CIFAR-100-LT|100|ResNet-32|200",
                    "ImageNet-LT|256|ResNeXt-50-32x4d|100",
                    "iNaturalist-2018|500|ResNet-50|100",
                )
            ),
            Claim("RIDE 6 experts|iNaturalist-2018|500|ResNet-50|300", {"experts": 6}),
        ),
        recipes={
            "cifar": {  # with distillation the published warm-up takes 20 epochs
                "epochs": 200,
                "batch_size": 128,
                "lr": 0.1,
                "weight_decay": 5e-4,
                "milestones": (0.8, 0.9),
                "gamma": 0.01,
                "warmup": 0.025,
                "augment": CIFAR_ROTATED,
            },
            "imagenet-lt": {
                "epochs": 100,
                "batch_size": 256,
                "lr": 0.1,
                "weight_decay": 2e-4,
                "milestones": (0.6, 0.8),
                "warmup": 0.05,
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
        },
        checkpoint="last epoch",
        draw="Cao et al.",
    )

    def __init__(self, build: BackboneFactory, prior: ClassPrior, config: Config) -> None:
        super().__init__(build, prior, config)
        self.register_buffer("margins", ldam_margins(prior.counts))
        self.register_buffer("class_weights", torch.ones(len(prior.counts)))
        self.register_buffer("temperatures", torch.ones(len(prior.counts)))
        self.teacher: ExpertNetwork | None = None
        if config.distill:
            self.teacher = build(TEACHER_EXPERTS, width=config.width, head=self.head).requires_grad_(False).eval()

    def make_network(self, build: BackboneFactory) -> ExpertNetwork:
        """The experts."""
        return build(self.config.experts, width=self.config.width, head=self.head)

    @property
    def logit_prior(self) -> float | None:
        """Not known: margins and weights both lean towards the tail."""
        return None

    @classmethod
    def uses(cls, run: RunConfig) -> dict[str, RunConfig]:
        """The teacher: the same run with six experts, without distillation."""
        own = run.hyperparameters
        if not own.get("distill"):
            return {}
        return {"teacher": base_run(run, "ride", **{**own, "experts": TEACHER_EXPERTS, "distill": False})}

    def start_from(self, runs: Mapping[str, Method]) -> None:
        """Take over the teacher."""
        if self.teacher is not None:
            self.teacher.load_state_dict(runs["teacher"].network.state_dict())

    def stages(self, recipe: Recipe) -> Sequence[Stage]:
        """Re-weighting begins after four fifths of the epochs."""
        return deferred(recipe)

    def begin(self, stage: Stage, data: StageData) -> None:
        """Switch re-weighting on."""
        if stage.name == "deferred":
            self.class_weights.copy_(effective_number_weights(self.prior.counts, 0.9999))
            self.temperatures.copy_(class_temperatures(self.prior, self.config.reweight))

    def forward(self, batch: Batch, progress: Progress) -> Loss:
        """The sum over experts of LDAM and diversity, and the distillation of their mean."""
        logits = self.network.experts(batch.images).float()
        experts = logits.unbind()
        own = batch.loss(
            lambda labels: torch.stack([ldam_cross_entropy(expert, labels, self.margins) for expert in experts]).sum(0),
            self.class_weights,
        )
        # The published means differ: LDAM's by the sum of the class weights, the others' by the number of images.
        extra = self.config.diversity * diversity(logits, self.temperatures).mean()
        if self.teacher is not None:
            with torch.no_grad():
                target = self.teacher(batch.images).float()
            extra = extra + divergences(target, logits.mean(0), DISTILL_TEMPERATURE).mean()
        everyone = progress.gather(torch.as_tensor(own.weight).view(1)).sum()
        share = len(batch.labels) / len(progress.gather(batch.labels))
        factor = 1 if self.teacher is None else len(experts)
        return Loss(factor * (own.total + everyone * share * extra), own.weight)


def class_temperatures(prior: ClassPrior, reweight: float) -> Tensor:
    """Temperatures that grow with the class frequencies, C pi_c eta + 1 - eta, the largest of them one.

    Args:
        prior: class frequencies.
        reweight: eta; with 0 all are one.

    Returns:
        (C,) float32.
    """
    temperatures = len(prior.counts) * prior.probabilities * reweight + 1 - reweight
    return temperatures / temperatures.max()


def diversity(logits: Tensor, temperatures: Tensor) -> Tensor:
    """How far the experts are from their mean: T^2 KL(mean || expert), summed over experts, T the mean temperature.

    Args:
        logits: (M, B, C).
        temperatures: (C,) that divide the logits.

    Returns:
        (B,) in nats; gradients flow into the experts and not through the mean.
    """
    return divergences(logits.detach().mean(0), logits, temperatures).sum(0)


def divergences(target: Tensor, logits: Tensor, temperatures: Tensor | float) -> Tensor:
    """T^2 KL(target || expert) of softened distributions.

    Args:
        target: (B, C) logits.
        logits: (M, B, C) of the experts, or (B, C) of their mean.
        temperatures: one, or (C,); T is their mean.

    Returns:
        (M, B) or (B,) in nats.
    """
    temperatures = torch.as_tensor(temperatures, dtype=logits.dtype, device=logits.device)
    log_p = (target / temperatures).log_softmax(-1)
    log_q = (logits / temperatures).log_softmax(-1)
    return temperatures.mean().square() * (log_p.exp() * (log_p - log_q)).sum(-1)
