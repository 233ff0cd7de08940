"""MDCS: experts of different leanings, each learning from its own confident answers."""

from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from ltbench.config.recipes.augmentations import (
    CIFAR_AUTOAUGMENT_CUTOUT,
    CIFAR_ROTATED,
    IMAGENET,
    IMAGENET_RANDAUGMENT,
    INATURALIST,
)
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
from ltbench.method.losses import cross_entropy
from ltbench.models.experts import ExpertNetwork

WARMUP = 0.05
"""Share of training over which the distillation grows to its full weight: 20 of 400 epochs."""


class MDCS(Method):
    """Experts with logit-adjusted losses of different strength; on strong views each imitates itself on weak ones.

    Zhao et al. (ICCV 2023). Expert m is trained with CE(z_m + tau_m log n) on both views of an image, and where it
    is right about the weak view, its adjusted prediction for the strong view is drawn to that for the weak one,
    which is taken as given. Losses are summed over experts, and averaged over the two views. All formulas and
    constants were read in the published code; the paper's text was not at hand.

    Why MDCS and not SHIKE, of 2023's expert methods: its form is BalPoE's, logit-adjusted experts on a shared trunk,
    and it needs no other network. SHIKE fuses features of different depths in a network of its own.

    Departures: the published strong view is AutoAugment with Cutout; under the shared recipe it is the "contrast"
    view (SimCLR's), and ``--recipe paper`` has the published ones, but for iNaturalist, where one alone is published.
    The weight of the distillation grows from step to step, not from epoch to epoch, over a twentieth of training, as 20
    epochs are of the published 400.
    """

    class Config(MethodConfig):
        """The experts' strengths, and the distillation."""

        taus: tuple[float, ...] = Field((-0.5, 1.0, 2.5), min_length=1, description="strengths, one an expert")
        distill: float = Field(0.6, ge=0, description="weight of the distillation")
        width: float = Field(0.75, gt=0, le=1, description="of the experts' stages: 0.75 as published, or 1")

        dataset_defaults: ClassVar[DatasetDefaults] = {"places-lt": {"width": 1.0}}
        space: ClassVar[Mapping[str, Range | Choice]] = {"distill": Range(0.0, 2.0), "mixup": Range(0.0, 1.0)}

    family = "experts"
    revision = 1
    views = ("train", "contrast")
    couples_batch = True  # the distillation is averaged over those images of a batch of which an expert is right
    gathers_across_processes = True
    config: Config
    taus: Tensor
    paper = Paper(
        title="MDCS: More Diverse Experts with Consistency Self-distillation for Long-tailed Recognition",
        authors="Qihao Zhao and Chen Jiang and Wei Hu and Fan Zhang and Jun Liu",
        venue="IEEE/CVF International Conference on Computer Vision",
        year=2023,
        recipes={
            "cifar": {
                "epochs": 400,
                "batch_size": 64,
                "lr": 0.1,
                "weight_decay": 5e-4,
                "milestones": (0.5, 0.8, 0.95),
                "warmup": 0.025,
                "augment": CIFAR_ROTATED,
                "contrast": CIFAR_AUTOAUGMENT_CUTOUT,
            },
            "imagenet-lt": {
                "epochs": 400,
                "batch_size": 256,
                "lr": 0.1,
                "weight_decay": 5e-4,
                "schedule": "cosine",
                "warmup": 0.0,
                "augment": IMAGENET,
                "contrast": IMAGENET_RANDAUGMENT,
            },
            "inaturalist2018": {  # the published loader makes one view, this; no second one is published
                "epochs": 400,
                "batch_size": 512,
                "lr": 0.2,
                "weight_decay": 2e-4,
                "milestones": (0.5, 0.75, 0.95),
                "warmup": 0.0125,
                "augment": INATURALIST,
            },
            "places-lt": {  # of a pre-trained network, whose own layers have a tenth of this rate there
                "epochs": 30,
                "batch_size": 64,
                "lr": 0.01,
                "weight_decay": 4e-4,
                "milestones": (1 / 3, 2 / 3),
                "warmup": 0.0,
                "augment": IMAGENET,
                "contrast": IMAGENET_RANDAUGMENT,
            },
        },
    )

    def __init__(self, build: BackboneFactory, prior: ClassPrior, config: Config) -> None:
        super().__init__(build, prior, config)
        self.register_buffer("taus", torch.tensor(config.taus))

    def make_network(self, build: BackboneFactory) -> ExpertNetwork:
        """One expert for each tau."""
        return build(len(self.config.taus), width=self.config.width, head=self.head)

    @property
    def logit_prior(self) -> float:
        """1 - the mean tau: expert m learns p(x|y) pi^(1 - tau_m), and the distillation draws it to itself."""
        return 1.0 - float(self.taus.mean())

    def forward(self, batch: Batch, progress: Progress) -> Loss:
        """The sum over experts of both views' logit-adjusted losses and the distillation between the views."""
        # One pass for both views, so that they share the statistics of batch norms, as published.
        logits = self.network.experts(torch.cat(batch.views)) + self.taus.view(-1, 1, 1) * self.log_prior
        weak, strong = logits.chunk(2, dim=1)
        factor = self.config.distill * (progress.fraction / WARMUP).clamp(max=1)

        def per_sample(labels: Tensor) -> Tensor:
            return supervised(weak, strong, labels) + factor * self_distillation(weak, strong, labels, progress.gather)

        return batch.loss(per_sample)


def supervised(weak: Tensor, strong: Tensor, targets: Tensor) -> Tensor:
    """The cross entropy, summed over experts and averaged over the two views.

    Args:
        weak: (M, B, C) adjusted logits of the weak view.
        strong: likewise, of the strong one.
        targets: (B,) class indices.

    Returns:
        (B,) in nats.
    """
    views = (view for expert in zip(weak, strong, strict=True) for view in expert)
    return torch.stack([cross_entropy(view, targets) for view in views]).sum(0) / 2


def self_distillation(
    weak: Tensor, strong: Tensor, targets: Tensor, gather: Callable[[Tensor], Tensor] = lambda own: own
) -> Tensor:
    """KL(weak || strong) where the expert is right about the weak view, which gets no gradient; summed over experts.

    Args:
        weak: (M, B, C) adjusted logits of the weak view.
        strong: likewise, of the strong one.
        targets: (B,) class indices.
        gather: puts a tensor of this process together with those of others, whose images count as well.

    Returns:
        (B,) in nats: the mean over a batch is, for each expert, that over the images which it has right.
    """
    teacher = weak.detach().float().log_softmax(2)
    divergence = (teacher.exp() * (teacher - strong.float().log_softmax(2))).sum(2)
    right = (teacher.argmax(2) == targets).to(divergence.dtype)
    everyone = gather(right.T)
    share = everyone.mean(0).clamp(min=1 / len(everyone)).unsqueeze(1)
    return (divergence * right / share).sum(0)
