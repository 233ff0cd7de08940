"""cRT: a new classifier on a frozen backbone, balanced classes, and the CE run that two-stage methods share."""

import pytest
import torch

from ltbench import registry
from ltbench.config import RunConfig
from ltbench.conformance import RECIPE, Subject
from ltbench.method import at_rest
from ltbench.models.heads import HEADS, reinitialise
from ltbench.runs.options import RunOptions
from ltbench.runs.run import run


def test_only_the_classifier_trains_and_the_running_statistics_follow(tmp_path):
    subject = Subject(registry.method("crt"))
    method = subject.make(epochs=2)
    before = {name: value.clone() for name, value in method.network.state_dict().items()}
    subject.fit(method, tmp_path / "checkpoint.pt")
    moved = {name for name, value in method.network.state_dict().items() if not torch.equal(value, before[name])}
    assert "heads.0.weight" in moved
    assert all("running" in name or "num_batches" in name for name in moved - {"heads.0.weight"})
    assert any("running_mean" in name for name in moved)


def test_the_old_classifier_is_forgotten():
    subject = Subject(registry.method("crt"))
    method = subject.make()
    (stage,) = method.stages(RECIPE)
    old = method.network.heads[0].weight.detach().clone()
    method.begin(stage, subject.train)
    assert not torch.isclose(method.network.heads[0].weight, old).any(1).all()


@pytest.mark.parametrize(("head", "deviation"), [("linear", (3 * 2048) ** -0.5), ("cosine", 2048**-0.5)])
def test_a_new_linear_classifier_is_drawn_as_in_the_published_code(head, deviation):
    # torch's own: uniform within 1 / sqrt(2048), so 0.0128. A cosine head's weights have length 1.
    layer = HEADS[head](2048, 100)
    reinitialise(layer)
    assert layer.weight.std().item() == pytest.approx(deviation, rel=0.02)
    assert layer.weight.abs().max() <= 2048**-0.5 if head == "linear" else not hasattr(layer, "bias")


def test_classes_are_drawn_alike():
    subject = Subject(registry.method("crt"))
    method = subject.make()
    labels = torch.tensor([0] * 9000 + [1] * 900 + [2] * 100)
    order = method.samplers(labels, method.stages(RECIPE)[0])["main"](at_rest(method.stages(RECIPE)[0]).generator("x"))
    shares = torch.bincount(labels[order]) / len(labels)
    assert len(order) == len(labels)
    assert (shares - 1 / 3).abs().max() < 0.03  # six standard deviations


def test_mixing_belongs_to_the_first_stage():
    method = registry.method("crt")
    (start,) = method.uses(RunConfig(method="crt", hyperparameters={"mixup": 0.3, "epochs": 4})).values()
    assert (start.method, start.hyperparameters) == ("ce", {"mixup": 0.3})
    subject = Subject(method)
    mixing = subject.make(mixup=0.3)
    batch, _ = subject.batch(mixing, mixing.stages(RECIPE)[0])
    assert batch.mixed_labels is None


@pytest.mark.slow
def test_two_stage_methods_share_a_run_and_count_its_time(tmp_path):
    options = RunOptions(out=tmp_path)
    crt, lws, ce = (
        run(RunConfig(method=name, backbone="cifar_resnet8", epochs=1, hyperparameters=settings), options)
        for name, settings in {"crt": {"epochs": 1}, "lws": {"epochs": 1}, "ce": {}}.items()
    )
    assert crt.method.uses == lws.method.uses == {"ce": ce.run_id}
    assert crt.cost.training_seconds > ce.cost.training_seconds
    assert [point.stage for point in crt.curve] == ["classifier"]
