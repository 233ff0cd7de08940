"""SADE's test-time aggregation: experts weighted by how steady they are on the unlabelled test images."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ltbench.method import Loss, SecondStage, Shuffled, Stage, StageSchedule, base_run, hyperparameter
from ltbench_methods.sade import SADE

SMALLEST = 5
"""Least weight, per cent: aggregation stops before a weight, rounded, falls below."""


class SADETTA(SecondStage):
    """Weights for the three experts of a SADE run, learnt on the unlabelled test images. Transductive.

    Zhang et al. (NeurIPS 2022). An expert that knows the classes of an image predicts them alike in two views of it:
    the weights maximise the cosine similarity of the aggregated predictions for two views. Nothing else is trained,
    with the recipe's first learning rate, momentum and weight decay. It stops once a weight would fall below 5 %.

    Departures: the two views are the shared "contrast" ones (SimCLR's, with a resized crop, no blur), where the
    published code, on CIFAR, pads by 4 pixels before the crop and blurs a fifth of the images. The published code
    looks at the weights after each epoch and goes on with them even if one is too small; here that is looked at
    after each step, and the last weights before it are kept. The batch size is the recipe's (published: 128).
    """

    class Config(SADE.Config):
        epochs: int = hyperparameter(5, ge=1, description="number of passes over the test images")

    family = "experts"
    first = "sade"
    revision = 1
    logit_prior = None  # not one number, as for SADE
    transductive = True
    admissible: Tensor
    running: Tensor

    def __init__(self, build, prior, config):
        super().__init__(build, prior, config)
        self.network.requires_grad_(False).eval()
        self.aggregation = nn.Parameter(torch.full((3,), 1 / 3))
        self.register_buffer("admissible", self.aggregation.detach().clone())
        self.register_buffer("running", torch.tensor(True))

    def make_network(self, build):
        return build(3, width=self.config.width, head=self.head)

    @classmethod
    def uses(cls, run):
        """The SADE run with the same settings."""
        own = {name: value for name, value in run.hyperparameters.items() if name in SADE.Config.model_fields}
        return {cls.first: base_run(run, cls.first, **own)}

    def stages(self, recipe):
        only = Stage(
            "aggregation",
            self.config.epochs,
            trains=("aggregation",),
            schedule=StageSchedule(recipe.lr, "constant"),
            views=("contrast", "contrast"),
            source="unlabelled-test",
        )
        return [only]

    def samplers(self, labels, stage):
        return {"main": Shuffled(len(labels))}

    def forward(self, batch, progress):
        """Minus the cosine similarity of the predictions for the two views."""
        with torch.no_grad():
            views = [self.network.experts(view).float() for view in batch.views]
        first, second = (self.combine(experts).softmax(1) for experts in views)
        return Loss.of(-F.cosine_similarity(first, second, dim=1, eps=1e-6))

    def after_step(self, progress):
        """Keep the weights while all are large enough; from the first time on that one is not, go back to those."""
        percent = (100 * self.aggregation.softmax(0)).round()
        self.running.logical_and_((percent >= SMALLEST).all())
        self.admissible.copy_(torch.where(self.running, self.aggregation, self.admissible))
        self.aggregation.copy_(self.admissible)

    def combine(self, experts):
        """The weighted sum of the experts' logits; the weights are positive and sum to one."""
        return (self.aggregation.softmax(0).view(-1, 1, 1) * experts).sum(0)
