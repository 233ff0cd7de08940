"""MDCS: the published code's formulas, worked out by hand."""

import numpy as np
import pytest
import torch

from ltbench.method import Stage, at_rest
from ltbench.method.losses import logit_adjusted_cross_entropy
from ltbench_methods.mdcs import self_distillation, supervised

LN3 = float(np.log(3))


def test_only_answers_that_are_right_teach():
    # Weak predictions (3/4, 1/4), (1/4, 3/4) and (3/4, 1/4), all of label 0; the strong ones are (1/2, 1/2). The
    # first and third are right: KL = 3/4 ln 3/2 + 1/4 ln 1/2 = 3/4 ln 3 - ln 2 each, and the mean of those two.
    weak = torch.tensor([[[LN3, 0.0], [0.0, LN3], [LN3, 0.0]]], requires_grad=True)
    strong = torch.zeros(1, 3, 2, requires_grad=True)
    got = self_distillation(weak, strong, torch.tensor([0, 0, 0]))
    assert got.mean().item() == pytest.approx(0.75 * LN3 - np.log(2), rel=1e-5)
    assert got[1] == 0
    got.mean().backward()
    assert weak.grad is None
    torch.testing.assert_close(strong.grad, torch.tensor([[[-0.125, 0.125], [0.0, 0.0], [-0.125, 0.125]]]))


def test_without_right_answers_nothing_is_taught():
    weak = torch.tensor([[[LN3, 0.0]]])
    assert self_distillation(weak, -weak, torch.tensor([1])).tolist() == [0.0]


def test_the_loss_is_summed_over_experts_and_averaged_over_views():
    # Label 0; expert 1: p = 3/4 weak, 1/4 strong; expert 2: 1/2 and 1/2.
    weak, strong = torch.tensor([[[LN3, 0.0]], [[0.0, 0.0]]]), torch.tensor([[[0.0, LN3]], [[0.0, 0.0]]])
    got = supervised(weak, strong, torch.tensor([0])).item()
    assert got == pytest.approx((np.log(4 / 3) + np.log(4)) / 2 + np.log(2), rel=1e-5)


def test_the_whole_loss(method_with_logits, batch_of):
    rng = np.random.default_rng(0)
    logits, counts = rng.normal(size=(3, 8, 4)).astype(np.float32), np.array([90, 30, 9, 2])  # 4 images, 2 views
    labels = torch.tensor([0, 1, 2, 3])
    method = method_with_logits("mdcs", logits, counts)
    batch = batch_of(labels, views=2)
    z, log_counts = torch.from_numpy(logits), torch.from_numpy(counts).log()
    begin, late = at_rest(Stage()), at_rest(Stage())
    begin.stage_fraction, late.stage_fraction = torch.tensor(0.0), torch.tensor(0.5)
    taus = torch.tensor([-0.5, 1.0, 2.5])
    twice = labels.repeat(2)
    plain = sum(logit_adjusted_cross_entropy(z[m], twice, log_counts, tau).mean() for m, tau in enumerate(taus))
    torch.testing.assert_close(method(batch, begin).mean, plain)
    taught = 0.0
    for own, tau in zip(z, taus, strict=True):
        p = (own + tau * log_counts).softmax(1)
        right = [i for i in range(4) if p[i].argmax() == labels[i]]
        kl = [(p[i] * (p[i].log() - p[i + 4].log())).sum() for i in right]
        taught = taught + (sum(kl) / len(kl) if kl else 0.0)
    assert taught > 0
    torch.testing.assert_close(method(batch, late).mean, plain + 0.6 * taught)
    assert method.logit_prior == 0.0
