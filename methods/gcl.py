"""GCL: Gaussian clouds that hold back the logits of rare classes, then a second stage for the classifier."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from ltbench.config import Recipe
from ltbench.config.recipes.augmentations import CIFAR
from ltbench.method import (
    BackboneFactory,
    Batch,
    ClassPrior,
    Loss,
    Method,
    MethodConfig,
    Paper,
    Progress,
    Range,
    Sampler,
    Schedule,
    Stage,
    StageData,
    class_balanced,
)
from ltbench.method.losses import cross_entropy, is_target

SCALE = 30.0
"""Of the cosine head."""
SECOND_MARGIN, SECOND_SCALE, SECOND_FOCUS = 0.1, 20.0, 1.0
"""Of the loss in the second stage; 0, 30 and 0 in the first."""
SECOND_RATE = 0.002
"""Learning rate that the second stage starts at, whatever the recipe's."""


def cloud_sizes(counts: Tensor) -> Tensor:
    """How far the noise reaches, from 0 for the largest class to 1 for the smallest, linear in the log count.

    Args:
        counts: (C,) images of each class.

    Returns:
        (C,) float32; zeros if all counts are equal.
    """
    sizes = counts.double().max().log() - counts.double().log()
    return (sizes / sizes.max().clamp(min=1e-12)).float()


class GCL(Method):
    """Take |noise| from every cosine, more for rarer classes, so that these keep learning; then tune the classifier.

    Li et al. (CVPR 2022): the cosine of class c loses ``noise`` |e| (log n_max - log n_c) / (log n_max - log n_min),
    e normal with standard deviation 1/3 and at most 1, on a cosine head whatever head the recipe says. Training has
    mixup in both stages. The second stage freezes the backbone and trains the classifier on balanced classes.

    Follows the authors' CIFAR scripts where these differ from the defaults of their loss and from the paper: no margin
    on the target in the first stage; the second goes on from the classifier of the first, at the rate 0.002 whatever
    the recipe's (0.1, of which their schedule takes a fiftieth), with the noise, a margin of 0.1, scale 20 and each
    loss weighted by 1 - p_y without gradient, on classes drawn with the same chance (the paper draws them by effective
    number). The loss of each label of a mixed image has noise of its own. The authors have another loss for Places-LT.
    """

    class Config(MethodConfig):
        """Noise, mixup, and the length of the second stage."""

        mixup: float = Field(1.0, ge=0, description="alpha of mixup's Beta(alpha, alpha); 0 turns it off")
        noise: float = Field(0.5, ge=0, le=1, description="largest cosine that the noise takes from the rarest class")
        epochs: int = Field(30, ge=1, description="of the second stage, beside the recipe's")

        space: ClassVar[Mapping[str, Range]] = {"noise": Range(0.1, 1.0), "mixup": Range(0.0, 1.0)}

    family = "two stages"
    revision = 2
    head = "cosine"
    config: Config
    sizes: Tensor
    margin: Tensor
    scale: Tensor
    focus: Tensor
    paper = Paper(
        title="Long-tailed Visual Recognition via Gaussian Clouded Logit Adjustment",
        authors="Mengke Li and Yiu-ming Cheung and Yang Lu",
        venue="IEEE/CVF Conference on Computer Vision and Pattern Recognition",
        year=2022,
        claims=(
            "GCL + cRT|ImageNet-LT|256|ResNet-50|see source",
            "GCL + cRT|iNaturalist-2018|500|ResNet-50|see source",
        ),
        recipes={
            "cifar": {
                "epochs": 200,
                "batch_size": 64,
                "lr": 0.1,
                "nesterov": False,
                "weight_decay": 2e-4,
                "milestones": (0.8, 0.9),
                "warmup": 0.025,
                "augment": CIFAR,
                "head": "cosine",
            }
        },
    )

    def __init__(self, build: BackboneFactory, prior: ClassPrior, config: Config) -> None:
        super().__init__(build, prior, config)
        self.register_buffer("sizes", config.noise * cloud_sizes(prior.counts))
        self.register_buffer("margin", torch.tensor(0.0))
        self.register_buffer("scale", torch.tensor(SCALE))
        self.register_buffer("focus", torch.tensor(0.0))

    def stages(self, recipe: Recipe) -> Sequence[Stage]:
        """The network, then its classifier."""
        second = Stage(
            "classifier",
            self.config.epochs,
            trains=("network.heads",),
            schedule=Schedule(SECOND_RATE),
            optimiser="new",
        )
        return (Stage(), second)

    def begin(self, stage: Stage, data: StageData) -> None:
        """Turn to the loss of the second stage."""
        if stage.name == "classifier":
            self.margin.fill_(SECOND_MARGIN)
            self.scale.fill_(SECOND_SCALE)
            self.focus.fill_(SECOND_FOCUS)

    def samplers(self, labels: Tensor, stage: Stage) -> dict[str, Sampler]:
        """Every class with the same chance in the second stage."""
        usual = super().samplers(labels, stage)
        return {**usual, "main": class_balanced(labels)} if stage.name == "classifier" else usual

    def prepare(self, batch: Batch, progress: Progress) -> Batch:
        """Mix images and draw the noise, (B, C), as a further view; for the labels mixed in, too, if there are any."""
        batch = super().prepare(batch, progress)
        device, drawn = batch.labels.device, 1 if batch.mixed_labels is None else 2
        generator = torch.Generator(device).manual_seed(int(progress.generator("cloud").integers(2**63)))
        noise = torch.randn(drawn, len(batch.labels), len(self.sizes), generator=generator, device=device)
        return replace(batch, views=(*batch.views, *(noise / 3).abs().clamp(max=1)))

    def forward(self, batch: Batch, progress: Progress) -> Loss:
        """CE(s (cos - sizes |e| - m at y), y), in the second stage times 1 - p_y; one e serves both labels if alone."""
        images, *noise = batch.views
        cosines = self.network(images) / SCALE

        def per_sample(labels: Tensor) -> Tensor:
            clouded = cosines - self.sizes * noise[-1 if labels is batch.mixed_labels else 0]
            values = cross_entropy(self.scale * (clouded - self.margin * is_target(clouded, labels)), labels)
            return (-torch.expm1(-values.detach())) ** self.focus * values

        return batch.loss(per_sample)
