"""Shifted test sets, against those of the published code and by hand."""

import numpy as np
import pytest

from ltbench.data.label_shift import DISTRIBUTIONS, LabelShift, shifted

FORWARD, BACKWARD = (lambda ratio, way=way: LabelShift(way, ratio) for way in ("forward", "backward"))


@pytest.mark.parametrize(
    ("case", "distribution"),
    [
        ("forward50", FORWARD(50)),
        ("forward5", FORWARD(5)),
        ("backward50", BACKWARD(50)),
        ("backward2", BACKWARD(2)),
    ],
)
def test_the_images_are_those_of_the_published_code(golden_losses, case, distribution):
    labels = golden_losses("selection")["targets"]
    expected = golden_losses(f"selection_{case}")
    falling = np.arange(10, 0, -1)
    assert shifted(labels, falling, distribution).tolist() == expected["indices"].tolist()


def test_cifar_100_has_the_papers_sizes():
    labels, falling = np.repeat(np.arange(100), 100), np.arange(100, 0, -1)
    sizes = [len(shifted(labels, falling, FORWARD(ratio))) for ratio in (50, 25, 10, 5, 2)]
    assert sizes == [2486, 2956, 3876, 4932, 7166]
    assert sizes == [len(shifted(labels, falling, BACKWARD(ratio))) for ratio in (50, 25, 10, 5, 2)]


def test_there_are_eleven_from_forward_to_backward():
    names = [distribution.name for distribution in DISTRIBUTIONS]
    assert names == [
        *(f"forward-{ratio}" for ratio in (50, 25, 10, 5, 2)),
        "uniform",
        *(f"backward-{ratio}" for ratio in (2, 5, 10, 25, 50)),
    ]


def counts(labels, train_counts, distribution):
    return np.bincount(labels[shifted(labels, train_counts, distribution)], minlength=len(train_counts)).tolist()


def test_classes_are_ranked_by_their_training_images_and_not_by_label():
    labels = np.repeat(np.arange(3), 16)
    train_counts = np.array([5, 100, 20])
    assert counts(labels, train_counts, FORWARD(16)) == [1, 16, 4]
    assert counts(labels, train_counts, BACKWARD(16)) == [16, 1, 4]


def test_uniform_is_the_whole_of_a_balanced_set_and_else_what_the_smallest_class_allows():
    train_counts = np.array([9, 3, 1])
    assert counts(np.repeat(np.arange(3), 4), train_counts, LabelShift("uniform", 1)) == [4, 4, 4]
    assert counts(np.repeat(np.arange(3), [7, 5, 2]), train_counts, LabelShift("uniform", 1)) == [2, 2, 2]


def test_a_class_may_be_left_without_images():
    labels = np.repeat(np.arange(3), 10)
    assert counts(labels, np.array([9, 3, 1]), FORWARD(50)) == [10, 1, 0]
