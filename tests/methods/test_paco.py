"""PaCo against the published loss, its queue, and its key network."""

import numpy as np
import pytest
import torch

from ltbench.conformance import Subject
from ltbench.method import Batch, ClassPrior, Stage, at_rest
from ltbench.method.losses import logit_adjusted_cross_entropy
from ltbench_methods.paco import PaCo, Queue, _across, paco_loss
from tests.fixed_logits import FirstColumns, GivenFeatures, rows, same, same_loss, tangential


def test_the_published_loss_and_gradients(golden_losses):
    want = golden_losses("paco")
    features = torch.from_numpy(want["features"]).requires_grad_()
    logits = torch.from_numpy(want["supervised_logits"]).requires_grad_()
    prior = ClassPrior(torch.from_numpy(want["class_counts"]))
    constants = {name: float(want[name]) for name in ("alpha", "beta", "gamma", "temperature")}
    loss = paco_loss(features, torch.from_numpy(want["labels"]), logits, prior.log, **constants).mean()
    loss.backward()
    same_loss(loss, want["loss"])
    same(features.grad, want["grad_features"])
    same(logits.grad, want["grad_supervised_logits"])


def test_the_method_has_the_published_loss_and_gradients(golden_losses):
    want = {name: torch.from_numpy(np.asarray(value)) for name, value in golden_losses("paco").items()}
    size, features, labels = int(want["batch_size"]), want["features"], want["labels"]
    dimension, length = features.shape[1], int(want["queue_size"])
    logits = torch.cat([want["supervised_logits"], torch.zeros_like(want["supervised_logits"])])
    network = GivenFeatures(features[: 2 * size], logits)
    settings = {"alpha": float(want["alpha"]), "temperature": float(want["temperature"]), "queue": length}
    method = PaCo(lambda **kwargs: network, ClassPrior(want["class_counts"]), PaCo.Config(**settings))
    method.projection = method.key_projection = FirstColumns(dimension)
    method.queue = Queue(length, dimension)
    method.queue.keys.copy_(features[2 * size :])
    method.queue.labels.copy_(labels[2 * size :])
    assert torch.equal(labels[:size], labels[size : 2 * size])
    batch = Batch((rows(0, size), rows(size, 2 * size)), torch.arange(size), labels[:size])
    loss = method(batch, at_rest(Stage())).mean
    loss.backward()
    same_loss(loss, want["loss"])
    same(network.given.grad[:size], tangential(want["grad_features"], features)[:size])
    assert not network.given.grad[size:].any()  # keys have no gradient
    same(network.logits.grad[:size], want["grad_supervised_logits"])


def test_by_hand_with_a_queue_entry_of_no_class():
    # One anchor (1, 0) of class 0 among two classes; its key is itself, the queue holds (0, 1) of no class. T = 1.
    # Centres ln 2 + ln 1/2 = 0 and ln 1/2; images: key 1, queue 0. Normaliser: 1 + 1/2 + gamma (e + 1).
    # With gamma = 1/2 it is 2 + e/2. Positives: centre (weight 1) 0 and key (weight 1/2) 1, so that the loss is
    # ln(2 + e/2) - (1/2) / (3/2).
    features = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    logits, log_prior = torch.tensor([[2.0, 1.0]]).log(), torch.tensor([0.5, 0.5]).log()
    loss = paco_loss(features, torch.tensor([0, 0, -1]), logits, log_prior, alpha=0.5, temperature=1.0, gamma=0.5)
    assert loss.item() == pytest.approx(np.log(2 + np.e / 2) - 1 / 3)


def test_without_images_it_is_the_balanced_softmax():
    # Similarities of -1 at a temperature of .01 weigh e^-100 in the normaliser: only the class centres are left.
    features = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    logits, log_prior = torch.tensor([[0.3, -1.0]]), torch.tensor([0.9, 0.1]).log()
    loss = paco_loss(features, torch.tensor([1, 1]), logits, log_prior, alpha=0.0, temperature=0.01)
    expected = logit_adjusted_cross_entropy(logits, torch.tensor([1]), log_prior, torch.tensor(1.0))
    torch.testing.assert_close(loss, expected)


def test_anchors_need_not_come_first():
    draws = torch.Generator().manual_seed(0)
    features, logits = torch.randn(7, 4, generator=draws), torch.randn(5, 3, generator=draws)
    labels, log_prior = torch.tensor([0, 1, 1, 2, 0, 1, -1]), torch.tensor([0.5, 0.3, 0.2]).log()
    whole = paco_loss(features, labels, logits, log_prior, alpha=0.5, temperature=1.0)
    some = paco_loss(features, labels, logits[2:4], log_prior, alpha=0.5, temperature=1.0, first=2)
    torch.testing.assert_close(some, whole[2:4])


def step(subject, method):
    (stage,) = subject.stages(method)
    batch, progress = subject.batch(method, stage)
    loss = method(batch, progress)
    with torch.no_grad():
        method.after_step(progress)
    return batch, loss


def test_the_queue_takes_the_newest_keys_and_drops_the_oldest():
    subject = Subject(PaCo)
    method = subject.make(queue=20)
    before = method.queue.keys.clone()
    batch, _ = step(subject, method)
    assert len(batch.labels) == 16
    assert torch.equal(method.queue.labels, torch.cat([batch.labels, torch.full((4,), -1)]))
    assert torch.equal(method.queue.keys[16:], before[:4])
    assert not torch.equal(method.queue.keys[:4], before[:4])


def test_keys_of_mixed_images_have_the_label_of_the_larger_share():
    subject = Subject(PaCo)
    method = subject.make(queue=16, mixup=1.0)
    batch, _ = step(subject, method)
    wanted = batch.labels if batch.weight >= 0.5 else batch.mixed_labels
    assert torch.equal(method.queue.labels, wanted)


def test_the_key_network_is_a_moving_average():
    subject = Subject(PaCo)
    method = subject.make(momentum=0.75)
    with torch.no_grad():
        method.projection[0].bias += 1.0
        expected = method.key_projection[0].bias + 0.25
        step(subject, method)
    torch.testing.assert_close(method.key_projection[0].bias, expected)


def test_keys_are_encoded_in_parts_across_the_batch_and_come_back_in_order():
    seen = []
    encoded = _across(lambda part: seen.append(part.tolist()) or 10 * part, torch.arange(5), 2)
    assert seen == [[0, 2, 4], [1, 3]]
    assert encoded.tolist() == [0, 10, 20, 30, 40]
