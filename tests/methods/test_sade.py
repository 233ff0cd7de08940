"""SADE against the published implementation, and its parts."""

import numpy as np
import pytest
import torch

from ltbench.method import Stage, at_rest
from ltbench.method.losses import cross_entropy
from ltbench_methods.sade import rank_reversed, sade_loss
from tests.fixed_logits import same, same_loss


def test_the_loss_and_gradient_are_the_published_ones(golden_losses, method_with_logits, batch_of):
    want = golden_losses("sade")
    method = method_with_logits("sade", want["logits"], want["class_counts"], tau=float(want["tau"]))
    loss = method(batch_of(want["targets"]), at_rest(Stage())).mean
    loss.backward()
    same_loss(loss, want["loss"])
    same(method.network.logits.grad, want["grad"])


def test_the_prior_is_turned_by_rank_and_not_by_place():
    # Ranks of (7, 100, 20, 3): 2nd, 4th, 3rd, 1st from below; the 2nd takes the 3rd's value and so on.
    assert rank_reversed(torch.tensor([7.0, 100.0, 20.0, 3.0])).tolist() == [20.0, 3.0, 7.0, 100.0]


def test_the_loss_by_hand():
    # Counts (3, 1), tau 2, zero logits, label 1. CE: ln 2. Balanced: p = 1/4, ln 4. Third expert: weights
    # pi / pi~^2 = (3/4) / (1/4)^2 = 12 and (1/4) / (3/4)^2 = 4/9, so p = (4/9) / (112/9) = 1/28.
    log_prior = torch.tensor([0.75, 0.25]).log()
    adjustments = torch.stack([0 * log_prior, log_prior, log_prior - 2 * rank_reversed(log_prior)])
    loss = sade_loss(torch.zeros(3, 1, 2), torch.tensor([1]), adjustments)
    assert loss.item() == pytest.approx(np.log(2 * 4 * 28), rel=1e-5)


def test_on_balanced_data_it_is_the_sum_of_cross_entropies(method_with_logits, batch_of):
    logits = np.random.default_rng(0).normal(size=(3, 5, 4)).astype(np.float32)
    method = method_with_logits("sade", logits, np.full(4, 7), tau=2)
    labels = torch.tensor([0, 1, 2, 3, 0])
    plain = sum(cross_entropy(torch.from_numpy(own), labels).mean() for own in logits)
    torch.testing.assert_close(method(batch_of(labels), at_rest(Stage())).mean, plain)
