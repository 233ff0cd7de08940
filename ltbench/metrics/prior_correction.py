"""Predictions for a test set with other class frequencies than a method is made for."""

import torch
from torch import Tensor

from ltbench.errors import LtbenchError
from ltbench.files.memmap import empty_or_memmap
from ltbench.metrics.logits import Changed, Logits, blocks


def corrected(logits: Logits, logit_prior: float | None, train_prior: Tensor, test_prior: Tensor) -> Logits:
    """Logits for another prior: z - logit_prior log pi_train + log pi_test.

    Where softmax(z) is p(y|x) under the prior pi_train^logit_prior, as ``Method.logit_prior`` says, this is Bayes' rule
    with the test set's prior, as LADE (Hong et al., CVPR 2021) and BalPoE use it. For a uniform test prior and a
    balanced method it changes no prediction.

    Args:
        logits: (N, C), a method's predictions.
        logit_prior: exponent of the training prior that is left in them; stored with each result.
        train_prior: (C,) class frequencies in training; their scale does not matter.
        test_prior: (C,) class frequencies of the test set; zero for a class that it lacks.

    Returns:
        (N, C); minus infinity for classes that the test set lacks.

    Raises:
        LtbenchError: if the method does not know its exponent.
    """
    if logit_prior is None:
        raise LtbenchError(
            "these predictions cannot be corrected for another test prior",
            hint="the method does not know what is left of the training prior in its logits (Method.logit_prior)",
        )

    def change(rows: Tensor) -> Tensor:
        train, test = (prior.to(rows.dtype) / prior.sum() for prior in (train_prior, test_prior))
        return rows - logit_prior * train.log() + test.log()

    return Changed(logits, change)


def estimated(logits: Logits, logit_prior: float | None, train_prior: Tensor, steps: int = 1000) -> Tensor:
    """The class frequencies of a test set, estimated from its images without their labels.

    Expectation maximisation of Saerens, Latinne and Decaestecker (Neural Computation 2002), equation 2.9: posteriors
    under the current prior, whose mean is the next one; starts from a uniform one, ends when no frequency changes by
    more than 1e-6.

    Args:
        logits: (N, C) of all test images: what uses this is transductive.
        logit_prior: exponent of the training prior that is left in them.
        train_prior: (C,) class frequencies in training.
        steps: at most.

    Returns:
        (C,) float64, summing to one.

    Raises:
        LtbenchError: if the method does not know its exponent.
    """
    uniform = torch.full_like(train_prior, 1 / len(train_prior), dtype=torch.float64)
    likelihoods, done = empty_or_memmap((logits.shape[0], logits.shape[1]), torch.float64), 0
    for (block,) in blocks(corrected(Changed(logits, Tensor.double), logit_prior, train_prior, uniform)):
        likelihoods[done : (done := done + len(block))] = block.softmax(1)
    prior = uniform
    for _ in range(steps):
        # The mean of the posteriors p_c L_ic / sum_k p_k L_ik, without a table of them, and with one look at the other.
        total = torch.zeros_like(prior)
        for (block,) in blocks(likelihoods):
            total += block.T @ (1 / (block @ prior))
        following = prior * total / len(likelihoods)
        if (following - prior).abs().max() < 1e-6:
            return following
        prior = following
    return prior
