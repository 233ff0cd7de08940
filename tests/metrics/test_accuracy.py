"""Accuracies against a table worked out by hand."""

import pytest
import torch

from ltbench.metrics.accuracy import accuracies, correct_by_class, macro_accuracy

LABELS = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2])
PREDICTED = torch.tensor([0, 0, 0, 1, 1, 0, 0, 1])  # class 0: 3 of 4, class 1: 1 of 2, class 2: 0 of 2
LOGITS = torch.nn.functional.one_hot(PREDICTED, 4).float()


def test_by_class():
    correct, total = correct_by_class(LOGITS, LABELS)
    assert correct.tolist() == [3, 1, 0, 0]
    assert total.tolist() == [4, 2, 2, 0]


def test_groups_are_means_over_classes_and_an_empty_one_is_not_available():
    correct, total = correct_by_class(LOGITS, LABELS)
    got = accuracies(correct, total, {"many": [0, 1], "medium": [2, 3], "few": []})
    assert got["top1"] == pytest.approx(50.0)
    assert got["macro"] == pytest.approx((75 + 50 + 0) / 3), "class 3 has no image and no accuracy"
    assert macro_accuracy(LOGITS, LABELS) == got["macro"]
    assert got["worst_class"] == 0
    assert got["many"] == pytest.approx(62.5), "the mean of class accuracies, not 4 of 6 images"
    assert got["medium"] == 0
    assert got["few"] is None


def test_a_group_whose_classes_have_no_test_image_is_not_available():
    correct, total = correct_by_class(LOGITS, LABELS)
    assert accuracies(correct, total, {"few": [3]})["few"] is None
