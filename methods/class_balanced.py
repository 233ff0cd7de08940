"""Class-balanced loss: classes weighted by their inverse effective number of samples."""

from torch import Tensor

from ltbench.method import Choice, Method, MethodConfig, hyperparameter
from ltbench.method.losses import cross_entropy, effective_number_weights


class ClassBalanced(Method):
    """Cross entropy with each class weighted by (1 - beta) / (1 - beta^n), its inverse effective number of samples.

    Cui et al. (CVPR 2019), equation 2, with the softmax. The effective number is nearly n itself while n is far below
    1 / (1 - beta): up to about a thousand images a class, beta = 0.9999 is weighting by inverse frequency, and a sample
    of a rare class then counts as much as many of a frequent one, from the first step on. The loss is divided by the
    sum of the batch's weights, as in LDAM's code, and not by the number of samples as in the authors'.
    """

    class Config(MethodConfig):
        beta: float = hyperparameter(
            0.9999,
            search=Choice((0.9, 0.99, 0.999, 0.9999)),
            ge=0,
            lt=1,
            description="beta of the effective number: 0 weighs all classes alike, near 1 by inverse frequency",
        )

    family = "loss"
    revision = 1
    class_weights: Tensor

    def __init__(self, build, prior, config):
        super().__init__(build, prior, config)
        self.register_buffer("class_weights", effective_number_weights(prior.counts, config.beta))

    def forward(self, batch, progress):
        """The weighted mean of CE(z, y)."""
        logits = self.network(batch.images)
        return batch.loss(lambda labels: cross_entropy(logits, labels), self.class_weights)
