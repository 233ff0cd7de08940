"""The class-balanced loss by hand."""

import numpy as np
import pytest
import torch

from ltbench.method import Stage, at_rest
from ltbench.method.losses import cross_entropy

LOGITS = np.array([[[0.0, 0.0], [0.0, 0.0], [0.0, np.log(3)]]])
LABELS = np.array([0, 0, 1])


def test_by_hand(method_with_logits, batch_of):
    # beta = 1/2: effective numbers 3/2 and 1 of counts 2 and 1, weights (2/3, 1) * 2 / (5/3) = (0.8, 1.2).
    # The mean is over 0.8 + 0.8 + 1.2 = 2.8.
    method = method_with_logits("class_balanced", LOGITS, np.array([2, 1]), beta=0.5)
    loss = method(batch_of(LABELS), at_rest(Stage())).mean
    assert loss.item() == pytest.approx((2 * 0.8 * np.log(2) + 1.2 * np.log(4 / 3)) / 2.8)


def test_with_beta_zero_it_is_cross_entropy(method_with_logits, batch_of):
    method = method_with_logits("class_balanced", LOGITS, np.array([2, 1]), beta=0)
    batch = batch_of(LABELS)
    plain = cross_entropy(torch.from_numpy(LOGITS[0]), batch.labels).mean()
    torch.testing.assert_close(method(batch, at_rest(Stage())).mean, plain)


def test_few_images_are_weighted_by_inverse_frequency(method_with_logits):
    method = method_with_logits("class_balanced", np.zeros((1, 2, 2)), np.array([500, 5]))
    assert (method.class_weights[1] / method.class_weights[0]).item() == pytest.approx(100, rel=0.03)
