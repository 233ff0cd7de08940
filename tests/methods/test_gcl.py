"""GCL by hand, and what its noise and its second stage are."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ltbench.config import Recipe
from ltbench.method import Stage, at_rest
from ltbench_methods.gcl import cloud_sizes

FIRST, SECOND = 0, 1


def test_clouds_grow_with_the_log_of_the_count():
    torch.testing.assert_close(cloud_sizes(torch.tensor([100, 10, 1])), torch.tensor([0.0, 0.5, 1.0]))
    torch.testing.assert_close(cloud_sizes(torch.tensor([5, 5])), torch.zeros(2))


def test_both_stages_by_hand(method_with_logits, batch_of):
    # Cosines (0.5, 0.5), noise 0.6 and largest cloud 0.5: the rare class has 0.5 - 0.5 * 0.6 = 0.2.
    # First stage: 30 (0.5, 0.2) = (15, 6). Second: 20 (0.5, 0.2 - 0.1) = (10, 2), times 1 - p, which has no gradient.
    method = method_with_logits("gcl", np.full((1, 1, 2), 15.0), np.array([100, 1]))
    batch = batch_of(np.array([1]))
    batch = replace(batch, views=(*batch.views, torch.tensor([[0.9, 0.6]])))
    stages = method.stages(Recipe())
    loss = method(batch, at_rest(stages[FIRST])).mean
    assert loss.item() == pytest.approx(np.log1p(np.exp(9)), rel=1e-5)
    method.begin(stages[SECOND], None)
    loss = method(batch, at_rest(stages[SECOND])).mean
    missing = 1 / (1 + np.exp(-8))
    assert loss.item() == pytest.approx(missing * np.log1p(np.exp(8)), rel=1e-5)
    loss.backward()
    slope = missing * 20 / 30 * missing
    np.testing.assert_allclose(method.network.logits.grad[0, 0].numpy(), [slope, -slope], rtol=1e-5)


def test_each_label_of_a_mixed_image_has_noise_of_its_own(method_with_logits, batch_of):
    # Cosines (0.5, 0.5) and largest cloud 0.5. Label 0 with noise 0.6: 30 (0.5, 0.2) = (15, 6), so ln(1 + e^-9).
    # Label 1 with noise 0.2: 30 (0.5, 0.4) = (15, 12), so ln(1 + e^3). Shares 0.3 and 0.7.
    method = method_with_logits("gcl", np.full((1, 1, 2), 15.0), np.array([100, 1]))
    batch, progress = batch_of(np.array([0])), at_rest(Stage())
    noise = torch.tensor([[[0.9, 0.6]], [[0.9, 0.2]]])
    mixed = {"mixed_labels": torch.tensor([1]), "weight": torch.tensor(0.3)}
    loss = method(replace(batch, views=(*batch.views, *noise), **mixed), progress).mean
    assert loss.item() == pytest.approx(0.3 * np.log1p(np.exp(-9)) + 0.7 * np.log1p(np.exp(3)), rel=1e-5)


@pytest.mark.parametrize(("mixup", "drawn"), [(0.0, 1), (1.0, 2)])
def test_noise_is_drawn_for_as_many_labels_as_an_image_has(mixup, drawn, method_with_logits, batch_of):
    method = method_with_logits("gcl", np.zeros((1, 1, 3)), np.array([9, 3, 1]), mixup=mixup)
    _, *noise = method.prepare(batch_of(np.zeros(4, int)), at_rest(Stage())).views
    assert [one.shape for one in noise] == [(4, 3)] * drawn
    assert drawn == 1 or not torch.equal(*noise)


def test_noise_is_half_normal_and_belongs_to_the_step(method_with_logits, batch_of):
    method = method_with_logits("gcl", np.zeros((1, 1, 10)), np.arange(10, 0, -1))
    batch, progress = batch_of(np.zeros(4000, int)), at_rest(Stage())
    noise = method.prepare(batch, progress).views[-1]
    assert noise.shape == (4000, 10)
    assert noise.min() >= 0
    assert noise.max() == 1
    assert noise.mean().item() == pytest.approx(np.sqrt(2 / np.pi) / 3, rel=0.02)
    assert torch.equal(noise, method.prepare(batch, progress).views[-1])
    assert not torch.equal(noise, method.prepare(batch, replace(progress, step=1)).views[-1])


def test_the_second_stage_draws_classes_alike(method_with_logits):
    method = method_with_logits("gcl", np.zeros((1, 1, 2)), np.array([900, 100]))
    labels = torch.arange(1000).ge(900).long()
    share = []
    for stage in method.stages(Recipe()):
        drawn = method.samplers(labels, stage)["main"](np.random.default_rng(0))
        share.append(labels[drawn].double().mean().item())
    assert share == [0.1, pytest.approx(0.5, abs=0.05)]
