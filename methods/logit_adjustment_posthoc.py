"""Post-hoc logit adjustment: the prior is subtracted from a cross-entropy network's logits."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from ltbench.config import Recipe, RunConfig
from ltbench.method import (
    BackboneFactory,
    Batch,
    Choice,
    ClassPrior,
    Loss,
    MethodConfig,
    Progress,
    Range,
    Stage,
    StageData,
)
from ltbench.method.losses import cross_entropy
from ltbench.method.second_stage import SecondStage, best_tau, need_validation
from ltbench_methods.logit_adjustment import LogitAdjustment


class LogitAdjustmentPosthoc(SecondStage):
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
    first = "ce"
    revision = 1
    config: Config
    tau: Tensor
    paper = replace(
        LogitAdjustment.paper,
        claims=(
            "LA post-hoc|CIFAR-100-LT|100|ResNet-32|1419",
            "LA post-hoc|CIFAR-100-LT|100|ResNet-32|as TF original",
            "LA post-hoc|CIFAR-10-LT|100|ResNet-32|1241",
            "LA post-hoc|CIFAR-10-LT|100|ResNet-32|as TF original",
        ),
    )

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
        need_validation(run, "select_tau")
        return super().uses(run)

    def stages(self, recipe: Recipe) -> Sequence[Stage]:
        """Nothing to train."""
        return ()

    def forward(self, batch: Batch, progress: Progress) -> Loss:
        """The loss of the run that this one starts from."""
        logits = self.network(batch.images)
        return batch.loss(lambda labels: cross_entropy(logits, labels))

    def select(self, validation: StageData) -> Mapping[str, float]:
        """Choose the tau of the best macro accuracy; of equals the one nearest to 1."""
        if not self.config.select_tau:
            return {}
        logits = torch.cat([self.network(batch.images).float() for batch in validation.eval_batches()])
        chosen = best_tau(lambda tau: logits - tau * self.log_prior, validation.labels, largest=3)
        self.tau.fill_(chosen)
        return {"tau": chosen}

    def combine(self, experts: Tensor) -> Tensor:
        """Z - tau log pi."""
        return experts.mean(0) - self.tau * self.log_prior
