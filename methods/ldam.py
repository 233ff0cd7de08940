"""LDAM: a margin for each class, larger for rarer ones."""

from torch import Tensor

from ltbench.method import Method, MethodConfig, Range, hyperparameter
from ltbench.method.losses import ldam_cross_entropy, ldam_margins


class LDAM(Method):
    """Cross entropy with a margin n_y^(-1/4) taken from the cosine of the right class, so that rare classes keep away.

    Cao et al. (NeurIPS 2019), equation 13, on a cosine head of scale 30, whatever head the recipe says. Without the
    deferred re-weighting that the authors recommend: that is ``ldam_drw``.
    """

    class Config(MethodConfig):
        largest_margin: float = hyperparameter(
            0.5, search=Range(0.1, 0.8), ge=0, le=2, description="margin of the rarest class, as a cosine"
        )

    family = "loss"
    revision = 1
    head = "cosine"
    margins: Tensor

    def __init__(self, build, prior, config):
        super().__init__(build, prior, config)
        self.register_buffer("margins", ldam_margins(prior.counts, config.largest_margin))

    def forward(self, batch, progress):
        """CE(30 (cos - m_y at y), y)."""
        logits = self.network(batch.images)
        return batch.loss(lambda labels: ldam_cross_entropy(logits, labels, self.margins))
