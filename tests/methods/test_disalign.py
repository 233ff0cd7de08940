"""DisAlign's formulas by hand, and where it starts."""

import math

import pytest
import torch
from torch import nn

from ltbench import registry
from ltbench.conformance import Subject
from ltbench.method import Batch, ClassPrior, Stage, at_rest
from ltbench.method.losses import cross_entropy
from ltbench.models.experts import ExpertNetwork
from ltbench_methods.disalign import aligned, generalised_weights


def test_the_aligned_logits_by_hand():
    # z = (1, 2), g = 1/2, a = (2, 1), b = (0, 4): (1 + g a) z = (2, 3), g b = (0, 2), together (2, 5).
    found = aligned(
        torch.tensor([[1.0, 2.0]]), torch.tensor([[0.5]]), torch.tensor([2.0, 1.0]), torch.tensor([0.0, 4.0])
    )
    assert found.tolist() == [[2.0, 5.0]]


def test_a_whole_step_by_hand():
    # Features x = (2, 3) and the logits z = x: the confidence is s(0.1 (2 + 3)) = s(1/2). Classes of 8 and 2 images,
    # rho = 1: weights (0.4, 1.6). Of z' = (1 + g) z the loss is 1.6 ln(1 + e^d), d = (1 + g) (2 - 3), over 1.6, and its
    # gradient by a is (p_c - y_c) g z_c, with p_1 - 1 = -p_0 and p_0 = s(d); by b it is (p_c - y_c) g.
    network = ExpertNetwork(nn.Identity(), [nn.Flatten()], [nn.Linear(2, 2)])
    network.heads[0].weight.data, network.heads[0].bias.data = torch.eye(2), torch.zeros(2)
    cls = registry.method("disalign")
    method = cls(lambda **kwargs: network, ClassPrior(torch.tensor([8, 2])), cls.Config(rho=1.0))
    method.confidence.bias.data.zero_()
    batch = Batch((torch.tensor([2.0, 3.0]).view(1, 1, 1, 2),), torch.arange(1), torch.tensor([1]))
    confidence = 1 / (1 + math.exp(-0.5))
    assert method.predict(batch.images).tolist()[0] == pytest.approx([(1 + confidence) * 2, (1 + confidence) * 3])
    loss = method(batch, at_rest(Stage()))
    loss.mean.backward()
    wrong = 1 / (1 + math.exp(1 + confidence))
    assert loss.mean.item() == pytest.approx(math.log1p(math.exp(-1 - confidence)), rel=1e-5)
    assert float(loss.weight) == pytest.approx(1.6)
    assert method.magnitude.grad.tolist() == pytest.approx([wrong * confidence * 2, -wrong * confidence * 3], rel=1e-4)
    assert method.margin.grad.tolist() == pytest.approx([wrong * confidence, -wrong * confidence], rel=1e-4)


def test_the_class_weights_by_hand():
    # 1 / pi = (5/4, 5). rho = 1: 2 (5/4, 5) / (25/4). rho = 2: 2 (25/16, 25) / (425/16).
    counts = torch.tensor([8, 2])
    assert generalised_weights(counts, 1.0).tolist() == pytest.approx([0.4, 1.6])
    assert generalised_weights(counts, 2.0).tolist() == pytest.approx([2 / 17, 32 / 17])
    assert generalised_weights(counts, 0.0).tolist() == [1.0, 1.0]


def test_it_starts_at_one_plus_the_confidence_times_the_networks_logits():
    subject = Subject(registry.method("disalign"))
    method = subject.make().eval()
    images = next(subject.test.eval_batches()).images
    confidence = torch.sigmoid(method.confidence(method.network.features(images)))[0].detach()
    assert float(confidence.min()) > 0.5
    torch.testing.assert_close(method.predict(images), (1 + confidence) * method.network(images))


def test_the_confidence_depends_on_the_image():
    subject = Subject(registry.method("disalign"))
    method = subject.make().eval()
    images = next(subject.test.eval_batches()).images
    sums = method.network.features(images)[0].sum(1)
    method.margin.data = torch.tensor([1.0, 0.0, 0.0, 0.0])
    method.confidence.bias.data = -0.1 * sums.mean().detach().view(1)  # in the middle of the sigmoid
    method.magnitude.data.zero_()
    confidence = (method.predict(images) - method.network(images))[:, 0]  # g b
    assert confidence.std() > 0.001
    torch.testing.assert_close(confidence, torch.sigmoid(0.1 * (sums - sums.mean())), rtol=0, atol=1e-4)


def test_the_loss_is_a_mean_weighted_by_class():
    subject = Subject(registry.method("disalign"))
    method = subject.make().eval()
    batch = next(subject.train.eval_batches())
    values = cross_entropy(method.predict(batch.images), batch.labels)
    weights = generalised_weights(method.prior.counts, 1.2)[batch.labels]
    torch.testing.assert_close(method(batch, at_rest(Stage())).mean, (weights * values).sum() / weights.sum())


def test_only_the_alignment_trains(tmp_path):
    subject = Subject(registry.method("disalign"))
    method = subject.make(epochs=2)
    before = {name: weight.detach().clone() for name, weight in method.named_parameters()}
    subject.fit(method, tmp_path / "checkpoint.pt")
    moved = {name for name, weight in method.named_parameters() if not torch.equal(weight, before[name])}
    assert moved == {"magnitude", "margin", "confidence.weight", "confidence.bias"}
