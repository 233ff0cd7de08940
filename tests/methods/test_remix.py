"""Remix is mixup, but for the labels of much rarer classes."""

from dataclasses import replace

import numpy as np
import torch

from ltbench.method import Stage, at_rest

LABELS = np.array([0, 0, 0, 1, 2, 2])


def pairs(method_with_logits, batch_of, counts, steps=30):
    """The same batches as Remix and as mixup mix them."""
    logits = np.zeros((1, 6, 3), np.float32)
    remix = method_with_logits("remix", logits, counts)
    mixup = method_with_logits("ce", logits, counts, mixup=1.0)
    for step in range(steps):
        progress = replace(at_rest(Stage()), step=step)
        yield remix.prepare(batch_of(LABELS), progress), mixup.prepare(batch_of(LABELS), progress)


def test_with_equal_counts_it_is_mixup(method_with_logits, batch_of):
    for mine, plain in pairs(method_with_logits, batch_of, np.array([9, 9, 9])):
        assert torch.equal(mine.mixed_labels, plain.mixed_labels)
        assert torch.equal(mine.weight, plain.weight.expand(6))


def test_a_class_three_times_as_rare_takes_the_label_of_what_is_mostly_its_image(method_with_logits, batch_of):
    counts, changed = np.array([30, 20, 10]), 0  # 0 and 2 are far enough apart, 1 is near to both
    for mine, plain in pairs(method_with_logits, batch_of, counts):
        share = plain.weight.item()
        for label, other, weight in zip(mine.labels, mine.mixed_labels, mine.weight, strict=True):
            rarest_first = {(0, 2): 0.0 if share < 0.5 else share, (2, 0): 1.0 if share > 0.5 else share}
            want = rarest_first.get((int(label), int(other)), share)
            assert weight.item() == np.float32(want)
            changed += want != share
    assert changed > 10
