"""DisAlign's formulas by hand, and where it starts."""

import pytest
import torch

from ltbench import registry
from ltbench.conformance import Subject
from ltbench.losses import cross_entropy
from ltbench.method import Stage
from ltbench.train.fit import at_rest
from ltbench_methods.disalign import aligned, generalised_weights


def test_the_aligned_logits_by_hand():
    # z = (1, 2), g = 1/2, a = (2, 1), b = (0, 4): (1 - g) z = (0.5, 1), g (a z + b) = (1, 3), together (1.5, 4).
    found = aligned(
        torch.tensor([[1.0, 2.0]]), torch.tensor([[0.5]]), torch.tensor([2.0, 1.0]), torch.tensor([0.0, 4.0])
    )
    assert found.tolist() == [[1.5, 4.0]]


def test_the_class_weights_by_hand():
    # 1 / pi = (5/4, 5). rho = 1: 2 (5/4, 5) / (25/4). rho = 2: 2 (25/16, 25) / (425/16).
    counts = torch.tensor([8, 2])
    assert generalised_weights(counts, 1.0).tolist() == pytest.approx([0.4, 1.6])
    assert generalised_weights(counts, 2.0).tolist() == pytest.approx([2 / 17, 32 / 17])
    assert generalised_weights(counts, 0.0).tolist() == [1.0, 1.0]


def test_it_starts_at_the_network_that_it_starts_from():
    subject = Subject(registry.method("disalign"))
    method = subject.make().eval()
    images = next(subject.test.plain()).images
    torch.testing.assert_close(method.predict(images), method.network(images))


def test_the_confidence_depends_on_the_image():
    subject = Subject(registry.method("disalign"))
    method = subject.make().eval()
    images = next(subject.test.plain()).images
    sums = method.network.features(images)[0].sum(1)
    method.margin.data = torch.tensor([1.0, 0.0, 0.0, 0.0])
    method.confidence.bias.data = -0.1 * sums.mean().detach().view(1)  # in the middle of the sigmoid
    confidence = (method.predict(images) - method.network(images))[:, 0]  # g b
    assert confidence.std() > 0.001
    torch.testing.assert_close(confidence, torch.sigmoid(0.1 * (sums - sums.mean())), rtol=0, atol=1e-4)


def test_the_loss_is_a_mean_weighted_by_class():
    subject = Subject(registry.method("disalign"))
    method = subject.make().eval()
    batch = next(subject.train.plain())
    values = cross_entropy(method.network(batch.images), batch.labels)
    weights = generalised_weights(method.prior.counts, 1.2)[batch.labels]
    torch.testing.assert_close(method(batch, at_rest(Stage())).mean, (weights * values).sum() / weights.sum())


def test_only_the_alignment_trains(tmp_path):
    subject = Subject(registry.method("disalign"))
    method = subject.make(epochs=2)
    before = {name: weight.detach().clone() for name, weight in method.named_parameters()}
    subject.fit(method, tmp_path / "checkpoint.pt")
    moved = {name for name, weight in method.named_parameters() if not torch.equal(weight, before[name])}
    assert moved == {"magnitude", "margin", "confidence.weight", "confidence.bias"}
