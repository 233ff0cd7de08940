"""DBM by hand: margins by class and by image."""

import math

import numpy as np
import pytest
import torch

from ltbench.method import Stage, at_rest
from ltbench_methods.dbm import SCALE, class_margins, with_margins


def test_margins_fall_with_the_count():
    counts = torch.tensor([400, 40, 4])
    torch.testing.assert_close(class_margins(counts, 0.2, 1.0), torch.tensor([0.002, 0.02, 0.2]))
    torch.testing.assert_close(class_margins(counts, 0.2, 0.5), torch.tensor([0.02, 0.2 / math.sqrt(10), 0.2]))
    # The rarest class has the whole margin, wherever it stands.
    torch.testing.assert_close(class_margins(counts.flip(0), 0.2, 1.0), torch.tensor([0.2, 0.02, 0.002]))


def test_an_image_that_is_got_wrong_has_a_margin_of_its_own():
    # Cosine of the target 1/2, so 60 degrees. Right: pi/3 + 0.1. Wrong: the margin grows by 0.1 (1 - 1/2) / 2.
    cosines = torch.tensor([[0.5, 0.2], [0.5, 0.7]])
    found = with_margins(cosines, torch.tensor([0, 0]), torch.tensor([0.1, 0.3]), scale=10.0)
    want = [[10 * math.cos(math.pi / 3 + 0.1), 2.0], [10 * math.cos(math.pi / 3 + 0.125), 7.0]]
    torch.testing.assert_close(found, torch.tensor(want))


@pytest.mark.parametrize("cosine", [1.0, -1.0])
def test_gradients_are_finite_where_image_and_class_point_the_same_way(cosine):
    cosines = torch.tensor([[cosine, 0.0]], requires_grad=True)
    with_margins(cosines, torch.tensor([0]), torch.tensor([0.1, 0.1])).sum().backward()
    assert cosines.grad.isfinite().all()


@pytest.mark.parametrize("adjustment", [0.0, 1.0])
def test_without_a_margin_it_is_cross_entropy_or_balanced_softmax(adjustment, method_with_logits, batch_of):
    logits, counts = SCALE * np.linspace(-0.9, 0.9, 12, dtype=np.float32).reshape(1, 4, 3), np.array([9, 3, 1])
    labels = batch_of(np.array([0, 1, 2, 0]))
    found = method_with_logits("dbm", logits, counts, margin=0, adjustment=adjustment)(labels, at_rest(Stage())).mean
    other = method_with_logits("balanced_softmax" if adjustment else "ce", logits, counts)
    torch.testing.assert_close(found, other(labels, at_rest(Stage())).mean)
