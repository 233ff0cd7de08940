"""LDAM-DRW against the published numbers, and when its weights come."""

import numpy as np
import pytest
import torch

from ltbench.config import Recipe
from ltbench.method import at_rest
from ltbench.training.schedule import plan
from tests.fixed_logits import same, same_loss


@pytest.mark.parametrize(("case", "late"), [("ldam", 0), ("ldam_drw", 1)])
def test_loss_and_gradient_equal_the_published_ones(case, late, golden_losses, method_with_logits, batch_of):
    want = golden_losses(case)
    method = method_with_logits("ldam_drw", want["scaled_logits"][None], want["class_counts"])
    stage = method.stages(Recipe())[late]
    method.begin(stage, None)
    np.testing.assert_allclose(method.class_weights.numpy(), want["class_weights"], rtol=1e-5)
    loss = method(batch_of(want["targets"]), at_rest(stage)).mean
    loss.backward()
    same_loss(loss, want["loss"])
    same(method.network.logits.grad[0], want["grad"])


def test_weights_come_when_the_rate_falls(method_with_logits):
    method = method_with_logits("ldam_drw", np.zeros((1, 2, 2), np.float32), np.array([3, 1]))
    first, second = plan(method.stages(Recipe()), Recipe())
    assert (first.epochs, second.epochs) == (160, 40)
    assert second.lrs[0] == pytest.approx(first.lrs[-1] / 10)


def test_with_beta_zero_it_is_ldam(golden_losses, method_with_logits, batch_of):
    want = golden_losses("ldam")
    method = method_with_logits("ldam_drw", want["scaled_logits"][None], want["class_counts"], beta=0)
    stage = method.stages(Recipe())[1]
    method.begin(stage, None)
    assert torch.equal(method.class_weights, torch.ones(10))
    assert method(batch_of(want["targets"]), at_rest(stage)).mean.item() == pytest.approx(float(want["loss"]), rel=2e-6)
