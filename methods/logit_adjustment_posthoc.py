"""Post-hoc logit adjustment: the prior is subtracted from a cross-entropy network's logits."""

import torch
from torch import Tensor

from ltbench.method import Range, SecondStage, SelectedTau, best_tau, hyperparameter, need_validation
from ltbench.method.losses import cross_entropy


class LogitAdjustmentPosthoc(SecondStage):
    """Train with cross entropy, predict with z - tau log pi. Starts from the CE run and trains nothing.

    Menon et al. (ICLR 2021), equation 9. Probabilities are the softmax of the adjusted logits.
    """

    class Config(SelectedTau):
        tau: float = hyperparameter(
            1.0, search=Range(0.5, 2.0), description="strength of the adjustment; 0 is cross entropy"
        )
        select_tau: bool = hyperparameter(
            False, description="whether to choose tau, from 0 to 3 by 0.1, by macro accuracy on the validation part"
        )

    family = "two stages"
    first = "ce"
    revision = 1
    tau: Tensor

    def __init__(self, build, prior, config):
        super().__init__(build, prior, config)
        self.register_buffer("tau", self.log_prior.new_tensor(config.tau))

    @property
    def logit_prior(self):
        return 1.0 - float(self.tau)

    @classmethod
    def uses(cls, run):
        """The cross-entropy run with the same settings."""
        need_validation(run, "select_tau")
        return super().uses(run)

    def stages(self, recipe):
        return ()

    def forward(self, batch, progress):
        """The loss of the run that this one starts from."""
        logits = self.network(batch.images)
        return batch.loss(lambda labels: cross_entropy(logits, labels))

    def select(self, validation):
        """Choose the tau of the best macro accuracy; of equals the one nearest to 1."""
        if not self.config.select_tau:
            return {}
        logits = torch.cat([self.network(batch.images).float() for batch in validation.eval_batches()])
        chosen = best_tau(lambda tau: logits - tau * self.log_prior, validation.labels, largest=3)
        self.tau.fill_(chosen)
        return {"tau": chosen}

    def combine(self, experts):
        """The adjusted logits z - tau log pi."""
        return experts.mean(0) - self.tau * self.log_prior
