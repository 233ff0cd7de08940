"""NCL against the published implementation, and its parts."""

import numpy as np
import pytest
import torch

from ltbench.method import Stage, at_rest
from ltbench_methods.ncl import hard_classes, imitation
from tests.fixed_logits import same, same_loss


def test_the_loss_and_gradient_are_the_published_ones(golden_losses, method_with_logits, batch_of):
    want = golden_losses("ncl")
    assert want["distillation_weight"] == want["hard_distillation_weight"]
    method = method_with_logits(
        "ncl",
        want["logits"],
        want["class_counts"],
        factor=float(want["distillation_weight"]),
        hard_categories=int(want["hard_categories"]) / len(want["class_counts"]),
    )
    loss = method(batch_of(want["targets"]), at_rest(Stage())).mean
    loss.backward()
    same_loss(loss, want["loss"])
    same(method.network.logits.grad, want["grad"])


def test_the_target_is_one_of_the_hard_classes():
    logits = torch.tensor([[5.0, 4.0, 3.0, -9.0], [5.0, 4.0, 3.0, -9.0]])
    mask = hard_classes(logits, torch.tensor([3, 0]), 0.5)
    assert mask.tolist() == [[True, False, False, True], [True, True, False, False]]


@pytest.mark.parametrize(("classes", "number"), [(10, 3), (100, 30), (1000, 300), (8142, 2442)])
def test_three_in_ten_classes_are_hard(classes, number):
    assert hard_classes(torch.randn(1, classes), torch.tensor([2]), 0.3).sum() == number


def test_imitation_by_hand():
    # p = (1/2, 1/2) and q = (4/5, 1/5): KL(p||q) + KL(q||p) = (4/5 - 1/2)(ln 4/5 - ln 1/2) + (1/5 - 1/2)(ln 1/5
    # - ln 1/2) = .3 ln 1.6 + .3 ln 2.5 = .3 ln 4, over M - 1 = 1.
    logits = torch.tensor([[[0.0, 0.0]], [[float(np.log(4)), 0.0]]])
    assert imitation(logits).item() == pytest.approx(0.3 * np.log(4), rel=1e-5)


def test_equal_networks_have_nothing_to_imitate():
    assert imitation(torch.randn(1, 4, 5).expand(3, 4, 5)).abs().max() < 1e-6
