"""LDAM against the published numbers."""

import numpy as np
import torch

from ltbench.method import Stage, at_rest
from ltbench.method.losses import cross_entropy, ldam_margins
from tests.fixed_logits import same, same_loss


def test_loss_gradient_and_margins_equal_the_published_ones(golden_losses, method_with_logits, batch_of):
    want = golden_losses("ldam")
    method = method_with_logits("ldam", want["scaled_logits"][None], want["class_counts"])
    np.testing.assert_allclose(method.margins.numpy(), want["margins"], rtol=1e-6)
    loss = method(batch_of(want["targets"]), at_rest(Stage())).mean
    loss.backward()
    same_loss(loss, want["loss"])
    same(method.network.logits.grad[0], want["grad"])


def test_without_margins_it_is_cross_entropy(golden_losses, method_with_logits, batch_of):
    want = golden_losses("ldam")
    method = method_with_logits("ldam", want["scaled_logits"][None], want["class_counts"], largest_margin=0)
    batch = batch_of(want["targets"])
    plain = cross_entropy(torch.from_numpy(want["scaled_logits"]), batch.labels).mean()
    torch.testing.assert_close(method(batch, at_rest(Stage())).mean, plain)


def test_margins_fall_with_the_fourth_root_of_the_count():
    # 0.4 (1, 16^(-1/4), 81^(-1/4))
    torch.testing.assert_close(ldam_margins(torch.tensor([81, 16, 1]), 0.4), torch.tensor([0.4 / 3, 0.2, 0.4]))
