"""What is measured while a method trains: from when on, without a trace in the training, and that it may end it."""

import os
import signal

import pytest
import torch

from ltbench import registry
from ltbench.config import RunConfig
from ltbench.runs.options import RunOptions
from ltbench.runs.plan import plan_run
from ltbench.runs.resolve import resolve
from ltbench.runs.train import make_loaders
from ltbench.training.checkpoint import Checkpoint
from ltbench.training.options import TrainOptions
from ltbench.training.schedule import plan
from ltbench.training.trainer import fit
from ltbench.training.validation_curve import ValidationCurve, settled

pytestmark = pytest.mark.usefixtures("small_network")
CONFIG = RunConfig(method="ce", backbone="cifar_resnet8", epochs=5, batch_size=32, validation=True)


def stages_of(method, **settings):
    config = resolve(RunConfig(method=method, **settings))
    cls = registry.method(method)
    made = object.__new__(cls)
    torch.nn.Module.__init__(made)
    made.config = cls.Config.model_validate(config.config.hyperparameters)
    return plan(made.stages(config.recipe), config.recipe)


@pytest.mark.parametrize(
    ("method", "settings", "first"),
    [
        ("ce", {}, 51),  # of 60: the rate falls after 48, and 5 % of 60 are 3
        ("ldam_drw", {}, 55),  # re-weights from 48 on, where the rate is low; it falls again at 54; 5 % of 12 are 1
        ("crt", {}, 8),  # 10 epochs along a cosine, after a run of ce: below a quarter from its 8th epoch on; and 1
        ("ce", {"dataset": "imagenet-lt", "epochs": 100}, 72),  # cosine: a quarter at 2/3; 5 % of 100 are 5
        ("ce", {"epochs": 1}, 1),
        ("ce", {"recipe": {"name": "flat", "epochs": 20, "milestones": [], "warmup": 0}}, 11),  # half, and 1
    ],
)
def test_figures_are_settled_in_the_last_stage_once_the_rate_has_fallen(method, settings, first):
    stages = stages_of(method, **settings)
    assert settled(stages) == first
    lrs = [lr for planned in stages for lr in planned.lrs]
    last = stages[-1].lrs
    assert first == len(lrs) or len(set(last)) == 1 or lrs[first - 1] <= max(last) / 4


def trained(options, stop_in=None):
    planned = plan_run(resolve(CONFIG), RunOptions(device="cpu", evaluate_test=False), saves=False)
    method = planned.build_method()
    loaders = make_loaders(planned, RunOptions(device="cpu", evaluate_test=False))
    if stop_in is not None:
        stopping = options.validation_curve

        def stop():
            if stop_in == len(measured):
                raise KeyboardInterrupt
            return stopping.measure()

        curve = ValidationCurve(stopping.metric, stop, stopping.ends)
        options = TrainOptions(checkpoint=options.checkpoint, validation_curve=curve)
    history = fit(
        method, loaders.train, planned.resolved.recipe, seed=0, options=options, validation=loaders.validation
    )
    return method.state_dict(), history


measured: list[float] = []


def curve(ends=lambda values, first, epochs: False, metric="macro"):
    """Counts how often it has measured."""
    measured.clear()

    def measure():
        measured.append(0.0)
        return 10.0 * len(measured)

    return ValidationCurve(metric, measure, ends)


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
def test_measuring_leaves_no_trace_in_the_training(monkeypatch):
    plain, history = trained(TrainOptions())
    assert history.validation_curve == {}
    watched, history = trained(TrainOptions(validation_curve=curve()))
    assert same(plain, watched)
    assert history.validation_curve == {5: 10.0}
    monkeypatch.setattr("ltbench.training.trainer.settled", lambda stages: 2)
    watched, history = trained(TrainOptions(validation_curve=curve()))
    assert same(plain, watched)
    assert history.validation_curve == {2: 10.0, 3: 20.0, 4: 30.0, 5: 40.0}
    assert not history.ended_early


@pytest.mark.slow
def test_what_ends_early_has_trained_no_longer_and_goes_on_from_there(monkeypatch, tmp_path):
    monkeypatch.setattr("ltbench.training.trainer.settled", lambda stages: 2)
    plain, whole = trained(TrainOptions())
    asked = []

    def ends(values, first, epochs):
        asked.append((dict(values), first, epochs))
        return len(values) == 2

    checkpoint = Checkpoint(tmp_path / "checkpoint.pt", every=0.0)
    weights, history = trained(TrainOptions(checkpoint=checkpoint, validation_curve=curve(ends)))
    assert history.ended_early
    assert [point.epoch for point in history.curve] == [0, 1, 2]
    assert history.images == 3 / 5 * whole.images
    assert asked == [({2: 10.0}, 2, 5), ({2: 10.0, 3: 20.0}, 2, 5)]
    again, history = trained(TrainOptions(checkpoint=checkpoint, validation_curve=curve(ends)))
    assert history.ended_early
    assert same(weights, again)
    assert measured == [], "all is in the checkpoint"
    resumed, history = trained(TrainOptions(checkpoint=checkpoint))
    assert not history.ended_early
    assert same(plain, resumed)


@pytest.mark.slow
def test_a_signal_after_the_last_step_stops_the_run_and_nothing_is_lost(tmp_path):
    def measure():
        os.kill(os.getpid(), signal.SIGTERM)
        return 1.0

    checkpoint = Checkpoint(tmp_path / "checkpoint.pt")
    stopped = ValidationCurve("macro", measure, lambda values, first, epochs: False)
    with pytest.raises(KeyboardInterrupt):
        trained(TrainOptions(checkpoint=checkpoint, validation_curve=stopped))
    resumed, history = trained(TrainOptions(checkpoint=checkpoint, validation_curve=curve()))
    assert same(trained(TrainOptions())[0], resumed)
    assert (history.validation_curve, measured) == ({5: 1.0}, [])


@pytest.mark.slow
def test_figures_of_another_metric_are_dropped(monkeypatch, tmp_path):
    """A search by another objective may carry out the same run, and find its checkpoint."""
    monkeypatch.setattr("ltbench.training.trainer.settled", lambda stages: 2)
    checkpoint = Checkpoint(tmp_path / "checkpoint.pt", every=0.0)
    stopped = curve(lambda values, first, epochs: len(values) == 2)
    _, history = trained(TrainOptions(checkpoint=checkpoint, validation_curve=stopped))
    assert history.validation_curve == {2: 10.0, 3: 20.0}
    _, history = trained(TrainOptions(checkpoint=checkpoint, validation_curve=curve(metric="nll")))
    assert (history.validation_metric, history.validation_curve) == ("nll", {4: 10.0, 5: 20.0})


@pytest.mark.slow
def test_training_that_is_killed_ends_where_it_would_have(monkeypatch, tmp_path):
    monkeypatch.setattr("ltbench.training.trainer.settled", lambda stages: 2)
    ends = lambda values, first, epochs: len(values) == 3  # noqa: E731
    whole, expected = trained(TrainOptions(validation_curve=curve(ends)))
    checkpoint = Checkpoint(tmp_path / "checkpoint.pt", every=0.0)
    with pytest.raises(KeyboardInterrupt):
        trained(TrainOptions(checkpoint=checkpoint, validation_curve=curve(ends)), stop_in=1)
    resumed, history = trained(TrainOptions(checkpoint=checkpoint, validation_curve=curve(ends)))
    assert same(whole, resumed)
    assert list(history.validation_curve) == list(expected.validation_curve) == [2, 3, 4]
    assert history.ended_early
