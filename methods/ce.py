"""Cross entropy: the baseline that learns the training prior along with everything else."""

from ltbench.losses import cross_entropy
from ltbench.method import Batch, Loss, Method, Progress


class CrossEntropy(Method):
    """Plain cross entropy on a single network, sampled uniformly over images.

    Its claims depend on whose baseline it is: on CIFAR-100-LT IR 100 with ResNet-32, papers report 37.7 to 41.4 %.
    """

    family = "baseline"
    revision = 1

    @property
    def logit_prior(self) -> float:
        """The logits contain the training prior once."""
        return 1.0

    def forward(self, batch: Batch, at: Progress) -> Loss:
        """CE(z, y)."""
        logits = self.network(batch.images)
        return batch.loss(lambda labels: cross_entropy(logits, labels))
