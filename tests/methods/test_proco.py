"""ProCo: the Bessel function, the closed form it gives, and the running class means."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.special import ive

from ltbench.conformance import Subject
from ltbench.method.losses import logit_adjusted_cross_entropy
from ltbench_methods.proco import ProCo, concentration, expected_logits, log_partition

CONCENTRATIONS = np.concatenate([[1e-2, 1.0], np.geomspace(5, 1e5, 30)])


def log_bessel(order, k):
    return np.log(ive(order, k)) + k


@pytest.mark.parametrize(("dimension", "tolerance"), [(32, 1e-5), (128, 1e-7)])
def test_the_partition_function_is_that_of_scipy(dimension, tolerance):
    order = dimension / 2 - 1
    ks = CONCENTRATIONS[ive(order, CONCENTRATIONS) > 0]  # scipy's underflows where k is small beside the order
    assert len(ks) >= 25
    k = torch.from_numpy(ks).requires_grad_()
    ours = log_partition(k**2, dimension)
    want = log_bessel(order, ks) - order * np.log(ks)
    np.testing.assert_allclose(ours.detach().numpy(), want, rtol=0, atol=tolerance)
    # Its derivative is the ratio I_(nu + 1) / I_nu.
    (slope,) = torch.autograd.grad(ours.sum(), k)
    np.testing.assert_allclose(slope.numpy(), ive(order + 1, ks) / ive(order, ks), rtol=0, atol=tolerance)


def test_the_partition_function_at_zero():
    # I_nu(k) / k^nu tends to 2^-nu / gamma(nu + 1): here nu = 63.
    ours = log_partition(torch.zeros(1, dtype=torch.float64), 128)
    assert ours.item() == pytest.approx(-63 * np.log(2) - sum(np.log(range(1, 64))), abs=1e-7)


def test_small_dimensions_are_refused():
    with pytest.raises(ValueError, match="at least 32, not 31"):
        log_partition(torch.ones(1), 31)


def test_concentration_by_hand():
    # R = 1/2, D = 3: 1/2 (3 - 1/4) / (1 - 1/4) = 11/6. All samples alike: the largest. No direction: none.
    assert concentration(torch.tensor([0.5, 1.0, 0.0]), 3).tolist() == pytest.approx([11 / 6, 1e5, 0])


def test_the_closed_form_is_the_mean_over_samples_of_a_uniform_class():
    # A mean of 0 is a uniform class: the mean of exp(z . v / T) over the sphere, by sampling.
    draws = torch.Generator().manual_seed(0)
    samples = F.normalize(torch.randn(200_000, 32, generator=draws, dtype=torch.float64), dim=1)
    z = samples[:1]
    closed = expected_logits(z, torch.zeros(1, 32, dtype=torch.float64), 0.2)
    assert closed.item() == pytest.approx(torch.exp(samples @ z.T / 0.2).mean().log().item(), abs=0.01)


def test_a_class_of_one_point_is_a_prototype():
    # At the largest concentration the expected logit is nearly z . m / T: k' - k with k' = |k m + z / T|, and the
    # rest of the partition function hardly differs.
    draws = torch.Generator().manual_seed(0)
    z, means = F.normalize(torch.randn(2, 5, 128, generator=draws), dim=2)
    torch.testing.assert_close(expected_logits(z, means, 0.1).float(), z @ means.T / 0.1, rtol=0, atol=0.01)


def steps(method, subject, *places):
    (stage,) = subject.stages(method)
    batch, progress = subject.batch(method, stage)
    for epoch, step in places:
        progress.epoch, progress.step = epoch, step
        with torch.no_grad():
            method(batch, progress)
            method.after_step(progress)
    return batch


def test_class_means_are_over_the_epoch_before_and_this_one():
    subject = Subject(ProCo)
    method = subject.make()
    batch = steps(method, subject, (0, 0), (0, 1), (0, 2))
    once = 2.0 * torch.bincount(batch.labels, minlength=4)  # two views
    assert torch.equal(method.counts, torch.stack([once, 2 * once]))
    steps(method, subject, (1, 0), (1, 1))
    assert torch.equal(method.counts, torch.stack([3 * once, once]))


def test_a_step_alone_uses_its_own_means_and_leaves_unseen_classes_at_the_start():
    subject = Subject(ProCo)
    method = subject.make()
    (stage,) = subject.stages(method)
    batch, _ = subject.batch(method, stage)
    batch.labels = torch.arange(16) % 3
    features = F.normalize(torch.randn(2, 16, 128, generator=torch.Generator().manual_seed(0)), dim=2)
    means = method._means(features, batch)
    torch.testing.assert_close(means[1], features[:, batch.labels == 1].mean((0, 1)))
    assert torch.equal(means[3], method.start[3])
    assert method.start.norm(dim=1).tolist() == pytest.approx([0.9] * 4)


def test_mixed_images_enter_both_classes_by_share():
    subject = Subject(ProCo)
    method = subject.make()
    (stage,) = subject.stages(method)
    batch, _ = subject.batch(method, stage)
    batch.labels, batch.mixed_labels = torch.zeros(16, dtype=torch.long), torch.ones(16, dtype=torch.long)
    batch.weight = torch.tensor(0.75)
    method._means(torch.ones(2, 16, 128), batch)
    assert method.new_counts.tolist() == [24.0, 8.0, 0.0, 0.0]


def test_without_contrast_it_is_the_logit_adjusted_loss():
    subject = Subject(ProCo)
    method = subject.make(contrast_weight=0.0)
    (stage,) = subject.stages(method)
    batch, progress = subject.batch(method, stage)
    loss = method(batch, progress).mean
    with torch.no_grad():
        logits = method.network(torch.cat(batch.views))[: len(batch.labels)]
    expected = logit_adjusted_cross_entropy(logits, batch.labels, method.log_prior, torch.tensor(1.0))
    torch.testing.assert_close(loss, expected.mean())
