"""GLMC: two mixes of the same images, whose features must agree, and a loss that turns to the tail in training."""

import math
from copy import deepcopy
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import model_validator
from torch import Tensor

from ltbench.method import Method, MethodConfig, Range, Shuffled, Weighted, hyperparameter
from ltbench.method.losses import cross_entropy
from ltbench.models.heads import linear


class GLMC(Method):
    """Blend one view of an image with another image, paste a box of it into a second view, and draw the two together.

    Du et al. (CVPR 2023), "global and local mixture consistency cumulative learning". Both views have the same two
    labels with the same weight lambda ~ Beta(alpha, alpha), of which the box covers 1 - lambda. Of two classifiers on
    the same features one has the cross entropy, weighted by a = 1 - (share of training done)^2, and the other the cross
    entropy with classes weighted by n^-label_exponent, by 1 - a: the loss turns from the images to the classes as
    training goes on. The second predicts. Beside them, what a small head predicts from the projection of one view is
    drawn to the projection of the other (SimSiam's loss: a negative cosine with stop-gradient, both ways).

    As in the published code, what is mixed in is drawn by n^-sampling_exponent of its class, the box's share of the
    label is 1 - lambda even where the border cuts it off, and both mixes have one lambda. The defaults are those for
    CIFAR-100-LT at imbalance ratio 100. Figures of the paper are of ``--backbone cifar_resnet32_wide``, whose channels
    are 64, 128 and 256; the authors fine-tune some of them by weight balancing's MaxNorm, which is not here.

    Boxes need images. With ``cutmix=0`` the second view is blended like the first, which frozen features can be.

    Departures: the two classifiers start alike; the share of training grows from step to step, and not from epoch to
    epoch; the published images are drawn otherwise, for the paper's figures even with replacement.
    """

    class Config(MethodConfig):
        mixup: float = hyperparameter(
            1.0,
            search=Range(0.2, 1.0),
            ge=0,
            description="alpha of the Beta(alpha, alpha) that gives the weight of both mixes; 0 turns them off",
        )
        cutmix: float | None = hyperparameter(
            1.0,
            ge=0,
            le=1,
            multiple_of=1,
            description="1: the second view gets a box of the other image; 0: it is blended with it, too",
        )
        consistency: float = hyperparameter(
            4.0,
            search=Range(1.0, 10.0, log=True),
            ge=0,
            description="weight of the consistency loss between the two views",
        )
        label_exponent: float = hyperparameter(
            1.2, search=Range(0.5, 1.5), ge=0, description="exponent of the class weights; 1: by inverse frequency"
        )
        sampling_exponent: float = hyperparameter(
            0.0,
            search=Range(0.0, 1.0),
            ge=0,
            description="exponent of the sampler of the images mixed in; 0: each image alike, 1: each class alike",
        )

        @model_validator(mode="after")
        def _refuse_other_mixes(self):
            """Other mixes would be ignored."""
            if self.cmo or self.remix:
                raise ValueError("GLMC has mixes of its own, beside which cmo and remix cannot be set")
            return self

    family = "mixing"
    revision = 1
    views = ("train", "train")
    class_weights: Tensor

    def __init__(self, build, prior, config):
        super().__init__(build, prior, config)
        features = self.network.num_features
        hidden = 128 if features <= 256 else 256
        self.conventional = deepcopy(self.network.heads[0])
        self.projection, self.prediction = linear(features, hidden), linear(hidden, hidden)
        self.register_buffer("class_weights", frequency_weights(prior.counts, config.label_exponent))

    def samplers(self, labels, stage):
        chances = frequency_weights(self.prior.counts, self.config.sampling_exponent)
        return {"main": Shuffled(len(labels)), "other": Weighted(chances[labels])}

    def prepare(self, batch, progress):
        """Blend the first view with that of the other images, and paste a box of theirs into the second."""
        if not self.config.mixup:
            return batch
        generator, other = progress.generator("glmc"), batch.streams["other"]
        weight = float(generator.beta(self.config.mixup, self.config.mixup))
        (first, second), (other_first, other_second) = batch.views, other.views
        if self.config.cutmix:
            second = pasted(second, other_second, weight, generator)
        else:
            second = blended(second, other_second, weight)
        views = (blended(first, other_first, weight), second)
        share = torch.tensor(weight, dtype=torch.float32, device=batch.labels.device)
        return replace(batch, views=views, mixed_labels=other.labels, weight=share)

    def forward(self, batch, progress):
        """Sum over views of a CE(z, y) + (1 - a) w_y CE(z', y), and the consistency."""
        features = [self.network.features(view)[0] for view in batch.views]
        conventional = [self.conventional(own) for own in features]
        balanced = [self.network.heads[0](own) for own in features]
        projected = [self.projection(own) for own in features]
        first, second = projected
        disagreement = -agreement(self.prediction(first), second) - agreement(self.prediction(second), first)
        early = 1 - progress.stage_fraction.to(first.device) ** 2

        def per_sample(labels):
            usual, weighted = (
                torch.stack([cross_entropy(logits, labels) for logits in views]).sum(0)
                for views in (conventional, balanced)
            )
            classified = early * usual + (1 - early) * self.class_weights[labels] * weighted
            return classified + self.config.consistency * disagreement

        return batch.loss(per_sample)


def frequency_weights(counts: Tensor, exponent: float) -> Tensor:
    """Weights n^-exponent of the classes, summing to C.

    Args:
        counts: (C,) images of each class.
        exponent: 0 weighs all classes alike, 1 by inverse frequency.

    Returns:
        (C,) float32.
    """
    weights = counts.double() ** -exponent
    return (weights / weights.sum() * len(counts)).float()


def agreement(prediction: Tensor, projection: Tensor) -> Tensor:
    """The cosine between (B, D) predictions and projections; gradients flow into the first alone.

    Returns:
        (B,).
    """
    return F.cosine_similarity(prediction.float(), projection.detach().float(), dim=1)


def blended(images: Tensor, others: Tensor, weight: float) -> Tensor:
    """The mixed images, weight x + (1 - weight) x'."""
    return torch.lerp(others, images, weight)


def pasted(images: Tensor, others: Tensor, weight: float, generator: np.random.Generator) -> Tensor:
    """Images with a box of others, which covers 1 - weight of them where no border cuts it off.

    Args:
        images: (B, channels, H, W).
        others: as many.
        weight: fraction of the area that the images keep.
        generator: draws the centre.
    """
    top, left = (_span(length, math.sqrt(1 - weight), generator) for length in images.shape[2:])
    found = images.clone()
    found[:, :, top, left] = others[:, :, top, left]
    return found


def _span(length: int, side: float, generator: np.random.Generator) -> slice:
    half, centre = math.ceil(length * side) // 2, int(generator.integers(length))
    return slice(max(0, centre - half), min(length, centre + half))
