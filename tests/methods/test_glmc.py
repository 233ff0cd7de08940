"""GLMC: its mixes, its turn to the tail, and what it refuses."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from ltbench import registry
from ltbench.config import RunConfig
from ltbench.conformance import RECIPE, Subject
from ltbench.errors import LtbenchError
from ltbench.method.losses import cross_entropy
from ltbench.runs.resolve import resolve
from ltbench_methods.glmc import frequency_weights, pasted


@pytest.fixture
def subject():
    return Subject(registry.method("glmc"))


def test_both_views_are_mixed_with_the_same_images_by_one_weight(subject):
    method = subject.make()
    (stage,) = method.stages(RECIPE)
    plain, _ = subject.batch(subject.make(mixup=0), stage)
    batch, _ = subject.batch(method, stage)
    other, weight = batch.streams["other"], batch.weight
    assert plain.mixed_labels is None
    assert torch.equal(batch.mixed_labels, other.labels)
    torch.testing.assert_close(batch.views[0], weight * plain.views[0] + (1 - weight) * other.views[0])
    own, foreign = batch.views[1] == plain.views[1], batch.views[1] == other.views[1]
    assert (own | foreign).all()
    assert not foreign.all()
    blended, _ = subject.batch(subject.make(cutmix=0), stage)
    torch.testing.assert_close(blended.views[1], weight * plain.views[1] + (1 - weight) * other.views[1])


def test_the_box_by_hand():
    # Of 8 x 8 pixels the image keeps 3/4: a side of 8 sqrt(1/4) = 4, from -2 to +2 about the centre (1, 5), cut at 0.
    images, others = torch.zeros(2, 3, 8, 8), torch.ones(2, 3, 8, 8)
    centre = iter((1, 5))
    found = pasted(images, others, 0.75, SimpleNamespace(integers=lambda high: next(centre)))
    want = torch.zeros(8, 8)
    want[0:3, 3:7] = 1
    assert torch.equal(found, want.expand(2, 3, 8, 8))
    assert not images.any()


def test_the_loss_turns_from_one_classifier_to_the_other(subject):
    method = subject.make(mixup=0, consistency=0).eval()
    batch, progress = subject.batch(method, method.stages(RECIPE)[0])
    with torch.no_grad():
        method.conventional.weight.mul_(0.5)
        features = [method.network.features(view)[0] for view in batch.views]
        usual, balanced = (
            sum(cross_entropy(head(own), batch.labels) for own in features)
            for head in (method.conventional, method.network.heads[0])
        )
        weighted = method.class_weights[batch.labels] * balanced
        for fraction, early in ((0.0, 1.0), (0.5, 0.75), (1.0, 0.0)):
            found = method(batch, replace(progress, stage_fraction=torch.tensor(fraction))).mean
            torch.testing.assert_close(found, (early * usual + (1 - early) * weighted).mean())


def test_chances_and_weights_of_the_classes(subject):
    # (4^-1/2, 1) = (1/2, 1), to sum to two.
    torch.testing.assert_close(frequency_weights(torch.tensor([4, 1]), 0.5), torch.tensor([2 / 3, 4 / 3]))
    labels = torch.arange(4).repeat_interleave(torch.tensor([16, 9, 5, 3]))
    alike = subject.make(sampling_exponent=1.0).samplers(labels, None)["other"].weights
    shares = torch.zeros(4, dtype=alike.dtype).index_add(0, labels, alike)
    torch.testing.assert_close(shares, torch.full((4,), shares[0].item(), dtype=shares.dtype))
    assert math.isclose(subject.make().samplers(labels, None)["other"].weights.var().item(), 0.0)


@pytest.mark.parametrize("settings", [{"cmo": 0.5}, {"remix": 3.0}, {"cutmix": 0.5}])
def test_other_mixes_are_refused(settings):
    with pytest.raises(LtbenchError, match=r"GLMC has mixes of its own|cutmix"):
        resolve(RunConfig(method="glmc", hyperparameters=settings))


@pytest.mark.parametrize(
    ("dataset", "ratio", "want"),
    [  # the commands of the authors' read-me
        ("cifar100-lt", 100, (4, 1.2, 0)),
        ("cifar100-lt", 50, (6, 1.2, 0.2)),
        ("cifar100-lt", 10, (4, 1.2, 0.2)),
        ("cifar10-lt", 50, (1, 1.2, 0)),
        ("cifar10-lt", 10, (2, 1, 0.2)),
        ("imagenet-lt", None, (10, 1, 0.2)),
        ("inaturalist2018", None, (10, 1, 0.2)),
    ],
)
def test_hyperparameters_are_the_authors(dataset, ratio, want):
    found = resolve(RunConfig(method="glmc", dataset=dataset, imbalance_ratio=ratio)).config.hyperparameters
    assert tuple(found[name] for name in ("consistency", "label_exponent", "sampling_exponent")) == want
