"""BBN: whose images each branch sees, and how its say shifts."""

from dataclasses import replace

import pytest
import torch

from ltbench import registry
from ltbench.conformance import RECIPE, Subject
from ltbench.method import at_rest


def test_classes_of_the_second_branch_are_drawn_by_the_inverse_of_their_counts():
    # Counts 9000, 900, 100: 1/n is 1 : 10 : 90.
    method = Subject(registry.method("bbn")).make()
    method.prior = type(method.prior)(torch.tensor([9000, 900, 100]))
    labels = torch.arange(3).repeat_interleave(method.prior.counts)
    (stage,) = method.stages(RECIPE)
    samplers = method.samplers(labels, stage)
    order = samplers["rare"](at_rest(stage).generator("x"))
    shares = torch.bincount(labels[order], minlength=3) / len(labels)
    assert (shares - torch.tensor([1, 10, 90]) / 101).abs().max() < 0.02
    assert torch.equal(samplers["main"](at_rest(stage).generator("x")).sort().values, torch.arange(10000))


def test_the_first_branch_begins_and_the_second_ends():
    subject = Subject(registry.method("bbn"))
    method = subject.make().eval()
    batch, progress = subject.batch(method, method.stages(RECIPE)[0])
    rare = batch.streams["rare"]
    with torch.no_grad():
        alone = [
            torch.nn.functional.cross_entropy(method.experts(one.images)[branch], one.labels)
            for branch, one in enumerate((batch, rare))
        ]
        for fraction, want in zip((0.0, 1.0), alone, strict=True):
            found = method(batch, replace(progress, stage_fraction=torch.tensor(fraction))).mean
            torch.testing.assert_close(found, want)


def test_the_prediction_is_the_sum_of_the_branches():
    subject = Subject(registry.method("bbn"))
    method = subject.make().eval()
    images = next(subject.test.eval_batches()).images
    with torch.no_grad():
        torch.testing.assert_close(method.predict(images), method.network.experts(images).sum(0))


def test_each_branch_has_the_sharpness_of_its_own_labels():
    subject = Subject(registry.method("bbn"))
    method = subject.make(sam=0.05, sam_variant="imbsam").eval()
    batch, progress = subject.batch(method, method.stages(RECIPE)[0])
    progress = replace(progress, stage_fraction=torch.tensor(0.6))
    one = torch.arange(len(batch.labels))
    head, tail = replace(batch, labels=0 * one), replace(batch.streams["rare"], labels=0 * one + 3)
    with torch.no_grad():
        found = method(replace(head, streams={"rare": tail}, sharpness=torch.tensor([0.0, 0.0, 0.0, 1.0])), progress)
        logits = 2 * (0.64 * method.experts(head.images)[0] / 2 + 0.36 * method.experts(tail.images)[1] / 2)
        of_tail = 0.36 * torch.nn.functional.cross_entropy(logits, tail.labels, reduction="sum")
        of_head = 0.64 * torch.nn.functional.cross_entropy(logits, head.labels, reduction="sum")
    torch.testing.assert_close(found.sharp, of_tail)
    torch.testing.assert_close(found.total, of_tail + of_head)


def test_sharpness_class_by_class_is_refused():
    with pytest.raises(ValueError, match="BBN has two"):
        registry.method("bbn").Config(sam=0.05, sam_variant="cc-sam")
