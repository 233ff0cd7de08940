"""BCL against the published loss, and what makes it balanced."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ltbench.conformance import Subject
from ltbench.method import Batch, ClassPrior, Stage, at_rest
from ltbench.method.losses import logit_adjusted_cross_entropy
from ltbench_methods.bcl import BCL, balanced_contrast
from tests.fixed_logits import FirstColumns, GivenFeatures, rows, same, same_loss, tangential


def test_the_published_loss_and_gradients(golden_losses):
    want = golden_losses("bcl_balanced_supcon")
    features = torch.from_numpy(want["features"]).requires_grad_()
    prototypes = torch.from_numpy(want["prototypes"]).requires_grad_()
    targets, temperature = torch.from_numpy(want["targets"]), float(want["temperature"])
    loss = balanced_contrast(features.transpose(0, 1), prototypes, targets, temperature).mean()
    loss.backward()
    same_loss(loss, want["loss"])
    same(features.grad, want["grad_features"])
    same(prototypes.grad, want["grad_prototypes"])


def test_the_method_has_the_published_loss_and_gradients(golden_losses):
    want = {name: torch.from_numpy(np.asarray(value)) for name, value in golden_losses("bcl_balanced_supcon").items()}
    (size, _, dimension), classes = want["features"].shape, len(want["prototypes"])
    views = want["features"].transpose(0, 1).flatten(0, 1)  # the first views of all images, then the second ones
    given = torch.cat([torch.zeros(size, dimension), views])  # an image's view for the classifier comes first
    network = GivenFeatures(given, torch.zeros(len(given), classes), want["prototypes"])
    prior = ClassPrior(want["class_counts"])
    config = BCL.Config(contrast_weight=1.0, temperature=float(want["temperature"]))
    method = BCL(lambda **kwargs: network, prior, config)
    method.projection, method.prototypes = FirstColumns(dimension), FirstColumns(dimension)
    images = tuple(rows(view * size, (view + 1) * size) for view in range(3))
    loss = method(Batch(images, torch.arange(size), want["targets"]), at_rest(Stage())).mean
    loss.backward()
    tau = torch.tensor(1.0)
    classified = logit_adjusted_cross_entropy(torch.zeros(size, classes), want["targets"], prior.log, tau).mean()
    same_loss(loss - classified, want["loss"])
    directions, gradient = want["features"].float(), want["grad_features"].float()
    same(network.given.grad[size:].view(2, size, dimension).transpose(0, 1), tangential(gradient, directions))
    same(network.heads[0].weight.grad, tangential(want["grad_prototypes"].float(), want["prototypes"].float()))


def test_by_hand():
    # Two views of one image of class 0, all vectors alike but the prototype of class 1, which is opposite; T = 1.
    # Class 0 has 2 members beside the anchor (e each), class 1 has one (1/e): normaliser 2 e / 2 + (1/e) / 1.
    # Each positive has log probability 1 - ln(e + 1/e).
    features = torch.tensor([1.0, 0.0]).expand(2, 1, 2)
    prototypes = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    loss = balanced_contrast(features, prototypes, torch.tensor([0]), 1.0)
    assert loss.tolist() == pytest.approx([np.log(np.e + 1 / np.e) - 1])


def test_repeating_the_images_of_another_class_changes_nothing():
    # A class counts by the mean over its members; if its prototype is like its images, more of them do not matter.
    draws = torch.Generator().manual_seed(0)
    anchor, other = F.normalize(torch.randn(2, 8, generator=draws), dim=1)
    prototypes = torch.stack([anchor, other])
    once = balanced_contrast(torch.stack([anchor, other]).expand(2, 2, 8), prototypes, torch.tensor([0, 1]), 0.1)
    many = torch.stack([anchor, other, other, other]).expand(2, 4, 8)
    often = balanced_contrast(many, prototypes, torch.tensor([0, 1, 1, 1]), 0.1)
    torch.testing.assert_close(often[0], once[0])


def test_images_of_other_processes_are_compared_too():
    # Two processes, of three images and two; what is gathered has a process's views together.
    draws = torch.Generator().manual_seed(0)
    features = F.normalize(torch.randn(2, 5, 8, generator=draws), dim=2)
    prototypes = F.normalize(torch.randn(3, 8, generator=draws), dim=1)
    labels = torch.tensor([0, 1, 0, 2, 1])
    whole = balanced_contrast(features, prototypes, labels, 0.1)

    def first_and(own):  # the second process gathers its features, then their labels
        rows = features[:, :3].flatten(0, 1) if own.ndim == 2 else labels[:3].repeat(2)
        return torch.cat([rows, own])

    second = balanced_contrast(features[:, 3:], prototypes, labels[3:], 0.1, first_and, 3)
    torch.testing.assert_close(second, whole[3:])


def test_without_contrast_it_is_the_logit_adjusted_loss():
    subject = Subject(BCL)
    method = subject.make(contrast_weight=0.0, ce_weight=2.0)
    (stage,) = subject.stages(method)
    batch, progress = subject.batch(method, stage)
    loss = method(batch, progress).mean
    with torch.no_grad():
        logits = method.network(torch.cat(batch.views))[: len(batch.labels)]
    expected = logit_adjusted_cross_entropy(logits, batch.labels, method.log_prior, torch.tensor(1.0))
    torch.testing.assert_close(loss, 2 * expected.mean())
