"""Proof that each conformance check can fail; what it says of our methods is in test_every_method.py."""

import dataclasses
import random

import numpy as np
import pytest
import torch
from pydantic import ValidationError, model_validator
from torch._dynamo.exc import Unsupported

from ltbench import conformance
from ltbench.conformance import CHECKS, Subject
from ltbench.method import Loss, Method, MethodConfig, Range, Stage, hyperparameter
from ltbench.method.losses import cross_entropy
from ltbench.training.checkpoint import TrainingState


class Sound(Method):
    """A method without fault, which the mutants below break."""

    def forward(self, batch, progress):
        logits = self.network(batch.images)
        return batch.loss(lambda labels: cross_entropy(logits, labels))


def mutant(**changes):
    """A subclass of Sound with some attributes replaced."""
    return type("Mutant", (Sound,), {"__doc__": "Broken.", "__module__": __name__, **changes})


class Unstable(MethodConfig):
    @model_validator(mode="after")
    def _drift(self):
        object.__setattr__(self, "mixup", self.mixup + 0.1)
        return self


class WrongSpace(MethodConfig):
    mixup: float = hyperparameter(0.0, search=Range(-1.0, 1.0), ge=0)


def with_parameter(value):
    """An __init__ that adds a parameter."""

    def init(self, build, prior, config):
        Method.__init__(self, build, prior, config)
        self.extra = torch.nn.Parameter(torch.full((2,), value))

    return init


def plus(extra):
    """A forward that adds something to the loss."""

    def forward(self, batch, progress):
        loss = Sound.forward(self, batch, progress)
        return Loss(loss.total + extra(self, batch), loss.weight)

    return forward


def forgetful(self, batch):
    self.steps = getattr(self, "steps", 0) + 1  # lost when another process goes on
    return self.steps * self.network(batch.images).sum()


def climbing(self, batch, progress):
    loss = Sound.forward(self, batch, progress)
    return Loss(-loss.total, loss.weight)


def deaf_to_mixup(self, batch, progress):
    return Loss.of(cross_entropy(self.network(batch.images), batch.labels))


def counted_by_combine(self, experts):
    self.log_prior += 1
    return experts.mean(0)


def global_draw(self, batch, progress):
    np.random.rand()  # noqa: NPY002
    return batch


MUTANTS = {
    "it is documented": {"__doc__": None},
    "its hyper parameters survive storing": {"Config": Unstable},
    "its search space is valid": {"Config": WrongSpace},
    "its loss is finite": {"forward": plus(lambda self, batch: torch.tensor(float("nan")))},
    "the parts of a batch add up": {"forward": plus(lambda self, batch: self.network(batch.images).sum().square())},
    "gradients reach every parameter that trains": {"__init__": with_parameter(1.0)},
    "training changes what trains and nothing else": {
        "__init__": with_parameter(0.0),
        "forward": plus(lambda self, batch: 0 * self.extra.sum()),
    },
    "equal seeds give equal weights": {
        "forward": plus(lambda self, batch: random.random() * self.network(batch.images).sum())
    },
    "interrupted training resumes exactly": {"forward": plus(forgetful)},
    "predictions have the right shape": {"combine": lambda self, experts: experts.mean(0).T},
    "training does not unlearn": {"forward": climbing},
    "predicting changes nothing": {"combine": counted_by_combine},
    "global generators are left alone": {"prepare": global_draw},
    "it trains with and without mixup": {
        "forward": plus(lambda self, batch: 0.0 if batch.weight is None else torch.tensor(float("inf")))
    },
    "its stages say what they look at": {"stages": lambda self, recipe: (Stage(source="unlabelled-test"),)},
    "its step compiles whole": {"forward": plus(lambda self, batch: 1.0 if batch.images.sum() > 0 else 0.0)},
}


@pytest.fixture(scope="module")
def sound():
    return Subject(Sound)


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS)
def test_a_sound_method_passes_each_check(check, sound):
    CHECKS[check](sound)


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS)
def test_each_check_catches_its_fault(check):
    with pytest.raises((AssertionError, ValidationError, Unsupported), match=r"."):
        CHECKS[check](Subject(mutant(**MUTANTS[check])))


@pytest.mark.slow
@pytest.mark.parametrize("drawn", [0, 1, 623])
def test_a_draw_from_numpy_is_caught_wherever_its_generator_stands(drawn):
    before = np.random.get_state()  # noqa: NPY002
    try:
        np.random.seed(0)  # noqa: NPY002
        np.random.bytes(4 * drawn)  # noqa: NPY002
        with pytest.raises(AssertionError, match="numpy's global generator"):
            CHECKS["global generators are left alone"](Subject(mutant(prepare=global_draw)))
    finally:
        np.random.set_state(before)  # noqa: NPY002


