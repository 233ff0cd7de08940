"""SADE: three experts for long-tailed, balanced and reversed class frequencies."""

import torch
from torch import Tensor

from ltbench.method import Method, MethodConfig, Range, hyperparameter
from ltbench.method.losses import cross_entropy


class SADE(Method):
    """Three experts on a shared trunk, skilled at the head, at all classes and at the tail; their logits averaged.

    The first expert has the cross entropy, the second the balanced softmax, and the third a softmax adjusted by
    log pi - tau log pi~, where pi~ is the prior with its ranks reversed. Zhang et al. (NeurIPS 2022). The loss is the
    sum over experts (not the mean, as for BalPoE); the experts have three quarters of the width.

    Departures: log pi stands for the published log(pi + 1e-9), which differs by less than 0.001 for a class with one
    image in a million. Test-time aggregation, which looks at the test images, is a method of its own: ``sade_tta``.
    """

    class Config(MethodConfig):
        tau: float = hyperparameter(
            2.0, search=Range(0.5, 3.0), ge=0, description="strength of the reversed prior in the third expert's loss"
        )
        width: float = hyperparameter(
            0.75, gt=0, le=1, description="width of the experts' stages: 0.75 as published, or 1"
        )

    family = "experts"
    revision = 1
    logit_prior = None  # not one number: the third expert's prior is a permutation of the training prior
    adjustments: Tensor

    def __init__(self, build, prior, config):
        super().__init__(build, prior, config)
        balanced = self.log_prior
        adjustments = [torch.zeros_like(balanced), balanced, balanced - config.tau * rank_reversed(balanced)]
        self.register_buffer("adjustments", torch.stack(adjustments))

    def make_network(self, build):
        return build(3, width=self.config.width, head=self.head)

    def forward(self, batch, progress):
        """The sum over experts of CE(z_m + adjustment_m, y)."""
        logits = self.network.experts(batch.images)
        return batch.loss(lambda labels: sade_loss(logits, labels, self.adjustments))


def rank_reversed(values: Tensor) -> Tensor:
    """The same values, the largest where the smallest was and so on."""
    order = values.argsort(stable=True)
    turned = torch.empty_like(values)
    turned[order] = values[order].flip(0)
    return turned


def sade_loss(logits: Tensor, targets: Tensor, adjustments: Tensor) -> Tensor:
    """The sum over experts of each one's adjusted cross entropy.

    Args:
        logits: (M, B, C).
        targets: (B,) class indices.
        adjustments: (M, C) added to the logits of each expert.

    Returns:
        (B,) in nats.
    """
    return torch.stack(
        [cross_entropy(own + adjustment, targets) for own, adjustment in zip(logits, adjustments, strict=True)]
    ).sum(0)
