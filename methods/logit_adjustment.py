"""The logit adjustment loss, with any strength tau."""

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from ltbench.method import Batch, Choice, Loss, Method, MethodConfig, Paper, Progress, Range
from ltbench.method.losses import logit_adjusted_cross_entropy


class LogitAdjustment(Method):
    """Cross entropy of z + tau log pi.

    Menon et al. (ICLR 2021), equation 10. tau = 1 is consistent for the balanced error, and equal to balanced
    softmax; other values trade head for tail.
    """

    class Config(MethodConfig):
        """tau, and what every method has."""

        tau: float = Field(1.0, description="strength of the adjustment; 0 is cross entropy")

        space: ClassVar[Mapping[str, Range | Choice]] = {"tau": Range(0.5, 2.0), "mixup": Range(0.0, 1.0)}

    family = "loss"
    revision = 1
    config: Config
    paper = Paper(
        title="Long-tail learning via logit adjustment",
        authors="Aditya Krishna Menon and Sadeep Jayasumana and Ankit Singh Rawat and Himanshu Jain and "
        "Andreas Veit and Sanjiv Kumar",
        venue="International Conference on Learning Representations",
        year=2021,
        claims=(
            "LA loss|CIFAR-100-LT|100|ResNet-32|1419",
            "LA loss|CIFAR-100-LT|100|ResNet-32|as TF original",
            "LA loss|CIFAR-10-LT|100|ResNet-32|1241",
            "LA loss|CIFAR-10-LT|100|ResNet-32|as TF original",
        ),
        recipes={
            "cifar": {  # on another selection of images and another ResNet-32 than the common one
                "epochs": 1419,
                "weight_decay": 2e-4,  # theirs spares the norms
                "milestones": (0.487, 0.746, 0.909),
                "warmup": 0.0155,
                "augment": {"padding": 0.0625, "flip": True},
                "head": "linear",
            }
        },
        draw="Cui et al.",
    )

    @property
    def logit_prior(self) -> float:
        """1 - tau of the training prior is left in the logits."""
        return 1.0 - self.config.tau

    def forward(self, batch: Batch, progress: Progress) -> Loss:
        """CE(z + tau log pi, y)."""
        logits = self.network(batch.images)
        tau = self.log_prior.new_tensor(self.config.tau)
        return batch.loss(lambda labels: logit_adjusted_cross_entropy(logits, labels, self.log_prior, tau))
