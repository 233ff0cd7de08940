"""LWS: scales on the logits of a frozen network."""

import math

import pytest
import torch

from ltbench import registry
from ltbench.conformance import RECIPE, Subject
from ltbench.method import Stage, at_rest


def test_the_loss_by_hand(method_with_logits, batch_of):
    # f z = (2 * 1, 0.5 * 2) = (2, 1): the loss of label 0 is ln(1 + e^-1).
    method = method_with_logits("lws", torch.tensor([[[1.0, 2.0]]]), torch.tensor([3, 1]))
    method.scales.data = torch.tensor([2.0, 0.5])
    loss = method(batch_of([0]), at_rest(Stage())).mean
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-1)))
    assert method.predict(torch.zeros(1, 1, 2, 2)).tolist() == [[2.0, 1.0]]


def test_it_starts_at_the_network_that_it_starts_from():
    subject = Subject(registry.method("lws"))
    method = subject.make().eval()
    images = next(subject.test.eval_batches()).images
    torch.testing.assert_close(method.predict(images), method.network(images))


def test_only_the_scales_train(tmp_path):
    subject = Subject(registry.method("lws"))
    method = subject.make()
    (stage,) = method.stages(RECIPE)
    assert [name for name, _ in method.named_parameters() if name.startswith(stage.trains)] == ["scales"]
    before = {name: weight.detach().clone() for name, weight in method.network.named_parameters()}
    subject.fit(method, tmp_path / "checkpoint.pt")
    assert all(torch.equal(weight, before[name]) for name, weight in method.network.named_parameters())
    assert not torch.equal(method.scales, torch.ones(4))
