"""Label-aware smoothing: the more images a class has, the more its labels are smoothed."""

from typing import Literal

from torch import Tensor

from ltbench.method import Method, MethodConfig, Range, hyperparameter, losses


class LabelAwareSmoothing(Method):
    """Cross entropy against smoothed labels, smoothed the more the more images a class has.

    Zhong et al. (CVPR 2021). There it is the loss of MiSLAS's second stage, on class-balanced samples of a frozen
    network; here it trains the network from the start, alone and on all images, to show what it does by itself. The
    method of the paper is ``mislas``, whose values for each data set and imbalance ratio it has.
    """

    class Config(MethodConfig):
        smooth_head: float = hyperparameter(
            0.4, search=Range(0.1, 0.6), ge=0, lt=1, description="smoothing factor of the largest class"
        )
        smooth_tail: float = hyperparameter(
            0.1, search=Range(0.0, 0.1), ge=0, lt=1, description="smoothing factor of the smallest class"
        )
        shape: Literal["concave", "linear", "convex"] = hyperparameter(
            "concave", description="shape of the smoothing factor as a function of the class count"
        )

    family = "loss"
    revision = 1
    smoothing: Tensor

    def __init__(self, build, prior, config):
        super().__init__(build, prior, config)
        factors = losses.label_aware_smoothing(prior.counts, config.smooth_head, config.smooth_tail, config.shape)
        self.register_buffer("smoothing", factors)

    def forward(self, batch, progress):
        """(1 - eps_y) (-log p_y) + eps_y mean_c(-log p_c)."""
        logits = self.network(batch.images)
        return batch.loss(lambda labels: losses.smoothed_cross_entropy(logits, labels, self.smoothing))
