"""What a checkpoint file holds, and what a progress listener is told."""

import os

import pytest
import torch

from ltbench import registry
from ltbench.conformance import Subject
from ltbench.errors import LtbenchError, LtbenchWarning


@pytest.fixture
def subject():
    return Subject(registry.method("ce"))


@pytest.fixture
def stopped(subject, tmp_path):
    """The checkpoint of a training that ended in its fourth step: 6 epochs of batches of 16 and 17 images."""
    updates = []

    def stop(update):
        updates.append(update)
        if len(updates) == 4:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        subject.fit(subject.make(), tmp_path / "checkpoint.pt", every=0.0, listener=stop)
    return tmp_path / "checkpoint.pt"


def test_a_checkpoint_has_the_entries_that_earlier_versions_wrote_and_read(stopped):
    state = torch.load(stopped, weights_only=True)
    assert state.keys() == {"position", "method", "optimiser", "history", "sums", "settings"}
    assert state["position"] == (0, 1, 1)
    assert state["sums"].shape == (2,)
    assert state["sums"][1] == 16, "the images of the one step of this epoch"
    history = state["history"]
    assert history.keys() == {"curve", "seconds", "images", "steps", "selected", "divisions"}
    assert history["images"] == 16 + 17 + 16
    assert [point["epoch"] for point in history["curve"]] == [0]
    assert history["divisions"] == [{"processes": 1, "accumulate": 1, "batch_norm_images": 16}]


@pytest.mark.slow
def test_a_checkpoint_that_is_older_than_its_divisions_resumes(stopped, subject, tmp_path):
    state = torch.load(stopped, weights_only=True)
    del state["history"]["divisions"]
    torch.save(state, stopped)
    resumed = subject.fit(subject.make(), stopped).state_dict()
    whole = subject.fit(subject.make(), tmp_path / "whole.pt").state_dict()
    assert all(torch.equal(resumed[name], value) for name, value in whole.items())


def test_a_listener_is_told_of_every_step(subject, tmp_path):
    updates = []
    subject.fit(subject.make(), tmp_path / "checkpoint.pt", listener=updates.append)
    assert [update.fraction for update in updates] == [step / 12 for step in range(1, 13)]
    assert updates[0].message == "train, epoch 1/6"
    assert updates[-1].message == "train, epoch 6/6"
    assert updates[-1].history.images == 6 * 33


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (torch.OutOfMemoryError("CUDA out of memory.\nand so on"), "CUDA out of memory"),
        (OSError(5, "Input/output error"), "Input/output error"),
    ],
)
def test_a_checkpoint_that_cannot_be_read_now_is_not_lost(stopped, subject, monkeypatch, error, words):
    """It would be, if training began anew and saved."""
    content = stopped.read_bytes()

    def fails(*args, **options):
        raise error

    monkeypatch.setattr(torch, "load", fails)
    with pytest.raises(LtbenchError, match=f"the checkpoint cannot be read: {words}"):
        subject.fit(subject.make(), stopped, every=0.0)
    assert stopped.read_bytes() == content


@pytest.mark.parametrize("dtype", [torch.complex64, torch.int64])
def test_weights_of_other_types_are_not_rounded_but_refused(stopped, subject, dtype):
    state = torch.load(stopped, weights_only=True)
    name = next(name for name, value in state["method"].items() if value.is_floating_point())
    state["method"][name] = state["method"][name].to(dtype)
    torch.save(state, stopped)
    with pytest.warns(LtbenchWarning, match=rf"does not fit the run \({name} is {dtype} and not torch.float32\)"):
        subject.fit(subject.make(), stopped, every=0.0)


def test_nobody_waits_for_a_pipe_in_the_place_of_a_checkpoint(stopped, subject):
    stopped.unlink()
    os.mkfifo(stopped)
    with pytest.raises(LtbenchError, match="the checkpoint is a device or a pipe"):
        subject.fit(subject.make(), stopped, every=0.0)


def test_memory_that_lacks_while_momentum_is_read_is_no_misfit(stopped, subject, monkeypatch):
    def fails(*args):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(torch.optim.SGD, "load_state_dict", fails)
    content = stopped.read_bytes()
    with pytest.raises(torch.OutOfMemoryError):
        subject.fit(subject.make(), stopped, every=0.0)
    assert stopped.read_bytes() == content
