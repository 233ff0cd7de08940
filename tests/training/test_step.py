"""Recorded and compiled steps against plain ones: the same training, and a way back where they cannot be had."""

import dataclasses

import pytest
import torch

from ltbench import registry
from ltbench.conformance import RECIPE, Subject
from ltbench.method import Method, Shuffled
from ltbench.method.losses import cross_entropy
from ltbench.training import trainer as training
from ltbench.training.checkpoint import Checkpoint
from ltbench.training.cuda_graph import RECORDERS
from ltbench.training.options import TrainOptions
from ltbench.training.step import Step
from tests.recorded_steps import again, record_steps


@pytest.fixture
def recording(monkeypatch):
    """Let training record its steps on the CPU; gives the steps that were made."""
    return record_steps(monkeypatch)


def weights(method):
    return {name: value.clone() for name, value in method.state_dict().items()}


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


class Streams(Method):
    """Cross entropy on two samplers and two views: every part of a batch matters."""

    views = ("train", "plain")

    def samplers(self, labels, stage):
        return {"main": Shuffled(len(labels)), "other": Shuffled(len(labels))}

    def forward(self, batch, progress):
        other = batch.streams["other"]
        loss = batch.loss(lambda labels: cross_entropy(self.network(batch.views[1]), labels))
        extra = cross_entropy(self.network(other.images), other.labels).sum() * progress.stage_fraction
        return dataclasses.replace(loss, total=loss.total + extra)


@pytest.mark.slow
def test_every_part_of_a_batch_reaches_a_recorded_step(tmp_path, recording, monkeypatch):
    subject = Subject(Streams)
    recorded = subject.fit(subject.make(), tmp_path / "recorded.pt")
    monkeypatch.undo()
    assert same(weights(recorded), weights(subject.fit(subject.make(), tmp_path / "plain.pt")))


@pytest.mark.slow
def test_what_cannot_be_recorded_runs_plainly_and_says_so(tmp_path, monkeypatch):
    def broken(work):
        raise RuntimeError("operation not permitted when stream is capturing\nmore words")

    subject = Subject(registry.method("ce"))
    plain = subject.fit(subject.make(), tmp_path / "plain.pt")
    monkeypatch.setattr(training, "Step", lambda *args, **options: Step(*args, **{**options, "recorder": broken}))
    history = subject_history(subject, tmp_path / "broken.pt")
    assert history.execution == "eager; not recorded as a CUDA graph: operation not permitted when stream is capturing"
    again_trained = subject.fit(subject.make(), tmp_path / "broken.pt")
    assert same(weights(plain), weights(again_trained))


def subject_history(subject, path, **options):
    options = TrainOptions(checkpoint=Checkpoint(path, every=1e9), **options)
    return training.fit(subject.make(), subject.train, RECIPE, seed=0, options=options)


def test_a_method_that_depends_on_its_data_is_not_recorded(tmp_path, recording):
    class Dependent(registry.method("ce")):
        """Looks at its data."""

        compiles = False

    history = subject_history(Subject(Dependent), tmp_path / "checkpoint.pt")
    assert history.execution == "eager; the method's step depends on its data"
    assert not any(step.recorded for step in recording)


@pytest.mark.slow
def test_what_does_not_compile_runs_plainly_and_says_so(tmp_path, monkeypatch):
    subject = Subject(registry.method("ce"))
    plain = subject.fit(subject.make(), tmp_path / "plain.pt")

    def no_compiler(graph, inputs):
        raise RuntimeError("no C++ compiler")

    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda model, **options: real(model, backend=no_compiler, **options))
    history = subject_history(subject, tmp_path / "compiled.pt", compiled=True)
    assert history.execution.startswith("eager; not compiled: ")
    assert same(weights(plain), weights(subject.fit(subject.make(), tmp_path / "compiled.pt")))


