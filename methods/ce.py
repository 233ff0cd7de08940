"""Cross entropy: the baseline that learns the training prior along with everything else."""

from ltbench.method import Method
from ltbench.method.losses import cross_entropy


class CrossEntropy(Method):
    """Plain cross entropy on a single network, sampled uniformly over images.

    Its claims depend on whose baseline it is: on CIFAR-100-LT IR 100 with ResNet-32, papers report 37.7 to 41.4 %. The
    paper named here is the survey that compares others with it under one recipe.
    """

    family = "baseline"
    revision = 1
    logit_prior = 1.0  # the logits contain the training prior once

    def forward(self, batch, progress):
        """CE(z, y)."""
        logits = self.network(batch.images)
        return batch.loss(lambda labels: cross_entropy(logits, labels))
