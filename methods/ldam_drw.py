"""LDAM-DRW: LDAM, with classes weighted late in training."""

from torch import Tensor

from ltbench.method import Range, deferred, hyperparameter
from ltbench.method.losses import effective_number_weights, ldam_cross_entropy
from ltbench_methods.ldam import LDAM


class LDAMDRW(LDAM):
    """LDAM, and for the last fifth of training each class weighted by its inverse effective number of samples.

    Cao et al. (NeurIPS 2019), equation 13 and algorithm 1; the weights are those of Cui et al. (CVPR 2019), equation 2,
    and the loss is divided by the sum of the batch's weights, as published. Learning rates fall when the weights come
    where the recipe's first milestone is at 0.8, as in the authors' and the standard recipe.
    """

    class Config(LDAM.Config):
        share: float = hyperparameter(
            0.8,
            search=Range(0.5, 0.9),
            ge=0,
            le=1,
            description="start of the re-weighting (DRW), as a fraction of the epochs",
        )
        beta: float = hyperparameter(
            0.9999,
            ge=0,
            lt=1,
            description="beta of the effective number: 0 weighs all alike, near 1 by inverse frequency",
        )

    revision = 1
    class_weights: Tensor

    def __init__(self, build, prior, config):
        super().__init__(build, prior, config)
        self.register_buffer("class_weights", self.log_prior.new_ones(len(prior.counts)))

    def stages(self, recipe):
        return deferred(recipe, self.config.share)

    def begin(self, stage, data):
        """Set the weights."""
        if stage.name == "deferred":
            self.class_weights.copy_(effective_number_weights(self.prior.counts, self.config.beta))

    def forward(self, batch, progress):
        """The weighted mean of LDAM."""
        logits = self.network(batch.images)
        return batch.loss(lambda labels: ldam_cross_entropy(logits, labels, self.margins), self.class_weights)
