"""CMO is balanced softmax with tail images pasted into half of the batches."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ltbench.method import Batch, Stage, at_rest

LOGITS = np.random.default_rng(0).normal(size=(1, 6, 3))
COUNTS = np.array([40, 8, 2])


@pytest.fixture
def batch():
    """Black images of class 0, and white ones of class 2 for pasting."""
    tail = Batch((torch.ones(6, 1, 8, 8),), torch.arange(6), torch.full((6,), 2))
    return Batch((torch.zeros(6, 1, 8, 8),), torch.arange(6), torch.zeros(6).long(), streams={"tail": tail})


def test_boxes_of_tail_images_share_the_label_by_area(batch, method_with_logits):
    method = method_with_logits("cmo", LOGITS, COUNTS)
    progress = replace(at_rest(Stage()), run_fraction=0.5)
    made = [method.prepare(batch, replace(progress, step=step)) for step in range(200)]
    pasted = [one for one in made if one.mixed_labels is not None]
    assert 70 < len(pasted) < 130
    for one in pasted:
        assert one.mixed_labels.tolist() == [2] * 6
        assert one.images.mean().item() == pytest.approx(1 - one.weight.item())


def test_nothing_is_pasted_at_the_start_nor_with_share_zero(batch, method_with_logits):
    for share, cmo in ((0.0, 0.5), (0.5, 0.0), (0.5, None)):
        method = method_with_logits("cmo", LOGITS, COUNTS, cmo=cmo)
        progress = replace(at_rest(Stage()), run_fraction=share)
        assert all(method.prepare(batch, replace(progress, step=step)).mixed_labels is None for step in range(20))


def test_the_loss_is_that_of_balanced_softmax_with_the_same_setting(batch, method_with_logits):
    progress = replace(at_rest(Stage()), run_fraction=0.5)
    for step in range(5):
        losses = []
        for name in ("cmo", "balanced_softmax"):
            method = method_with_logits(name, LOGITS, COUNTS, cmo=0.5)
            losses.append(method(method.prepare(batch, replace(progress, step=step)), progress).mean.item())
        assert losses[0] == losses[1]


def test_the_tail_sampler_draws_classes_alike(method_with_logits):
    labels = torch.arange(1000).ge(900).long()
    samplers = method_with_logits("cmo", LOGITS, COUNTS).samplers(labels, Stage())
    assert labels[samplers["tail"](np.random.default_rng(0))].double().mean().item() == pytest.approx(0.5, abs=0.05)
