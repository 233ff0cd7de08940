"""GML by hand: a mean under the exponential for each class, the queue, its teacher."""

import math

import pytest
import torch

from ltbench import registry
from ltbench.config import RunConfig
from ltbench.conformance import RECIPE, Subject
from ltbench.method import ClassPrior
from ltbench.runs.resolve import resolve
from ltbench_methods.gml import ClassQueue, class_log_means, distillation


def test_the_mean_of_a_class_by_hand():
    # Class 0 has exp(s) = 1, 3 and class 1 has 5: ln 2 and ln 5. Without the second key, ln 1.
    similar, labels = torch.tensor([[1.0, 3.0, 5.0]]).log(), torch.tensor([0, 0, 1])
    everyone = torch.ones(1, 3)
    torch.testing.assert_close(class_log_means(similar, everyone, labels, 2), torch.tensor([[2.0, 5.0]]).log())
    without = torch.tensor([[1.0, 0.0, 1.0]])
    torch.testing.assert_close(class_log_means(similar, without, labels, 2), torch.tensor([[1.0, 5.0]]).log())


def test_a_class_whose_only_key_is_the_image_itself_keeps_it():
    similar, labels = torch.tensor([[1.0, 3.0, 5.0]]).log().requires_grad_(), torch.tensor([0, 0, 1])
    found = class_log_means(similar, torch.tensor([[1.0, 1.0, 0.0]]), labels, 2)
    torch.testing.assert_close(found, torch.tensor([[2.0, 5.0]]).log())
    found.sum().backward()
    assert similar.grad.isfinite().all()


def test_places_of_the_queue_by_hand():
    # 20 places, 2 for each of 3 classes and the other 14 by 5/7, 1/7, 1/7: 12, 4 and 4.
    queue = ClassQueue(20, 2, 1, ClassPrior(torch.tensor([5, 1, 1])))
    assert torch.bincount(queue.labels).tolist() == [12, 4, 4]
    labels, images = torch.tensor([1, 1, 1, 1, 1, 0]), torch.arange(6)
    kept, owners = queue.offer(torch.arange(6.0).unsqueeze(1), labels, images)
    assert kept[12:16].flatten().tolist() == [0, 1, 2, 3], "the fifth of class 1 has no place"
    assert (kept[0].item(), owners[0].item()) == (5, 5)
    assert queue.images.max() < 0, "kept when the step is done"
    queue.advance()
    kept, _ = queue.offer(torch.tensor([[9.0]]), torch.tensor([1]), torch.tensor([7]))
    assert kept[12:16].flatten().tolist() == [9, 1, 2, 3]
    kept, _ = queue.offer(torch.tensor([[8.0]]), torch.tensor([0]), torch.tensor([8]))
    assert kept[:2].flatten().tolist() == [5, 8]


def test_a_queue_that_is_too_short_is_refused():
    with pytest.raises(ValueError, match="a queue of 5 has no 2 places for each of 3 classes"):
        ClassQueue(5, 2, 4, ClassPrior(torch.tensor([5, 1, 1])))


def test_distillation_by_hand():
    # At T = 2 the logits (2 ln 3, 0) are p = (3/4, 1/4), and zeros are (1/2, 1/2).
    target = torch.tensor([[2 * math.log(3), 0.0]])
    want = 4 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert distillation(torch.zeros(1, 2), target, 2.0).item() == pytest.approx(want, rel=1e-5)


def test_the_teacher_is_a_run_of_balanced_softmax_and_stays_as_it_is(tmp_path):
    run = resolve(RunConfig(method="gml")).config
    (start,) = registry.method("gml").uses(run).values()
    assert (start.method, start.recipe.head) == ("balanced_softmax", "cosine")
    subject = Subject(registry.method("gml"))
    method = subject.make()
    before = {name: value.clone() for name, value in method.teacher.state_dict().items()}
    subject.fit(method, tmp_path / "checkpoint.pt")
    assert all(torch.equal(value, before[name]) for name, value in method.teacher.state_dict().items())


def test_the_temperature_learns_from_other_images_alone():
    subject = Subject(registry.method("gml"))
    method = subject.make(distill_weight=0)
    batch, progress = subject.batch(method, method.stages(RECIPE)[0])
    method(batch, progress).mean.backward()
    assert method.log_temperature.grad != 0
    queries = torch.nn.functional.normalize(torch.randn(4, 8), dim=1).requires_grad_()
    keys = torch.nn.functional.normalize(torch.randn(len(method.queue.labels), 8), dim=1)
    features, temperature = method._contrast(queries, keys, torch.arange(4), method.queue.images)
    assert torch.autograd.grad(features.sum(), method.log_temperature, allow_unused=True, retain_graph=True) == (None,)
    assert torch.autograd.grad(temperature.sum(), queries, allow_unused=True) == (None,)
