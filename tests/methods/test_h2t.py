"""H2T: whose channels the classifier sees, and how they are drawn."""

from dataclasses import replace

import pytest
import torch

from ltbench import registry
from ltbench.config import RunConfig
from ltbench.conformance import RECIPE, Subject
from ltbench.method import at_rest
from ltbench.runs.resolve import resolve


@pytest.fixture
def subject():
    return Subject(registry.method("h2t"))


@pytest.mark.parametrize(("share", "taken"), [(0.25, 16), (0.1, 6), (0.0, 0)])
def test_a_share_of_the_channels_is_taken_anew_in_every_step(share, taken, subject):
    method = subject.make(share=share)
    batch, progress = subject.batch(method, method.stages(RECIPE)[0])
    mask = batch.views[2]
    assert mask.shape == (len(batch.labels), 64)
    assert mask.sum(1).tolist() == [taken] * len(batch.labels)
    assert (mask == mask[0]).all()
    again = method.prepare(replace(batch, views=batch.views[:1]), progress).views[2]
    assert torch.equal(again, mask)
    other = method.prepare(replace(batch, views=batch.views[:1]), replace(progress, step=1)).views[2]
    assert taken == 0 or not torch.equal(other, mask)


def test_the_classifier_sees_the_other_images_channels_under_the_labels_of_the_first(subject):
    method = subject.make(share=0.5).eval()
    batch, progress = subject.batch(method, method.stages(RECIPE)[0])
    images, others, taken = batch.views
    with torch.no_grad():
        own, foreign = (method.network.features(view)[0] for view in (images, others))
        fused = own.clone()
        fused[:, taken[0]] = foreign[:, taken[0]]
        logits = method.network.classify(fused[None])[0]
        want = torch.nn.functional.cross_entropy(logits, batch.labels)
        torch.testing.assert_close(method(batch, progress).mean, want)


def test_labels_are_balanced_and_the_other_images_are_not(subject):
    method = subject.make()
    labels = torch.tensor([0] * 9000 + [1] * 900 + [2] * 100)
    samplers = method.samplers(labels, method.stages(RECIPE)[0])
    draw = at_rest(method.stages(RECIPE)[0]).generator
    balanced, other = (torch.bincount(labels[samplers[name](draw(name))]) / 10000 for name in ("main", "head"))
    assert (balanced - 1 / 3).abs().max() < 0.03  # six standard deviations
    torch.testing.assert_close(other, torch.tensor([0.9, 0.09, 0.01]))


def test_the_first_stage_has_mixup():
    (start,) = registry.method("h2t").uses(resolve(RunConfig(method="h2t")).config).values()
    assert (start.method, start.hyperparameters) == ("ce", {"mixup": 1.0})


def test_only_the_classifier_trains(subject, tmp_path):
    method = subject.make(epochs=2)
    before = {name: value.clone() for name, value in method.network.state_dict().items()}
    subject.fit(method, tmp_path / "checkpoint.pt")
    moved = {name for name, value in method.network.state_dict().items() if not torch.equal(value, before[name])}
    assert "heads.0.weight" in moved
    assert all("running" in name or "num_batches" in name for name in moved - {"heads.0.weight"})
