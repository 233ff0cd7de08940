"""Runs that are really killed end with the same weights and metrics, bit for bit."""

import dataclasses
import functools
import json
import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch

from ltbench import registry
from ltbench.config import RunConfig
from ltbench.errors import LtbenchWarning
from ltbench.files import atomic, paths
from ltbench.progress import ProgressUpdate
from ltbench.results.schema import Result
from ltbench.runs.options import RunOptions
from ltbench.runs.run import run

TWO_STAGES = '''
"""Cross entropy, then the head alone with running norms."""

import torch

from ltbench.method.losses import cross_entropy
from ltbench.method import Method, Stage


class Rehead(Method):
    """A second stage that starts with a new head."""

    def stages(self, recipe):
        head = ("network.heads",)
        return (Stage("all"), Stage("head", epochs=recipe.epochs // 2, trains=head, frozen_norms="train"))

    def begin(self, stage, data):
        if stage.name == "head":
            torch.nn.init.normal_(self.network.heads[0].weight)

    def forward(self, batch, at):
        logits = self.network(batch.images)
        return batch.loss(lambda labels: cross_entropy(logits, labels))
'''


@pytest.fixture(scope="module")
def two_stages(tmp_path_factory):
    file = tmp_path_factory.mktemp("methods") / "rehead.py"
    file.write_text(TWO_STAGES)
    with registry.temporary_methods():
        yield registry.add_method_file(file)


def work(
    config: RunConfig,
    cache: Path,
    out: Path,
    die_in_write: int | None = None,
    every: float = 0.0,
    signalled: tuple[int, int] | None = None,
) -> None:
    """One process: run, saving after every step; or die in the middle of the n-th write of a checkpoint.

    ``signalled``: a signal that the process gets, and after how many steps.
    """
    os.environ["LTBENCH_CACHE"] = str(cache)
    torch.set_num_threads(1)
    if die_in_write is not None:
        _die_in_write(die_in_write)
    number, steps = signalled or (0, 0)
    left = iter(range(steps - 1))

    def listener(update: ProgressUpdate) -> None:
        if update.message and next(left, None) is None:
            os.kill(os.getpid(), number)  # 0 is none

    run(config, RunOptions(out=out, device="cpu", checkpoint_every=every, listener=listener))


def _die_in_write(number: int) -> None:
    whole, writes = atomic.write_bytes, iter(range(number))

    def half(path, write):
        if next(writes, None) is not None:
            return whole(path, write)

        def broken(stream):
            stream.write(b"half a check")
            stream.flush()
            os.kill(os.getpid(), signal.SIGKILL)

        return whole(path, broken)

    from ltbench.training import checkpoint

    checkpoint.write_bytes = half


def start(*arguments) -> multiprocessing.Process:
    # Forked, so that the lives do not each import torch; killed with a real SIGKILL all the same.
    process = multiprocessing.get_context("fork").Process(target=work, args=arguments)
    process.start()
    return process


def outcome(cache: Path, out: Path) -> tuple[dict, dict]:
    """The trained weights and what the result says, apart from times."""
    (path,) = out.rglob("*.json")
    result = json.loads(path.read_text())
    assert Result.model_validate(result).status == "done"
    (checkpoint,) = (cache / "runs").rglob("checkpoint.pt")
    weights = torch.load(checkpoint, weights_only=True)["method"]
    return weights, {name: result[name] for name in ("metrics", "curve", "config", "data", "run_id")}


def assert_same(first, second):
    assert first[1] == second[1]
    assert all(torch.equal(first[0][name], second[0][name]) for name in first[0] | second[0])


def finished(config, folder: Path, **options) -> tuple[dict, dict]:
    process = start(config, folder / "cache", folder / "out", *options.values())
    process.join()
    return outcome(folder / "cache", folder / "out")


def small(method: str) -> RunConfig:
    settings = {"taus": (0, 2)} if method == "balpoe" else {}
    return RunConfig(method=method, backbone="cifar_resnet8", epochs=4, seed=3, hyperparameters=settings)


@pytest.fixture(scope="module")
def undisturbed(two_stages, tmp_path_factory):
    """How a method's run ends that nobody disturbs, and how long it lives; it is made once for all tests."""

    @functools.cache
    def made(method: str) -> tuple[tuple[dict, dict], float]:
        began = time.monotonic()
        whole = finished(small(method), tmp_path_factory.mktemp(method))
        return whole, time.monotonic() - began

    return made


@pytest.mark.slow
@pytest.mark.parametrize(("method", "most"), [("balpoe", 10), ("rehead", 5)])
def test_kills_at_random_moments_change_nothing(method, most, undisturbed, tmp_path):
    config = small(method)
    whole, life = undisturbed(method)
    moments = random.Random(7)
    kills = 0
    while kills < most:
        process = start(config, tmp_path / "killed" / "cache", tmp_path / "killed" / "out")
        process.join(timeout=moments.uniform(0.2, 0.5) * life)
        process.kill()
        process.join()
        if process.exitcode == -signal.SIGKILL:
            kills += 1
            continue
        assert process.exitcode == 0  # it got to the end before the kill: the same run from its beginning
        assert_same(whole, outcome(tmp_path / "killed" / "cache", tmp_path / "killed" / "out"))
        (path,) = (tmp_path / "killed" / "out").rglob("*.json")
        path.unlink()
        (checkpoint,) = (tmp_path / "killed" / "cache" / "runs").rglob("checkpoint.pt")
        checkpoint.unlink()
    assert_same(whole, finished(config, tmp_path / "killed"))


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1, 5])
def test_a_kill_in_the_middle_of_writing_a_checkpoint_changes_nothing(number, undisturbed, tmp_path):
    config = small("rehead")
    whole, _ = undisturbed("rehead")
    killed = tmp_path / "killed"
    process = start(config, killed / "cache", killed / "out", number)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert_same(whole, finished(config, killed))