def by_the_epoch(self, batch, progress):
    loss = Sound.forward(self, batch, progress)
    return dataclasses.replace(loss, total=loss.total * (1 + progress.epoch))


def counting(self, batch, progress):
    loss = Sound.forward(self, batch, progress)
    return dataclasses.replace(loss, total=loss.total * self.calls)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"forward": by_the_epoch},
        {"forward": counting, "calls": 1, "after_step": lambda self, progress: setattr(self, "calls", self.calls + 1)},
    ],
    ids=["epoch", "python state"],
)
def test_a_step_that_changes_from_step_to_step_is_caught(changes):
    with pytest.raises(AssertionError, match="depends on more than tensors"):
        CHECKS["its step compiles whole"](Subject(mutant(**changes)))


@pytest.mark.slow
def test_a_loss_that_is_deaf_to_mixup_is_caught():
    with pytest.raises(AssertionError, match=r"with mixup=0\.5 the loss does not depend on Batch\.mixed_labels"):
        CHECKS["it trains with and without mixup"](Subject(mutant(forward=deaf_to_mixup)))


class Weighted(Sound):
    """A sound method whose class weights are there once a stage has begun."""

    def __init__(self, build, prior, config):
        super().__init__(build, prior, config)
        self.register_buffer("class_weights", torch.full((len(prior.counts),), float("nan")))

    def begin(self, stage, data):
        self.class_weights.fill_(1.0)

    def forward(self, batch, progress):
        logits = self.network(batch.images)
        return batch.loss(lambda labels: cross_entropy(logits, labels), self.class_weights)


@pytest.mark.slow
@pytest.mark.parametrize("check", ["its loss is finite", "it trains with and without mixup", "its step compiles whole"])
def test_a_stage_begins_before_its_loss_is_looked_at(check):
    CHECKS[check](Subject(Weighted))


@pytest.mark.slow
def test_the_suite_reports_a_fault_with_its_line():
    outcomes = {outcome.name: outcome for outcome in conformance.run(mutant(**MUTANTS["its loss is finite"]))}
    assert len(outcomes) >= len(CHECKS)
    assert not outcomes["its loss is finite"].passed
    assert "nan" in outcomes["its loss is finite"].message
    assert outcomes["it is documented"].passed


@pytest.mark.slow
def test_the_suite_makes_four_trainings(monkeypatch):
    """One for all checks, one with its seed and one with another; and one that is killed three times."""
    finished, fit = [], Subject.fit

    def counted(*args, **options):
        finished.append(fit(*args, **options))
        return finished[-1]

    monkeypatch.setattr(Subject, "fit", counted)
    outcomes = list(conformance.run(Sound))
    assert all(outcome.passed for outcome in outcomes)
    assert len(finished) == 4 * len(outcomes) // len(CHECKS)


@pytest.mark.slow
def test_a_training_is_killed_after_three_of_its_steps(monkeypatch):
    """Of 6 epochs with batches of 16 and 17 images: 12 steps, of which a fifth, a half and all but one are done."""
    positions = []
    resume = TrainingState.resume

    def spied(state, *args):
        found = resume(state, *args)
        positions.append((state.epoch, state.step))
        return found

    monkeypatch.setattr(TrainingState, "resume", spied)
    CHECKS["interrupted training resumes exactly"](Subject(Sound))
    assert positions == [(0, 0), (0, 0), (1, 0), (3, 0), (5, 1)]


def zeroed(self, build, prior, config):
    Method.__init__(self, build, prior, config)
    for head in self.network.heads:
        for weight in head.parameters():
            torch.nn.init.zeros_(weight)


def redrawing(self, stage, data):
    for head in self.network.heads:
        for weight in head.parameters():
            torch.nn.init.normal_(weight)


def dropping_out(self, batch, progress):
    logits = torch.nn.functional.dropout(self.network(batch.images), 0.5, self.training)
    return Loss.of(cross_entropy(logits, batch.labels))


class TwoStages(Weighted):
    """Its class weights come from the first of two stages."""

    def begin(self, stage, data):
        if stage.name == "first":
            self.class_weights.fill_(1.0)

    def stages(self, recipe):
        return (Stage("first", epochs=3), Stage("second"))


@pytest.mark.slow
def test_mixup_of_sound_methods_is_no_fault():
    for sound in (mutant(__init__=zeroed), TwoStages):
        CHECKS["it trains with and without mixup"](Subject(sound))


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{"forward": deaf_to_mixup, "begin": redrawing}, {"forward": dropping_out}])
def test_draws_do_not_hide_that_a_loss_is_deaf_to_mixup(changes):
    with pytest.raises(AssertionError, match=r"does not depend on Batch\.mixed_labels"):
        CHECKS["it trains with and without mixup"](Subject(mutant(**changes)))
