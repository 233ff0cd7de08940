"""LADE: balanced softmax with a regulariser that ties the logits to densities instead of to the training prior."""

import math

import torch
from torch import Tensor

from ltbench.method import Method, MethodConfig, Range, hyperparameter
from ltbench.method.losses import is_target, logit_adjusted_cross_entropy


def density_regulariser(logits: Tensor, targets: Tensor, log_prior: Tensor, weight: float) -> Tensor:
    """LADER: the negative of a regularised lower bound on how far each class's images lie from a balanced mixture.

    sum_c pi_c (log E_c - mean of z_c over class c + weight (log E_c)^2), with E_c the batch mean of
    exp(z_c) / (C pi_c). The bound is that of Donsker and Varadhan, which leaves a constant of z_c open; the square
    fixes it, so that exp(z_c) becomes p(x|c) over the density of balanced data.

    Args:
        logits: (B, C).
        targets: (B,) class indices; the mean of a class that is not among them counts as zero.
        log_prior: (C,) log pi.
        weight: of the square.

    Returns:
        Scalar.
    """
    size, classes = logits.shape
    values = logits.to(torch.promote_types(logits.dtype, torch.float32))
    own = is_target(values, targets)
    means = (values * own).sum(0) / own.sum(0).clamp(min=1)
    expectation = (values - log_prior).logsumexp(0) - math.log(size * classes)
    return (log_prior.exp() * (expectation - means + weight * expectation.square())).sum()


class LADE(Method):
    """Balanced softmax, and a regulariser (LADER) by which exp(z_c) estimates p(x|c) over the density of balanced data.

    Hong et al. (CVPR 2021), equations 16, 19 and 20. Once the training prior is taken out of the logits, adding
    log pi_test corrects them for another test prior.

    As in the published code E_c weighs all images of a batch by 1 / (C pi_c), after the class of the logit and not of
    the image; the two agree where the classes are separated. The values for each data set are those of the authors'
    commands. With mixing, the regulariser is taken for both labels and shared between them. The authors'
    head is linear.

    Departures of the networks and recipes: the authors' ResNet-32 for CIFAR has its last block twice, side by side, and
    concatenates the two outputs (128 features; here 64); in the five epochs of warm-up their rate goes from 0.067 to
    0.173, here from 0.04 to 0.2.
    """

    class Config(MethodConfig):
        alpha: float = hyperparameter(
            0.1,
            search=Range(0.005, 0.5, log=True),
            ge=0,
            description="weight of the regulariser; 0 is balanced softmax",
        )
        square: float = hyperparameter(
            0.01,
            search=Range(0.01, 0.5, log=True),
            ge=0,
            description="weight of the squared term in the regulariser, lambda in the paper",
        )

    family = "loss"
    revision = 1
    logit_prior = 0.0  # the training prior is taken out of the logits
    couples_batch = True
    gathers_across_processes = True

    def forward(self, batch, progress):
        """CE(z + log pi, y) + alpha LADER."""
        logits, config = self.network(batch.images), self.config
        all_logits = progress.gather(logits)
        one = self.log_prior.new_ones(())

        def per_sample(labels):
            regulariser = density_regulariser(all_logits, progress.gather(labels), self.log_prior, config.square)
            return logit_adjusted_cross_entropy(logits, labels, self.log_prior, one) + config.alpha * regulariser

        return batch.loss(per_sample)