@pytest.mark.slow
def test_a_kill_in_the_second_stage_changes_nothing(undisturbed, tmp_path):
    config = small("rehead")
    whole, _ = undisturbed("rehead")
    killed = tmp_path / "killed"
    first = 2 * (8 + 1)  # writes in the first stage: two epochs, one a step and one at the end of each
    process = start(config, killed / "cache", killed / "out", first + 6)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    (checkpoint,) = (killed / "cache" / "runs").rglob("checkpoint.pt")
    assert torch.load(checkpoint, weights_only=True)["position"][0] == 1
    assert_same(whole, finished(config, killed))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_asked_to_stop_saves_first(number, undisturbed, tmp_path):
    config = small("rehead")
    killed = tmp_path / "killed"
    process = start(config, killed / "cache", killed / "out", None, 1e9, (number, 10))
    process.join()
    (path,) = (killed / "out").rglob("*.json")
    assert json.loads(path.read_text())["status"] == "interrupted"
    (checkpoint,) = (killed / "cache" / "runs").rglob("checkpoint.pt")
    state = torch.load(checkpoint, weights_only=True)
    assert state["history"]["images"] > 0
    assert state["optimiser"] is not None, "it was stopped on the way"
    whole, _ = undisturbed("rehead")
    assert_same(whole, finished(config, killed))


@pytest.mark.slow
def test_a_damaged_checkpoint_is_remarked_on_and_training_starts_anew(tmp_path, monkeypatch):
    from ltbench.errors import LtbenchWarning

    config, options = small("ce"), RunOptions(out=tmp_path / "out")
    first = run(config, options)
    checkpoint = paths.cache_dir() / "runs" / first.run_id / "checkpoint.pt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    options.out.joinpath(f"digits-lt/ce/{first.run_id}.json").unlink()
    with pytest.warns(LtbenchWarning, match="cannot be read"):
        assert run(config, options).metrics == first.metrics


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory):
    """A finished run: its result, and its checkpoint as it was before the last step."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LTBENCH_CACHE", str(folder))
        result = run(
            RunConfig(method="ce", backbone="cifar_resnet8", epochs=1), RunOptions(device="cpu", out=folder / "runs")
        )
        return result, torch.load(paths.cache_dir() / "runs" / result.run_id / "checkpoint.pt", weights_only=True)


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state["method"].update({name: torch.ones(3, 3, 3) for name in list(state["method"])[-1:]}),
        pytest.param(lambda state: state["method"].popitem(), marks=pytest.mark.slow),
        pytest.param(lambda state: state.pop("method"), marks=pytest.mark.slow),
        pytest.param(lambda state: state.update(position="here"), marks=pytest.mark.slow),
        pytest.param(lambda state: state.update(history={"curve": [{"loss": 1.0}]}), marks=pytest.mark.slow),
        pytest.param(
            lambda state: state.update(position=(0, 0, 1), optimiser={"state": {0: 3}}), marks=pytest.mark.slow
        ),
        pytest.param(lambda state: state.update(position=(7, 0, 0)), marks=pytest.mark.slow),
    ],
    ids=["shape", "weight", "weights", "position", "history", "optimiser", "stage"],
)
def test_a_checkpoint_of_the_right_form_and_other_content_is_not_taken_up(finished_run, tmp_path, change):
    """Training starts anew with the weights that it would have started with: what was read in part leaves no trace."""
    result, state = finished_run
    state = {**state, "method": {name: value + 1 for name, value in state["method"].items()}}
    change(state)
    path = paths.cache_dir() / "runs" / result.run_id / "checkpoint.pt"
    path.parent.mkdir(parents=True)
    torch.save(state, path)
    with pytest.warns(LtbenchWarning, match="does not fit the run .*: training starts anew"):
        again = run(
            RunConfig(method="ce", backbone="cifar_resnet8", epochs=1),
            RunOptions(device="cpu", out=tmp_path / "runs"),
        )
    assert (again.status, again.metrics) == ("done", result.metrics)


@pytest.mark.slow
def test_a_checkpoint_that_holds_a_list_is_not_taken_up(finished_run, tmp_path):
    result, _ = finished_run
    path = paths.cache_dir() / "runs" / result.run_id / "checkpoint.pt"
    path.parent.mkdir(parents=True)
    torch.save([1, 2], path)
    again = run(
        RunConfig(method="ce", backbone="cifar_resnet8", epochs=1), RunOptions(device="cpu", out=tmp_path / "runs")
    )
    assert again.metrics == result.metrics


@pytest.mark.slow
def test_a_run_that_lacked_memory_goes_on_where_it_was(undisturbed, tmp_path, monkeypatch):
    """For example since another program on the GPU needed it for a while."""
    config, options = small("rehead"), RunOptions(out=tmp_path / "out", device="cpu", checkpoint_every=0)
    left = iter(range(10))

    def lacks(update):
        if update.message and next(left, None) is None:
            raise torch.OutOfMemoryError("CUDA out of memory.\nand so on")

    failed = run(config, dataclasses.replace(options, listener=lacks))
    assert (failed.status, failed.reason) == ("failed", "CUDA out of memory.")
    checkpoint = paths.cache_dir() / "runs" / failed.run_id / "checkpoint.pt"
    assert torch.load(checkpoint, weights_only=True)["history"]["images"] > 0
    assert run(config, options).status == "done"
    whole, _ = undisturbed("rehead")
    assert_same(whole, outcome(paths.cache_dir(), tmp_path / "out"))
