"""Post-hoc logit adjustment: the prior is subtracted from a cross-entropy network's logits."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from ltbench.config import Recipe, RunConfig
from ltbench.errors import LtbenchError
from ltbench.evaluate.accuracy import macro_accuracy
from ltbench.losses import cross_entropy
from ltbench.method import (
    BackboneFactory,
    Batch,
    Choice,
    ClassPrior,
    Loss,
    Method,
    MethodConfig,
    Progress,
    Range,
    Stage,
    StageData,
    base_run,
)
from ltbench_methods.logit_adjustment import LogitAdjustment


class LogitAdjustmentPosthoc(Method):
    """Train with cross entropy, predict with z - tau log pi. Starts from the CE run and trains nothing.

    Menon et al. (ICLR 2021), equation 9. Probabilities are the softmax of the adjusted logits.
    """

    class Config(MethodConfig):
        """tau, and the mixup of the cross-entropy run."""

        tau: float = Field(1.0, description="strength of the adjustment; 0 is cross entropy")
        select_tau: bool = Field(
            False, description="choose tau by macro accuracy on the validation part (0 to 3 by 0.1)"
        )

        space: ClassVar[Mapping[str, Range | Choice]] = {"tau": Range(0.5, 2.0), "mixup": Range(0.0, 1.0)}

    family = "two stages"
    revision = 1
    config: Config
    tau: Tensor
    paper = replace(LogitAdjustment.paper, claims=("LA post-hoc|CIFAR-100-LT|100|ResNet-32|1419|acc|all",))

    def __init__(self, build: BackboneFactory, prior: ClassPrior, config: Config) -> None:
        super().__init__(build, prior, config)
        self.register_buffer("tau", self.log_prior.new_tensor(config.tau))

    @property
    def logit_prior(self) -> float:
        """1 - tau of the training prior is left in the logits."""
        return 1.0 - float(self.tau)

    @classmethod
    def uses(cls, run: RunConfig) -> dict[str, RunConfig]:
        """The cross-entropy run with the same settings."""
        if run.hyperparameters.get("select_tau") and not run.validation:
            raise LtbenchError(
                "there are no validation images to choose tau on",
                where="--set select_tau=true",
                hint="add --validation, which holds out a fifth of the training images",
            )
        return {"ce": base_run(run, "ce")}

    def start_from(self, runs: Mapping[str, Method]) -> None:
        """Take over the network."""
        self.network.load_state_dict(runs["ce"].network.state_dict())

    def stages(self, recipe: Recipe) -> Sequence[Stage]:
        """Nothing to train."""
        return ()

    def forward(self, batch: Batch, at: Progress) -> Loss:
        """The loss of the run that this one starts from."""
        logits = self.network(batch.images)
        return batch.loss(lambda labels: cross_entropy(logits, labels))

    def select(self, validation: StageData) -> Mapping[str, float]:
        """Choose the tau of the best macro accuracy; of equals the one nearest to 1."""
        if not self.config.select_tau:
            return {}
        logits = torch.cat([self.network(batch.images).float() for batch in validation.plain()])
        candidates = sorted((step / 10 for step in range(31)), key=lambda tau: abs(tau - 1))

        def macro(tau: float) -> float:
            return macro_accuracy(logits - tau * self.log_prior, validation.labels)

        chosen = max(candidates, key=macro)
        self.tau.fill_(chosen)
        return {"tau": chosen}

    def combine(self, experts: Tensor) -> Tensor:
        """Z - tau log pi."""
        return experts.mean(0) - self.tau * self.log_prior
