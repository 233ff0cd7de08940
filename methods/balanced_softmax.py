"""Balanced softmax: the class counts go into the softmax of the training loss."""

from ltbench.method import Method
from ltbench.method.losses import logit_adjusted_cross_entropy


class BalancedSoftmax(Method):
    """Cross entropy of z + log n, so that the bare logits z belong to a balanced test set.

    Ren et al. (NeurIPS 2020), theorem 1. Equal to the logit adjustment loss with tau = 1; listed under its own
    name because papers do. BalPoE with one expert is this with mixup. The authors' warm-up for CIFAR starts at half of
    the rate, that of ``--recipe paper`` near zero.
    """

    family = "loss"
    revision = 1
    logit_prior = 0.0  # the training prior is taken out of the logits

    def forward(self, batch, progress):
        """CE(z + log pi, y)."""
        logits = self.network(batch.images)
        one = self.log_prior.new_ones(())
        return batch.loss(lambda labels: logit_adjusted_cross_entropy(logits, labels, self.log_prior, one))
