"""Label-aware smoothing against the published numbers."""

import numpy as np
import pytest
import torch

from ltbench.method import Stage, at_rest
from ltbench.method.losses import cross_entropy, label_aware_smoothing
from tests.fixed_logits import same, same_loss


@pytest.mark.parametrize("shape", ["concave", "linear", "convex"])
def test_factors_loss_and_gradient_equal_the_published_ones(shape, golden_losses, method_with_logits, batch_of):
    want = golden_losses(f"label_aware_smoothing_{shape}")
    settings = {"smooth_head": float(want["smooth_head"]), "smooth_tail": float(want["smooth_tail"]), "shape": shape}
    method = method_with_logits("label_aware_smoothing", want["logits"][None], want["class_counts"], **settings)
    np.testing.assert_allclose(method.smoothing.numpy(), want["smoothing"], rtol=1e-5)
    loss = method(batch_of(want["targets"]), at_rest(Stage())).mean
    loss.backward()
    same_loss(loss, want["loss"])
    same(method.network.logits.grad[0], want["grad"])


def test_without_smoothing_it_is_cross_entropy(golden_losses, method_with_logits, batch_of):
    want = golden_losses("label_aware_smoothing_linear")
    settings = {"smooth_head": 0, "smooth_tail": 0}
    method = method_with_logits("label_aware_smoothing", want["logits"][None], want["class_counts"], **settings)
    batch = batch_of(want["targets"])
    plain = cross_entropy(torch.from_numpy(want["logits"]), batch.labels).mean()
    torch.testing.assert_close(method(batch, at_rest(Stage())).mean, plain)


def test_all_classes_are_tail_where_counts_are_equal():
    factors = label_aware_smoothing(torch.tensor([7, 7, 7]), head=0.4, tail=0.1)
    torch.testing.assert_close(factors, torch.full((3,), 0.1))
