"""DisAlign: the logits of a cross-entropy network, moved by class as far as the image asks for it."""

import torch
from torch import Tensor, nn

from ltbench.method import MethodConfig, Range, SecondStage, Stage, StageSchedule, hyperparameter
from ltbench.method.losses import cross_entropy


class DisAlign(SecondStage):
    """Freeze the whole CE run and learn to shift and scale its logits by class, with a weight from the image.

    Zhang et al. (CVPR 2021): z' = (1 + g a) z + g b with a magnitude a and a margin b for each class and a confidence
    g = sigmoid(w x + w_0) of the features x, as in the classification layer of the authors' code (cvpods), which made
    their figure for ImageNet-LT. There a starts at 1, b at 0 and w at 0.1, with which g begins near 1 on non-negative
    features and z' near 2 z; weight decay draws a and b to 0, where z' = z. The loss is cross entropy with generalised
    re-weighting, classes weighted by (1 / pi)^rho. Images are drawn uniformly, and the frozen batch norms go on
    updating their running statistics. The second stage starts at the recipe's rate; theirs, too, is that of the first
    stage.

    Departures: the authors' segmentation code has (1 - g) z + g (a z + b), which is the same family with a - 1 for a
    and starts at z. On a cosine classifier g is of the features as they are, where their layer normalises them first.
    Mixing belongs to the first stage.
    """

    class Config(MethodConfig):
        rho: float = hyperparameter(
            1.2, search=Range(0.5, 2.0), ge=0, description="exponent of the class weights; 0 weighs all classes alike"
        )
        epochs: int = hyperparameter(10, ge=1, description="epochs of the second stage, in addition to the recipe's")

    family = "two stages"
    first = "ce"
    revision = 2
    class_weights: Tensor

    def __init__(self, build, prior, config):
        super().__init__(build, prior, config)
        classes = len(prior.counts)
        self.magnitude = nn.Parameter(torch.ones(classes))
        self.margin = nn.Parameter(torch.zeros(classes))
        self.confidence = nn.Linear(self.network.num_features, 1)
        nn.init.constant_(self.confidence.weight, 0.1)
        self.register_buffer("class_weights", generalised_weights(prior.counts, config.rho))

    def stages(self, recipe):
        trains, schedule = ("magnitude", "margin", "confidence"), StageSchedule(recipe.lr)
        return [Stage("alignment", self.config.epochs, trains, frozen_norms="train", schedule=schedule)]

    def forward(self, batch, progress):
        """CE(z', y), each sample weighted by its class."""
        logits = self.predict(batch.images)
        return batch.loss(lambda labels: cross_entropy(logits, labels), self.class_weights)

    def experts(self, images):
        """The aligned logits z'."""
        features = self.network.features(images)
        confidence = torch.sigmoid(self.confidence(features))
        return aligned(self.network.classify(features), confidence, self.magnitude, self.margin)


def aligned(logits: Tensor, confidence: Tensor, magnitude: Tensor, margin: Tensor) -> Tensor:
    """(1 + g a) z + g b.

    Args:
        logits: (..., C), z.
        confidence: (..., 1), g.
        magnitude: (C,), a.
        margin: (C,), b.
    """
    return (1 + confidence * magnitude) * logits + confidence * margin


def generalised_weights(counts: Tensor, rho: float) -> Tensor:
    """Class weights (1 / pi)^rho, summing to C.

    Args:
        counts: (C,) images of each class.
        rho: 0 weighs all classes alike, 1 by inverse frequency.

    Returns:
        (C,) float32.
    """
    weights = (counts.double() / counts.sum()) ** -rho
    return (weights / weights.sum() * len(counts)).float()
