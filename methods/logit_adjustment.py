"""The logit adjustment loss, with any strength tau."""

from ltbench.method import Method, MethodConfig, Range, hyperparameter
from ltbench.method.losses import logit_adjusted_cross_entropy


class LogitAdjustment(Method):
    """Cross entropy of z + tau log pi.

    Menon et al. (ICLR 2021), equation 10. tau = 1 is consistent for the balanced error, and equal to balanced
    softmax; other values trade head for tail.
    """

    class Config(MethodConfig):
        tau: float = hyperparameter(
            1.0, search=Range(0.5, 2.0), description="strength of the adjustment; 0 is cross entropy"
        )

    family = "loss"
    revision = 1

    @property
    def logit_prior(self):
        return 1.0 - self.config.tau

    def forward(self, batch, progress):
        """CE(z + tau log pi, y)."""
        logits = self.network(batch.images)
        tau = self.log_prior.new_full((), self.config.tau)  # filled, not copied: a CUDA graph records no copy
        return batch.loss(lambda labels: logit_adjusted_cross_entropy(logits, labels, self.log_prior, tau))
