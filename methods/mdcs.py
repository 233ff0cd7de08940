"""MDCS: experts of different leanings, each learning from its own confident answers."""

from collections.abc import Callable

import torch
from torch import Tensor

from ltbench.method import Method, MethodConfig, Range, hyperparameter
from ltbench.method.losses import cross_entropy

WARMUP = 0.05
"""Share of training over which the distillation grows to its full weight: 20 of 400 epochs."""


class MDCS(Method):
    """Experts with logit-adjusted losses of different strength; on strong views each imitates itself on weak ones.

    Zhao et al. (ICCV 2023). Expert m is trained with CE(z_m + tau_m log n) on both views of an image, and where it
    is right about the weak view, its adjusted prediction for the strong view is drawn to that for the weak one
    (stop-gradient). Losses are summed over experts, and averaged over the two views. All formulas and
    constants were read in the published code; the paper's text was not at hand.

    Why MDCS and not SHIKE, of 2023's expert methods: its form is BalPoE's, logit-adjusted experts on a shared trunk,
    and it needs no other network. SHIKE fuses features of different depths in a network of its own.

    Departures: the published strong view is AutoAugment with Cutout; under the shared recipe it is the "contrast"
    view (SimCLR's), and ``--recipe paper`` has the published ones, but for iNaturalist, where one alone is published.
    The weight of the distillation grows from step to step, not from epoch to epoch, over a twentieth of training, as 20
    epochs are of the published 400.
    """

    class Config(MethodConfig):
        taus: tuple[float, ...] = hyperparameter(
            (-0.5, 1.0, 2.5), min_length=1, description="tau of each expert, the strength of its logit adjustment"
        )
        distill: float = hyperparameter(
            0.6, search=Range(0.0, 2.0), ge=0, description="weight of the distillation from weak to strong views"
        )
        width: float = hyperparameter(
            0.75, gt=0, le=1, description="width of the experts' stages: 0.75 as published, or 1"
        )

    family = "experts"
    revision = 1
    views = ("train", "contrast")
    couples_batch = True  # the distillation is averaged over those images of a batch of which an expert is right
    gathers_across_processes = True
    taus: Tensor

    def __init__(self, build, prior, config):
        super().__init__(build, prior, config)
        self.register_buffer("taus", torch.tensor(config.taus))

    def make_network(self, build):
        return build(len(self.config.taus), width=self.config.width, head=self.head)

    @property
    def logit_prior(self):
        return 1.0 - float(self.taus.mean())

    def forward(self, batch, progress):
        """The sum over experts of both views' logit-adjusted losses and the distillation between the views."""
        # One pass for both views, so that they share the statistics of batch norms, as published.
        logits = self.network.experts(torch.cat(batch.views)) + self.taus.view(-1, 1, 1) * self.log_prior
        weak, strong = logits.chunk(2, dim=1)
        factor = self.config.distill * (progress.stage_fraction / WARMUP).clamp(max=1)

        def per_sample(labels):
            return supervised(weak, strong, labels) + factor * self_distillation(weak, strong, labels, progress.gather)

        return batch.loss(per_sample)


def supervised(weak: Tensor, strong: Tensor, targets: Tensor) -> Tensor:
    """The cross entropy, summed over experts and averaged over the two views.

    Args:
        weak: (M, B, C) adjusted logits of the weak view.
        strong: likewise, of the strong one.
        targets: (B,) class indices.

    Returns:
        (B,) in nats.
    """
    views = (view for expert in zip(weak, strong, strict=True) for view in expert)
    return torch.stack([cross_entropy(view, targets) for view in views]).sum(0) / 2


def self_distillation(
    weak: Tensor, strong: Tensor, targets: Tensor, gather: Callable[[Tensor], Tensor] = lambda own: own
) -> Tensor:
    """KL(weak || strong) where the expert is right about the weak view, which gets no gradient; summed over experts.

    Args:
        weak: (M, B, C) adjusted logits of the weak view.
        strong: likewise, of the strong one.
        targets: (B,) class indices.
        gather: puts a tensor of this process together with those of others, whose images count as well.

    Returns:
        (B,) in nats: the mean over a batch is, for each expert, that over the images which it has right.
    """
    teacher = weak.detach().float().log_softmax(2)
    divergence = (teacher.exp() * (teacher - strong.float().log_softmax(2))).sum(2)
    right = (teacher.argmax(2) == targets).to(divergence.dtype)
    everyone = gather(right.T)
    share = everyone.mean(0).clamp(min=1 / len(everyone)).unsqueeze(1)
    return (divergence * right / share).sum(0)
