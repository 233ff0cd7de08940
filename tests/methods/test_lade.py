"""LADE by hand."""

import numpy as np
import pytest
import torch

from ltbench.method import ClassPrior, Stage, at_rest
from ltbench.method.losses import logit_adjusted_cross_entropy
from ltbench_methods.lade import density_regulariser

COUNTS = np.array([3, 1])
LOG_PRIOR = ClassPrior(torch.from_numpy(COUNTS)).log.double()
LOGITS = np.array([[np.log(3), 0.0], [0.0, np.log(3)]])


def test_the_regulariser_by_hand():
    # pi = (3/4, 1/4), mean of exp(z_c) = 2 for both classes, so that E = (2 / (3/2), 2 / (1/2)) = (4/3, 4).
    # The mean of z_c over class c is ln 3 for both.
    value = density_regulariser(torch.from_numpy(LOGITS), torch.tensor([0, 1]), LOG_PRIOR, 0.5)
    first, second = np.log(4 / 3), np.log(4)
    want = 0.75 * (first - np.log(3) + 0.5 * first**2) + 0.25 * (second - np.log(3) + 0.5 * second**2)
    assert value.item() == pytest.approx(want, rel=1e-6)


def test_a_class_that_is_not_in_the_batch_counts_as_zero():
    # As above, but both images are of class 0, with mean logit (ln 3 + 0) / 2.
    logits = torch.from_numpy(LOGITS).requires_grad_()
    value = density_regulariser(logits, torch.tensor([0, 0]), LOG_PRIOR, 0.0)
    assert value.item() == pytest.approx(0.75 * (np.log(4 / 3) - np.log(3) / 2) + 0.25 * np.log(4), rel=1e-6)
    value.backward()
    assert bool(logits.grad.isfinite().all())


def test_the_square_pins_the_level_of_every_class():
    # exp(z_c) / (C pi_c) averages to one over the batch: shifting all logits of a class gains nothing.
    logits = torch.tensor([[2.0, 0.3], [0.5, 1.0], [0.1, -1.0]], dtype=torch.float64)
    logits = (logits - logits.logsumexp(0) + np.log(3) + np.log(2) + LOG_PRIOR).requires_grad_()
    density_regulariser(logits, torch.tensor([0, 1, 0]), LOG_PRIOR, 0.5).backward()
    torch.testing.assert_close(logits.grad.sum(0), torch.zeros(2, dtype=torch.float64))


def test_it_is_balanced_softmax_plus_alpha_times_the_regulariser(method_with_logits, batch_of):
    batch, one = batch_of(np.array([0, 1])), torch.tensor(1.0)
    balanced = logit_adjusted_cross_entropy(torch.from_numpy(LOGITS), batch.labels, LOG_PRIOR, one).mean()
    regulariser = density_regulariser(torch.from_numpy(LOGITS), batch.labels, LOG_PRIOR, 0.3)
    for alpha in (0.0, 0.2):
        method = method_with_logits("lade", LOGITS[None], COUNTS, alpha=alpha, square=0.3)
        loss = method(batch, at_rest(Stage())).mean
        assert loss.item() == pytest.approx((balanced + alpha * regulariser).item(), rel=1e-6)
