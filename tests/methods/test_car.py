"""CAR by hand: the soft confusion matrix, its average and its norm."""

import numpy as np
import pytest
import torch

from ltbench.method import Stage, at_rest
from ltbench_methods.car import soft_confusion, spectral_norm


def test_the_soft_confusion_by_hand():
    # One image of class 0 with p = (1/2, 1/4, 1/4) and z_1 - z_0 = -ln 2, so a gate of 1/3: 1/12 for classes 1 and 2.
    # Two of class 1, of which the second has p = (1/6, 1/3, 1/2): gates 1/3 and 3/5, so 1/18 and 3/10, halved.
    logits = torch.tensor([[2.0, 1.0, 1.0], [1.0, 1e4, 1.0], [1.0, 2.0, 3.0]]).log()
    found = soft_confusion(logits, torch.tensor([[0, 1, 1]]), torch.ones(1, 3))
    want = torch.tensor([[0, 1 / 36, 0], [1 / 12, 0, 0], [1 / 12, 3 / 20, 0]])
    torch.testing.assert_close(found, want, rtol=1e-4, atol=1e-6)


def test_both_labels_of_mixed_images_count_by_their_weight():
    logits, labels = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 3, 0, 1])
    alone, other = (soft_confusion(logits, own[None], torch.ones(1, 6)) for own in (labels, labels.flip(0)))
    both = torch.stack([labels, labels.flip(0)])
    torch.testing.assert_close(soft_confusion(logits, both, torch.tensor([[1.0] * 6, [0.0] * 6])), alone)
    torch.testing.assert_close(soft_confusion(logits, both, torch.tensor([[0.0] * 6, [1.0] * 6])), other)


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_the_power_method_finds_the_largest_singular_value(classes):
    matrix = torch.rand(classes, classes, generator=torch.Generator().manual_seed(0)).requires_grad_()
    found = spectral_norm(matrix)
    (gradient,) = torch.autograd.grad(found, matrix)
    want = torch.linalg.matrix_norm(matrix, 2)
    torch.testing.assert_close(found, want)
    torch.testing.assert_close(gradient, torch.autograd.grad(want, matrix)[0], rtol=1e-3, atol=1e-5)
    assert spectral_norm(torch.zeros(3, 3)) == 0


def test_rare_classes_weigh_more(method_with_logits):
    # (0.9 + 0.1)^(-1/2) = 1 and (0.1 + 0.1)^(-1/2) = sqrt 5, to a mean of one.
    method = method_with_logits("car", np.zeros((1, 1, 2)), np.array([9, 1]), smoothing=0.1)
    want = torch.tensor([1, 5**0.5]) * 2 / (1 + 5**0.5)
    torch.testing.assert_close(method.class_weights, want)


def test_without_a_factor_it_is_cross_entropy(method_with_logits, batch_of):
    logits, labels = np.random.default_rng(0).normal(size=(1, 5, 3)).astype(np.float32), np.array([0, 1, 2, 0, 1])
    losses = [
        method_with_logits(name, logits, np.array([9, 3, 1]), **settings)(batch_of(labels), at_rest(Stage())).mean
        for name, settings in (("car", {"factor": 0}), ("ce", {}))
    ]
    torch.testing.assert_close(*losses)
