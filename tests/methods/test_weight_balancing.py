"""Weight balancing by hand: the loss of its second stage, the radius, and what each stage trains how."""

import numpy as np
import pytest
import torch

from ltbench import registry
from ltbench.conformance import RECIPE, Subject
from ltbench.method import at_rest
from ltbench_methods.weight_balancing import binary_cross_entropy, max_norm

FIRST, SECOND = 0, 1


def test_the_loss_of_the_second_stage_by_hand(method_with_logits, batch_of):
    # p = (1/4, 1/4, 1/2). Target 2: (-ln(1/2) - 2 ln(3/4)) / 3. Counts are equal, so that the weights are one.
    logits = np.log([[[1.0, 1.0, 2.0]]])
    method = method_with_logits("weight_balancing", logits, np.array([5, 5, 5]))
    batch = batch_of(np.array([2]))
    stages = method.stages(RECIPE)
    loss = method(batch, at_rest(stages[SECOND])).mean
    assert loss.item() == pytest.approx((np.log(2) - 2 * np.log(0.75)) / 3, rel=1e-5)
    assert method(batch, at_rest(stages[FIRST])).mean.item() == pytest.approx(np.log(2), rel=1e-5)


def test_the_loss_is_finite_where_a_probability_is_one():
    logits = torch.tensor([[80.0, 0.0, 0.0], [80.0, 0.0, 0.0]], requires_grad=True)
    loss = binary_cross_entropy(logits, torch.tensor([0, 1])).sum()
    loss.backward()
    assert loss.isfinite()
    assert logits.grad.isfinite().all()
    assert logits.grad[1, 1] < 0


def test_long_weights_are_shortened_and_short_ones_stay():
    weights = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]])
    torch.testing.assert_close(max_norm(weights, torch.tensor(2.0)), torch.tensor([[1.2, 1.6], [0.3, 0.4], [0, 0]]))


@pytest.mark.parametrize(("threshold", "radius"), [(0.0, 1.0), (0.25, 2.0), (1.0, 5.0)])
def test_the_radius_lies_between_the_shortest_and_the_longest_weights(threshold, radius):
    subject = Subject(registry.method("weight_balancing"))
    method = subject.make(threshold=threshold)
    head = method.network.heads[0]
    head.weight.data.zero_()
    head.weight.data[:, 0] = torch.tensor([5.0, 1.0, 3.0, 2.0])
    method.begin(method.stages(RECIPE)[SECOND], subject.train)
    assert method.radius.item() == pytest.approx(radius)
    with torch.no_grad():
        method.after_step(at_rest(method.stages(RECIPE)[SECOND]))
    torch.testing.assert_close(head.weight[:, 0], torch.tensor([5.0, 1.0, 3.0, 2.0]).clamp(max=radius))


def test_no_weight_is_longer_than_the_radius_in_the_end(tmp_path):
    subject = Subject(registry.method("weight_balancing"))
    method = subject.fit(subject.make(epochs=2, classifier_decay=0.0), tmp_path / "checkpoint.pt")
    norms = method.network.heads[0].weight.norm(dim=1)
    assert (norms <= method.radius * (1 + 1e-5)).all()
    assert (norms > 0.99 * method.radius).any()


def test_stages_have_weight_decays_of_their_own():
    method = Subject(registry.method("weight_balancing")).make(weight_decay=0.004)
    assert [stage.weight_decay for stage in method.stages(RECIPE)] == [0.004, 0.1]
    assert [stage.schedule and stage.schedule.lr for stage in method.stages(RECIPE)] == [None, 0.01]
    assert Subject(registry.method("weight_balancing")).make().stages(RECIPE)[FIRST].weight_decay is None


def test_images_are_mixed_in_the_first_stage_only():
    subject = Subject(registry.method("weight_balancing"))
    method = subject.make(mixup=0.5)
    mixed = [subject.batch(method, stage)[0].mixed_labels is not None for stage in method.stages(RECIPE)]
    assert mixed == [True, False]
