"""The VS loss by hand."""

import numpy as np
import pytest
import torch

from ltbench.method import ClassPrior, Stage, at_rest
from ltbench.method.losses import logit_adjusted_cross_entropy


def test_by_hand(method_with_logits, batch_of):
    # counts (8, 1), gamma = 1/3: scales (1, 1/2). z = (0, 2 ln 3) becomes (0 + ln 8/9, ln 3 + ln 1/9),
    # so that the odds are 8 to 3.
    logits = np.array([[[0.0, 2 * np.log(3)]]])
    method = method_with_logits("vs", logits, np.array([8, 1]), gamma=1 / 3, tau=1)
    loss = method(batch_of(np.array([1])), at_rest(Stage())).mean
    assert loss.item() == pytest.approx(np.log(11 / 3))
    assert method.logit_prior is None


@pytest.mark.parametrize("tau", [0.0, 1.5])
def test_without_scales_it_is_logit_adjustment(tau, method_with_logits, batch_of):
    logits = np.random.default_rng(0).normal(size=(1, 6, 4))
    counts, batch = np.array([50, 9, 3, 1]), batch_of(np.array([0, 1, 2, 3, 0, 1]))
    method = method_with_logits("vs", logits, counts, gamma=0, tau=tau)
    log_prior = ClassPrior(torch.from_numpy(counts)).log
    adjusted = logit_adjusted_cross_entropy(torch.from_numpy(logits[0]), batch.labels, log_prior, torch.tensor(tau))
    torch.testing.assert_close(method(batch, at_rest(Stage())).mean, adjusted.mean())
    assert method.logit_prior == 1 - tau
