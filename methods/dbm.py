"""DBM: a margin on the angle, larger for rare classes and larger still for images that are got wrong."""

import torch
from torch import Tensor

from ltbench.method import Choice, Method, MethodConfig, Range, hyperparameter
from ltbench.method.losses import cross_entropy, is_target

SCALE = 30.0
"""Scale of the cosine head."""


class DBM(Method):
    """Balanced softmax, with the angle between an image and its class widened by a margin of class and difficulty.

    Son et al. (AAAI 2025), equations 6 to 9 and 11. The target's logit is s cos(theta_y + m_C + [y is got wrong] m_I),
    where the class's margin is m_C = K (n_y / n_min)^-tau, and the image's m_I = m_C (1 - cos theta_y) / 2 grows with
    its angle. To the logits the log prior is added, times ``adjustment``: 1 is the paper's DBM-BS, 0 its DBM-CE. Angles
    need the cosine head, whatever head the recipe says. Gradients flow through the margin of the image, as in the
    authors' code.

    Departures: the scale is 30, which the authors have on ImageNet-LT and iNaturalist; on CIFAR they have 32. Their
    code takes the last class for the rarest; here it is the one with fewest images. Next to an angle of 0 or pi the
    slope of the arc cosine is bounded, where theirs is infinite. DBM over DRW, BCL, NCL and GML is not here.
    """

    class Config(MethodConfig):
        margin: float = hyperparameter(
            0.1, search=Range(0.05, 0.5), ge=0, description="K, the rarest class's margin, as an angle in radians"
        )
        tau: float = hyperparameter(
            1.0,
            search=Range(0.25, 1.5),
            ge=0,
            description="exponent by which margins fall with the class count; 0 gives all classes the same margin",
        )
        adjustment: float = hyperparameter(
            1.0,
            search=Choice((0.0, 1.0)),
            ge=0,
            description="weight of the log prior: 1 for balanced softmax (DBM-BS), 0 for cross entropy (DBM-CE)",
        )

    family = "loss"
    head = "cosine"
    revision = 1
    margins: Tensor

    def __init__(self, build, prior, config):
        super().__init__(build, prior, config)
        self.register_buffer("margins", class_margins(prior.counts, config.margin, config.tau))

    def forward(self, batch, progress):
        """CE(z + adjustment log pi, y), z the logits with margins."""
        cosines = self.network(batch.images).float() / SCALE
        prior = self.config.adjustment * self.log_prior
        return batch.loss(lambda labels: cross_entropy(with_margins(cosines, labels, self.margins) + prior, labels))


def class_margins(counts: Tensor, largest: float, tau: float) -> Tensor:
    """The margins K (n / n_min)^-tau.

    Args:
        counts: (C,) images of each class.
        largest: K, in radians.
        tau: how fast they fall.

    Returns:
        (C,) float32, in radians.
    """
    return (largest * (counts.double() / counts.min()) ** -tau).float()


def with_margins(cosines: Tensor, targets: Tensor, margins: Tensor, scale: float = SCALE) -> Tensor:
    """The logits with the target's angle widened.

    Args:
        cosines: (B, C).
        targets: (B,) class indices.
        margins: (C,) in radians.
        scale: of the cosines.

    Returns:
        (B, C).
    """
    own = cosines.gather(1, targets.unsqueeze(1)).squeeze(1)
    wrong = (cosines.argmax(1) != targets).to(own.dtype)
    margin = margins[targets] * (1 + wrong * (1 - own) / 2)
    bound = 1 - torch.finfo(own.dtype).eps
    widened = torch.cos(torch.acos(own.clamp(-bound, bound)) + margin)
    return scale * torch.where(is_target(cosines, targets), widened.unsqueeze(1), cosines)
