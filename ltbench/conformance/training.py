"""Checks of training: what it changes, that it can be repeated, resumed, and leaves global generators alone."""

import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import torch

from ltbench.conformance.checks import check
from ltbench.conformance.tiny_task import RECIPE, Subject, assert_equal, state
from ltbench.method import Method


class Killed(Exception):  # noqa: N818  (not an error: it stands for a process that was killed)
    """Raised to end training at a chosen step."""


@check
def training_changes_what_trains_and_nothing_else(subject: Subject) -> None:
    """Parameters of some stage move; parameters frozen in ``__init__`` move only by ``after_step``."""
    method, record = subject.make(), subject.training
    prefixes = tuple(prefix for stage in method.stages(RECIPE) for prefix in stage.trains)
    weights = dict(method.named_parameters())
    trains = {name for name, weight in weights.items() if weight.requires_grad and name.startswith(prefixes)}
    moved = {name for name in weights if not torch.equal(record.initial[name], record.trained[name])}
    assert trains <= moved, f"training does not change {', '.join(sorted(trains - moved))}"
    if type(method).after_step is Method.after_step and type(method).begin is Method.begin:
        assert moved <= trains, f"training changes frozen parameters: {', '.join(sorted(moved - trains))}"


@check
def equal_seeds_give_equal_weights(subject: Subject) -> None:
    """Bit by bit on the CPU; other seeds give others."""
    first, second = subject.training.trained, subject.trained_state(0)
    if subject.device.type == "cpu":
        assert_equal(first, second, "two trainings with the same seed differ")
    other = subject.trained_state(1)
    assert any(not torch.equal(first[name], other[name]) for name in first), "the seed changes nothing"


@check
def interrupted_training_resumes_exactly(subject: Subject) -> None:
    """All state is in parameters and buffers: nothing is lost when another process resumes, three times here."""
    steps = subject.training.steps
    stops = sorted({steps // 5, steps // 2, steps - 1} - {0, -1})
    with tempfile.TemporaryDirectory() as folder:
        path, done = Path(folder) / "checkpoint.pt", 0
        for stop in stops:
            left = iter(range(stop - done))

            def kill(_: object, left: Iterator[int] = left) -> None:
                if next(left, None) is None:
                    raise Killed

            with suppress(Killed):
                subject.fit(subject.make(), path, listener=kill, every=0.0)
            done = stop
        resumed = state(subject.fit(subject.make(), path, every=0.0))
    if subject.device.type == "cpu":
        where = ", ".join(map(str, stops))
        assert_equal(subject.training.trained, resumed, f"resumed after the steps {where}, training ends differently")


@check
def global_generators_are_left_alone(subject: Subject) -> None:
    """Neither torch's nor numpy's is advanced or seeded by making and training."""
    assert subject.training.torch_generator_untouched, "torch's global generator was used"
    assert subject.training.numpy_generator_untouched, "numpy's global generator was used"
