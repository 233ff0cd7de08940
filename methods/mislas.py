"""MiSLAS: mixup in the first stage, label-aware smoothing of the classifier in the second."""

import torch
from torch import Tensor, nn

from ltbench.method import MethodConfig, Range, SecondStage, Stage, StageSchedule, class_balanced, hyperparameter
from ltbench.method.losses import label_aware_smoothing, smoothed_cross_entropy


class MiSLAS(SecondStage):
    """Train with cross entropy and mixup, then the classifier on balanced classes with labels smoothed by class.

    Zhong et al. (CVPR 2021). Head classes, of which a network is over-confident, are smoothed most (the concave
    form). The second stage freezes the backbone, whose batch norms go on updating their running statistics ("shift
    learning"), trains the classifier on at a small rate, and learns one scale a class for its logits at the full rate.

    Departures: classes are drawn at random, where the published code visits them in a shuffled cycle and takes four
    images at each visit; the rate of the second stage starts at the recipe's, which is theirs (0.1) at their batch
    sizes; the last epoch counts, not the best on the test set; on Places-LT the whole network trains in the first
    stage, where theirs trains a new last block on a frozen network. The defaults are those of CIFAR-100-LT at
    imbalance ratio 100; the authors' values for its other ratios and for other data sets are filled in by themselves.
    """

    class Config(MethodConfig):
        mixup: float = hyperparameter(
            1.0,
            search=Range(0.0, 1.0),
            ge=0,
            description="alpha of mixup's Beta(alpha, alpha) in the first stage; 0 turns it off",
        )
        epochs: int = hyperparameter(10, ge=1, description="epochs of the second stage, in addition to the recipe's")
        smooth_head: float = hyperparameter(
            0.4, search=Range(0.1, 0.5), ge=0, le=1, description="smoothing factor of the largest class"
        )
        smooth_tail: float = hyperparameter(0.1, ge=0, le=1, description="smoothing factor of the smallest class")
        lr_factor: float = hyperparameter(
            0.2,
            search=Range(0.05, 0.5, log=True),
            gt=0,
            description="factor of the classifier's learning rate in the second stage",
        )
        shift_norms: bool = hyperparameter(
            True, description="whether batch norms update their statistics in the second stage"
        )

    family = "two stages"
    first = "ce"
    revision = 1
    smoothing: Tensor

    def __init__(self, build, prior, config):
        super().__init__(build, prior, config)
        self.scales = nn.Parameter(torch.ones(len(prior.counts)))
        smoothing = label_aware_smoothing(prior.counts, config.smooth_head, config.smooth_tail)
        self.register_buffer("smoothing", smoothing)

    def stages(self, recipe):
        second = Stage(
            "classifier",
            self.config.epochs,
            trains=("network.heads", "scales"),
            frozen_norms="train" if self.config.shift_norms else "eval",
            lr_scale={"network.heads": self.config.lr_factor},
            schedule=StageSchedule(recipe.lr),
        )
        return [second]

    def samplers(self, labels, stage):
        return {"main": class_balanced(labels)}

    def forward(self, batch, progress):
        """(1 - eps_y) CE(f z, y) + eps_y mean over classes of CE(f z, c)."""
        logits = self.predict(batch.images)
        return batch.loss(lambda labels: smoothed_cross_entropy(logits, labels, self.smoothing))

    def experts(self, images):
        """The scaled logits f_c z_c, with one scale f_c per class."""
        return self.network.experts(images) * self.scales