@pytest.mark.slow
def test_compiled_steps_train_as_plain_ones_do(tmp_path, monkeypatch):
    subject = Subject(registry.method("balpoe"))
    plain = subject.fit(subject.make(), tmp_path / "plain.pt")
    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda model, **options: real(model, backend="aot_eager", **options))
    history = subject_history(subject, tmp_path / "compiled.pt", compiled=True)
    assert history.execution == "compiled"
    compiled = weights(subject.fit(subject.make(), tmp_path / "compiled.pt"))
    for name, value in weights(plain).items():
        torch.testing.assert_close(compiled[name], value, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_the_optimiser_of_recorded_steps_follows_the_schedule(tmp_path, monkeypatch):
    # It is another one: fused, with its learning rates in tensors. Eight epochs pass both milestones.
    subject = Subject(registry.method("ce"))
    plain = subject.fit(subject.make(), tmp_path / "plain.pt")
    monkeypatch.setitem(RECORDERS, "cpu", again)
    recorded = subject.fit(subject.make(), tmp_path / "recorded.pt")
    for name, value in weights(plain).items():
        torch.testing.assert_close(weights(recorded)[name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_checkpoint_of_plain_steps_goes_on_recorded(tmp_path, monkeypatch):
    subject = Subject(registry.method("ce"))
    plain = subject.fit(subject.make(), tmp_path / "plain.pt")
    steps = iter(range(8))

    def stop_half_way(update):
        if next(steps, None) is None:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        subject.fit(subject.make(), tmp_path / "half.pt", listener=stop_half_way, every=0.0)
    monkeypatch.setitem(RECORDERS, "cpu", again)
    recorded = subject.fit(subject.make(), tmp_path / "half.pt")
    for name, value in weights(plain).items():
        torch.testing.assert_close(weights(recorded)[name], value, rtol=1e-4, atol=1e-5)


def test_bf16_is_for_convolutions_only(monkeypatch):
    # Weights, running statistics, the head's cosines, losses and gradients stay float32.
    subject = Subject(registry.method("balpoe"))
    method = subject.make().train()
    seen = {}

    def watch(name):
        def look(module, given, found):
            seen[name] = found.dtype

        return look

    branch = method.network.branches[0].model
    branch.layer2[0].conv1.register_forward_hook(watch("convolution"))
    branch.layer2[0].bn1.register_forward_hook(watch("batch norm"))
    method.network.heads[0].register_forward_hook(watch("head"))
    optimiser = torch.optim.SGD(method.parameters(), 0.1, momentum=0.9)
    sums = torch.zeros(2, dtype=torch.float64)
    batch, progress = subject.batch(method, method.stages(RECIPE)[0])
    losses = []
    forward = method.forward
    monkeypatch.setattr(method, "forward", lambda *args: losses.append(forward(*args)) or losses[-1])
    Step(method, optimiser, sums, TrainOptions(precision="bf16"))(batch, progress)
    assert seen == {"convolution": torch.bfloat16, "batch norm": torch.bfloat16, "head": torch.float32}
    assert losses[0].total.dtype == torch.float32
    floats = [value for value in method.state_dict().values() if value.is_floating_point()]
    assert {value.dtype for value in floats} == {torch.float32}
    assert {weight.grad.dtype for weight in method.parameters()} == {torch.float32}
    assert {state["momentum_buffer"].dtype for state in optimiser.state.values()} == {torch.float32}


def test_the_ways_of_all_stages_are_told():
    history = training.History(steps={"first": "CUDA graph", "second": "eager; the reason", "third": "CUDA graph"})
    assert history.execution == "CUDA graph / eager; the reason"
    assert training.History().execution is None


@pytest.mark.slow
def test_a_later_shape_that_does_not_compile_runs_plainly_too(tmp_path, monkeypatch):
    subject = Subject(registry.method("ce"))
    plain = subject.fit(subject.make(), tmp_path / "plain.pt")
    graphs = []

    def once(graph, inputs):
        graphs.append(graph)
        if len(graphs) > 1:
            raise RuntimeError("no more")
        return graph.forward

    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda model, **options: real(model, backend=once, **options))
    torch.compiler.reset()
    history = subject_history(subject, tmp_path / "compiled.pt", compiled=True)
    assert len(graphs) == 2, "batches of 16 and of 17"
    assert history.execution.startswith("eager; not compiled: ")
    trained = weights(subject.fit(subject.make(), tmp_path / "compiled.pt"))
    for name, value in weights(plain).items():
        torch.testing.assert_close(trained[name], value, rtol=1e-4, atol=1e-4)
