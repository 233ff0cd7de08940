"""LWS: one learned scale a class on the logits of a cross-entropy network."""

import torch
from torch import nn

from ltbench.method import Choice, MethodConfig, SecondStage, Stage, StageSchedule, class_balanced, hyperparameter
from ltbench.method.losses import cross_entropy


class LearnableWeightScaling(SecondStage):
    """Freeze the whole CE run and learn one scale a class for its logits, with class-balanced sampling.

    Kang et al. (ICLR 2020), "LWS": a scale f_c makes the classifier f_c w_c, so that the norms of the weights, which
    grow with the class counts, are put right while their directions stay. As in the published code the bias is
    scaled too, the scales start at 1 and decay like any weight, and the frozen batch norms go on updating their
    running statistics. On a cosine classifier, whose weights have no norms, a scale is a temperature of its class.

    Departures: as for cRT, classes are drawn at random and not in a cycle, and mixing belongs to the first stage.
    """

    class Config(MethodConfig):
        epochs: int = hyperparameter(
            5, search=Choice((5, 10, 20)), ge=1, description="epochs of the second stage, in addition to the recipe's"
        )

    family = "two stages"
    first = "ce"
    revision = 1

    def __init__(self, build, prior, config):
        super().__init__(build, prior, config)
        self.scales = nn.Parameter(torch.ones(len(prior.counts)))

    def stages(self, recipe):
        schedule = StageSchedule(recipe.lr)
        return [Stage("scales", self.config.epochs, ("scales",), frozen_norms="train", schedule=schedule)]

    def samplers(self, labels, stage):
        return {"main": class_balanced(labels)}

    def forward(self, batch, progress):
        """CE(f z, y)."""
        logits = self.predict(batch.images)
        return batch.loss(lambda labels: cross_entropy(logits, labels))

    def experts(self, images):
        """The scaled logits f_c z_c."""
        return self.network.experts(images) * self.scales
