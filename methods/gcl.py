"""GCL: Gaussian clouds that hold back the logits of rare classes, then a second stage for the classifier."""

from dataclasses import replace

import torch
from torch import Tensor

from ltbench.method import Method, MethodConfig, Range, Stage, StageSchedule, class_balanced, hyperparameter
from ltbench.method.losses import cross_entropy, is_target

SCALE = 30.0
"""Scale of the cosine head."""
SECOND_MARGIN, SECOND_SCALE, SECOND_FOCUS = 0.1, 20.0, 1.0
"""Margin, scale and exponent of 1 - p_y in the loss of the second stage; 0, 30 and 0 in the first."""
SECOND_RATE = 0.002
"""Initial learning rate of the second stage, whatever the recipe's; for SGD, as published."""


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
    number). The loss of each label of a mixed image has noise of its own. The authors have another loss for Places-LT,
    and their second stage goes on from the epoch that was best on the test set, here from the last.
    """

    class Config(MethodConfig):
        noise: float = hyperparameter(
            0.5,
            search=Range(0.1, 1.0),
            ge=0,
            le=1,
            description="largest cosine that the noise takes from the rarest class",
        )
        epochs: int = hyperparameter(30, ge=1, description="epochs of the second stage, in addition to the recipe's")
        mixup: float = hyperparameter(
            1.0, search=Range(0.0, 1.0), ge=0, description="alpha of mixup's Beta(alpha, alpha); 0 turns it off"
        )

    family = "two stages"
    revision = 2
    head = "cosine"
    sizes: Tensor
    margin: Tensor
    scale: Tensor
    focus: Tensor

    def __init__(self, build, prior, config):
        super().__init__(build, prior, config)
        self.register_buffer("sizes", config.noise * cloud_sizes(prior.counts))
        self.register_buffer("margin", torch.tensor(0.0))
        self.register_buffer("scale", torch.tensor(SCALE))
        self.register_buffer("focus", torch.tensor(0.0))

    def stages(self, recipe):
        rate, classifier = StageSchedule(SECOND_RATE), ("network.heads",)
        return [Stage(), Stage("classifier", self.config.epochs, classifier, schedule=rate, optimiser="new")]

    def begin(self, stage, data):
        """Turn to the loss of the second stage."""
        if stage.name == "classifier":
            self.margin.fill_(SECOND_MARGIN)
            self.scale.fill_(SECOND_SCALE)
            self.focus.fill_(SECOND_FOCUS)

    def samplers(self, labels, stage):
        usual = super().samplers(labels, stage)
        return {**usual, "main": class_balanced(labels)} if stage.name == "classifier" else usual

    def prepare(self, batch, progress):
        """Mix images and draw the noise, (B, C), as a further view; for the labels mixed in, too, if there are any."""
        batch = super().prepare(batch, progress)
        device, drawn = batch.labels.device, 1 if batch.mixed_labels is None else 2
        generator = torch.Generator(device).manual_seed(int(progress.generator("cloud").integers(2**63)))
        noise = torch.randn(drawn, len(batch.labels), len(self.sizes), generator=generator, device=device)
        return replace(batch, views=(*batch.views, *(noise / 3).abs().clamp(max=1)))

    def forward(self, batch, progress):
        """CE(s (cos - sizes |e| - m at y), y), in the second stage times 1 - p_y; one e serves both labels if alone."""
        images, *noise = batch.views
        cosines = self.network(images) / SCALE

        def per_sample(labels):
            clouded = cosines - self.sizes * noise[-1 if labels is batch.mixed_labels else 0]
            values = cross_entropy(self.scale * (clouded - self.margin * is_target(clouded, labels)), labels)
            return (-torch.expm1(-values.detach())) ** self.focus * values

        return batch.loss(per_sample)
