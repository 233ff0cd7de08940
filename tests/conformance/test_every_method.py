"""What every registered method must do. Its checks share one training; ``-k <name>`` makes those of one method."""

import tempfile
from functools import cached_property
from pathlib import Path

import pytest
import torch

from ltbench import registry
from ltbench.config import RunConfig
from ltbench.conformance import CHECKS, RECIPE, Subject, tiny_task
from ltbench.conformance.loss import its_step_compiles_whole
from ltbench.conformance.tiny_task import assert_equal, state
from ltbench.evaluation.predict import predict
from ltbench.method.search_space import Choice
from ltbench.runs.estimate import estimate
from ltbench.runs.options import RunOptions
from ltbench.runs.resolve import resolve
from ltbench.training.cuda_graph import WARM_UP
from tests.recorded_steps import record_steps
from tests.tiny_network import tiny

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::ltbench.errors.LtbenchWarning")]
every_method = pytest.mark.parametrize("subject", registry.method_names(), indirect=True)


COMPILED_WITH_A_RESNET = {"ce", "balpoe", "ride", "lift"}
"""One expert, several, narrow ones, and a frozen network; the others have a tiny one, since tracing takes long."""


class RecordedSubject(Subject):
    """A method whose second training with seed 0 records its steps: it must end with the weights of the first one."""

    @cached_property
    def recorded(self):
        """The state after a training with recorded steps."""
        return recorded_training(self)

    def trained_state(self, seed=0):
        return self.recorded if seed == 0 else super().trained_state(seed)


@pytest.fixture(scope="module")
def subject(request):
    """A method with the trainings that its checks share."""
    return RecordedSubject(registry.method(request.param))


def tiny_backbone(name, *, head, **_):
    """What takes the place of ``Backbone``, with its default of the classifier's kind."""
    return lambda experts=1, **options: tiny(experts, **{**options, "head": options.get("head") or head})


@pytest.mark.parametrize("check", CHECKS)
@every_method
def test_every_method_conforms(subject, check, monkeypatch):
    name = subject.cls.__module__.rpartition(".")[2]
    if CHECKS[check] is its_step_compiles_whole and name not in COMPILED_WITH_A_RESNET:
        monkeypatch.setattr(tiny_task, "Backbone", tiny_backbone)
        subject = Subject(subject.cls)
    CHECKS[check](subject)


@every_method
def test_every_method_predicts_the_same_with_batch_norm_fused(subject):
    trained = subject.trained_method()
    predictions = predict(trained, subject.test)
    with torch.no_grad():
        plain = torch.cat([trained.predict(batch.images) for batch in subject.test.eval_batches()])
    assert predictions.execution == "batch norm folded"
    assert torch.equal(predictions.logits.argmax(1), plain.argmax(1))
    torch.testing.assert_close(predictions.logits, plain, rtol=1e-4, atol=1e-3)


def recorded_training(subject, **settings):
    """The state after a training whose steps are recorded, if their shape comes often enough."""
    with pytest.MonkeyPatch.context() as patched, tempfile.TemporaryDirectory() as folder:
        steps = record_steps(patched)
        trained = subject.fit(subject.make(**settings), Path(folder) / "recorded.pt")
    if trained.stages(RECIPE):
        often = [{shape for shape, count in step.recorded.counts.items() if count > WARM_UP} for step in steps]
        assert any(often)
        assert [set(step.recorded.recordings) for step in steps] == often, "every shape that comes often enough"
        assert all(("CUDA graph" in step.execution) == bool(step.recorded.recordings) for step in steps)
    return state(trained)


@every_method
def test_recorded_steps_train_as_plain_ones_do(subject):
    assert_equal(subject.recorded, subject.training.trained, "recorded steps train differently")


@pytest.mark.parametrize("name", ["ce", "ride", "ncl", "paco", "proco"])
def test_recorded_steps_train_with_mixup_as_plain_ones_do(name, tmp_path):
    subject = Subject(registry.method(name))
    recorded = recorded_training(subject, mixup=0.4)
    plain = state(subject.fit(subject.make(mixup=0.4), tmp_path / "plain.pt"))
    assert_equal(recorded, plain, "recorded steps train differently")


# Experts, several views, two stages, one on the images of the test set, those that start from others, without a stage.
@pytest.mark.parametrize(
    "name", ["ce", "balpoe", "bcl", "glmc", "gcl", "ldam_drw", "sade_tta", "crt", "gml", "tau_norm", "lift"]
)
def test_every_kind_of_method_has_an_estimate(name, tmp_path):
    backbone = "test_vit" if name == "lift" else "cifar_resnet8"
    config = RunConfig(method=name, dataset="imagenet-lt", backbone=backbone, image_size=16, batch_size=16, epochs=5)
    found = estimate(config, RunOptions(data_dir=tmp_path), rounds=1)
    (share,) = found.processes
    names = [stage.name for stage in share.stages]
    assert len(set(names)) == len(names)
    assert all(stage.steps % 7241 == 0 and min(stage.seconds) > 0 for stage in share.stages)  # 7241 batches
    assert found.evaluation_seconds > 0
    assert len(found.starts_from) == len(registry.method(name).uses(found.run.config))
    if share.stages:
        assert share.seconds == pytest.approx(sum(stage.steps * stage.seconds[0] for stage in share.stages))
    else:
        assert share.seconds == share.images_per_second == 0


@pytest.mark.parametrize("end", [0, -1], ids=["low", "high"])
@every_method
def test_every_method_trains_at_the_ends_of_its_search_space(subject, end):
    space = subject.cls.Config.search_space()
    corner = {
        name: option.options[end] if isinstance(option, Choice) else (option.low, option.high)[end]
        for name, option in space.items()
    }
    resolve(RunConfig(method=subject.cls.__module__.rpartition(".")[2], hyperparameters=corner))
    method = subject.make(**corner)
    for stage in subject.stages(method):
        assert method(*subject.batch(method, stage)).mean.isfinite()
