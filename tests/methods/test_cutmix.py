"""CutMix mixes every batch, and its loss is cross entropy shared by area."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ltbench.method import Stage, at_rest
from ltbench.method.losses import cross_entropy


def test_every_batch_has_boxes_and_labels_by_area(method_with_logits, batch_of):
    logits = np.random.default_rng(0).normal(size=(1, 4, 4)).astype(np.float32)
    method = method_with_logits("cutmix", logits, np.array([4, 3, 2, 1]))
    plain = batch_of(np.arange(4))
    plain.views = (torch.arange(4.0).view(4, 1, 1, 1).expand(4, 1, 8, 8),)  # every image shows its label
    for step in range(20):
        progress = replace(at_rest(Stage()), step=step)
        batch = method.prepare(plain, progress)
        kept = batch.weight * batch.labels + (1 - batch.weight) * batch.mixed_labels
        torch.testing.assert_close(batch.images.mean((1, 2, 3)), kept)
        each = [cross_entropy(torch.from_numpy(logits[0]), labels) for labels in (batch.labels, batch.mixed_labels)]
        want = (batch.weight * each[0] + (1 - batch.weight) * each[1]).mean().item()
        assert method(batch, progress).mean.item() == pytest.approx(want, rel=1e-6)
