"""Tau-normalisation: a cross-entropy classifier whose weight vectors are brought nearer to one length."""

import torch
from torch import Tensor

from ltbench.method import Range, SecondStage, SelectedTau, best_tau, hyperparameter, need_validation
from ltbench.method.losses import cross_entropy
from ltbench.models.heads import float32_linear


class TauNormalisation(SecondStage):
    """Train with cross entropy, predict with each class's weights over their norm to the power tau, without bias.

    Kang et al. (ICLR 2020), "tau-normalized": the norms of a linear classifier's weights grow with the class counts;
    w_c / ||w_c||^tau leaves them for tau = 0 and makes them equal for tau = 1. Nothing more is trained. The scale of
    the logits, and so their calibration, changes with tau.

    It needs weights with norms, so whatever the recipe says its head is linear and it starts from a CE run with a
    linear head, another one than that of a table whose recipe has the cosine head.

    Departure: tau is 1 unless ``select_tau`` chooses it on the validation part; the published code prints the
    accuracies for all tau from 0 to 2, and its authors chose on ImageNet-LT's validation set (iNaturalist has none).
    """

    class Config(SelectedTau):
        tau: float = hyperparameter(
            1.0,
            search=Range(0.0, 2.0),
            ge=0,
            description="strength of the normalisation; 0 is cross entropy without bias",
        )
        select_tau: bool = hyperparameter(
            False, description="whether to choose tau, from 0 to 2 by 0.1, by macro accuracy on the validation part"
        )

    family = "two stages"
    first = "ce"
    revision = 1
    head = "linear"
    tau: Tensor

    def __init__(self, build, prior, config):
        super().__init__(build, prior, config)
        self.network.heads[0].register_parameter("bias", None)
        self.register_buffer("tau", self.log_prior.new_tensor(config.tau))

    @classmethod
    def uses(cls, run):
        """The cross-entropy run with the same settings, among them the linear head."""
        need_validation(run, "select_tau")
        return super().uses(run)

    def start_from(self, runs):
        state = runs["ce"].network.state_dict()
        self.network.load_state_dict({name: value for name, value in state.items() if name != "heads.0.bias"})

    def stages(self, recipe):
        return ()

    def forward(self, batch, progress):
        """Cross entropy of the prediction."""
        logits = self.predict(batch.images)
        return batch.loss(lambda labels: cross_entropy(logits, labels))

    def select(self, validation):
        """Choose the tau of the best macro accuracy; of equals the one nearest to 1."""
        if not self.config.select_tau:
            return {}
        features = torch.cat([self.network.features(batch.images)[0].float() for batch in validation.eval_batches()])
        chosen = best_tau(lambda tau: self._logits(features, tau), validation.labels, largest=2)
        self.tau.fill_(chosen)
        return {"tau": chosen}

    def experts(self, images):
        """The features times w_c / |w_c|^tau."""
        return self._logits(self.network.features(images), self.tau)

    def _logits(self, features: Tensor, tau: Tensor | float) -> Tensor:
        weight = self.network.heads[0].weight
        assert isinstance(weight, Tensor)
        return float32_linear(features, weight / weight.norm(dim=1, keepdim=True) ** tau)
