"""The losses against the published implementations' numbers, and what holds for any input."""

from types import SimpleNamespace

import hypothesis.extra.numpy as npst
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ltbench.method import ClassPrior, Stage, at_rest, losses
from tests.fixed_logits import batch_of, method_with_logits, same, same_loss


@pytest.mark.parametrize("case", [f"balpoe_{i}" for i in range(4)])
@pytest.mark.filterwarnings("ignore::ltbench.errors.LtbenchWarning")
def test_balpoe_equals_the_published_loss_and_gradient(case, golden_losses):
    want = golden_losses(case)
    logits = torch.from_numpy(want["logits"])
    method = method_with_logits("balpoe", logits, want["class_counts"], taus=want["taus"].tolist(), mixup=0)
    loss = method(batch_of(want["targets"]), at_rest(Stage())).mean
    loss.backward()
    same_loss(loss, want["loss"])
    same(method.network.logits.grad, want["grad"])


logit_arrays = npst.arrays(np.float64, (5, 4), elements=st.floats(-20, 20))
label_arrays = npst.arrays(np.int64, (5,), elements=st.integers(0, 3))
LOG_PRIOR = ClassPrior(torch.tensor([500, 60, 9, 1])).log.double()


@given(logit_arrays, label_arrays, st.floats(-10, 10))
def test_a_constant_added_to_the_log_prior_changes_nothing(logits, labels, constant):
    z, y = torch.from_numpy(logits), torch.from_numpy(labels)
    tau = torch.tensor(1.0, dtype=torch.float64)
    one = losses.logit_adjusted_cross_entropy(z, y, LOG_PRIOR, tau)
    other = losses.logit_adjusted_cross_entropy(z, y, LOG_PRIOR + constant, tau)
    torch.testing.assert_close(one, other)


@given(logit_arrays, label_arrays)
def test_tau_zero_is_cross_entropy(logits, labels):
    z, y = torch.from_numpy(logits), torch.from_numpy(labels)
    adjusted = losses.logit_adjusted_cross_entropy(z, y, LOG_PRIOR, torch.tensor(0.0))
    torch.testing.assert_close(adjusted, losses.cross_entropy(z, y))


@given(logit_arrays, label_arrays, st.lists(st.floats(-2, 3), min_size=1, max_size=4))
def test_the_expert_loss_is_the_mean_of_single_losses(logits, labels, taus):
    z = torch.stack([torch.from_numpy(logits) * (m + 1) for m in range(len(taus))])
    y = torch.from_numpy(labels)
    strengths = torch.tensor(taus, dtype=torch.float64)
    together = losses.expert_logit_adjusted_cross_entropy(z, y, LOG_PRIOR, strengths.view(-1, 1))
    single = [losses.logit_adjusted_cross_entropy(z[m], y, LOG_PRIOR, tau) for m, tau in enumerate(strengths)]
    torch.testing.assert_close(together, torch.stack(single).mean(0))


def test_balanced_softmax_by_hand():
    # z = (0, ln 2), counts (3, 1), label 1: p = 2*1 / (1*3 + 2*1) = 2/5, loss = ln 5/2.
    z = torch.tensor([[0.0, np.log(2)]])
    prior = ClassPrior(torch.tensor([3, 1]))
    loss = losses.logit_adjusted_cross_entropy(z, torch.tensor([1]), prior.log, torch.tensor(1.0))
    assert loss.item() == pytest.approx(np.log(5 / 2))


def test_logits_in_half_precision_are_summed_in_single():
    z = torch.tensor([[8.0, 7.9375]], dtype=torch.bfloat16)
    assert losses.cross_entropy(z, torch.tensor([0])).dtype == torch.float32
    assert losses.cross_entropy(z.double(), torch.tensor([0])).dtype == torch.float64


def test_a_tau_for_each_class():
    logits = torch.zeros(1, 2, 2)
    method = method_with_logits("balpoe", logits, np.array([3, 1]), taus=[[0.0, 1.0], [2.0, 1.0]], mixup=0)
    assert method.taus.tolist() == [[0.0, 1.0], [2.0, 1.0]]
    assert method.logit_prior == 0.0
    assert SimpleNamespace(**method.config.model_dump()).taus == ((0.0, 1.0), (2.0, 1.0))
