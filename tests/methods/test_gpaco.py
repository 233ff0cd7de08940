"""GPaCo: PaCo's loss with both views as anchors, and one network."""

import numpy as np
import pytest
import torch

from ltbench.conformance import Subject
from ltbench_methods.gpaco import GPaCo
from ltbench_methods.paco import paco_loss


def prepared(**hyperparameters):
    subject = Subject(GPaCo)
    method = subject.make(**hyperparameters)
    (stage,) = subject.stages(method)
    return method, *subject.batch(method, stage)


def test_by_hand_with_two_views_as_anchors():
    # One image of class 0 among two classes, its views at right angles, an empty queue, T = 1, alpha = 1.
    # Either anchor: centres z + ln pi = (ln 2 + ln 1/2, ln 1/2) = (0, ln 1/2), the other view 0; itself left out.
    # Normaliser 1 + 1/2 + 1; positives: centre 0 and other view 0. The loss is ln 5/2 for both.
    features = torch.eye(2)
    logits, log_prior = torch.tensor([[2.0, 1.0], [2.0, 1.0]]).log(), torch.tensor([0.5, 0.5]).log()
    losses = paco_loss(features, torch.tensor([0, 0]), logits, log_prior, alpha=1.0, temperature=1.0)
    assert losses.tolist() == pytest.approx([np.log(5 / 2)] * 2)


def test_both_views_are_classified_and_the_loss_is_their_mean():
    method, batch, progress = prepared(alpha=0.0, temperature=1e4)
    loss = method(batch, progress).mean
    # At so high a temperature all similarities are 0: each of the other 31 features and the 1024 of the queue adds 1.
    values = []
    for view in batch.views:
        logits = method.network(view) + method.log_prior
        normaliser = torch.cat([logits, torch.zeros(len(logits), 31 + 1024)], 1).logsumexp(1)
        values.append(normaliser - logits.gather(1, batch.labels[:, None])[:, 0])
    torch.testing.assert_close(loss, torch.cat(values).mean(), rtol=1e-4, atol=1e-4)


def test_gradients_reach_both_views_and_the_queue_takes_the_second():
    method, batch, progress = prepared(queue=16)
    for view in batch.views:
        view.requires_grad_()
    method(batch, progress).mean.backward()
    assert all(bool(view.grad.abs().sum() > 0) for view in batch.views)
    with torch.no_grad():
        method.after_step(progress)
        expected = method._encode(batch.views[1])[0]
    torch.testing.assert_close(method.queue.keys, expected)
    assert torch.equal(method.queue.labels, batch.labels)
