"""The focal loss by hand."""

import numpy as np
import pytest
import torch

from ltbench.method import Stage, at_rest
from ltbench.method.losses import cross_entropy
from ltbench_methods.focal import focal_cross_entropy

LOGITS = np.array([[[0.0, np.log(3)], [0.0, np.log(3)]]])


def test_by_hand(method_with_logits, batch_of):
    # p = (1/4, 3/4) for both samples, labels 1 and 0: ((1/4)^2 ln(4/3) + (3/4)^2 ln 4) / 2
    method = method_with_logits("focal", LOGITS, np.array([3, 1]), gamma=2)
    loss = method(batch_of(np.array([1, 0])), at_rest(Stage())).mean
    assert loss.item() == pytest.approx((np.log(4 / 3) / 16 + np.log(4) * 9 / 16) / 2)


def test_with_gamma_zero_it_is_cross_entropy():
    logits, labels = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 3, 0, 1])
    torch.testing.assert_close(focal_cross_entropy(logits, labels, 0.0), cross_entropy(logits, labels))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_the_gradient_is_finite_where_p_is_one(gamma):
    logits = torch.tensor([[200.0, 0.0], [0.0, 200.0]], requires_grad=True)
    focal_cross_entropy(logits, torch.tensor([0, 0]), gamma).sum().backward()
    # the second sample has p = 0, so that its loss is the cross entropy
    torch.testing.assert_close(logits.grad, torch.tensor([[0.0, 0.0], [-1.0, 1.0]]))
