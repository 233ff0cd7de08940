"""Several runs at once, in real worker processes: the same results, and what happens when somebody dies or stops."""

import json
import multiprocessing
import os
import pickle
import signal
import threading
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ltbench import registry
from ltbench.config import RunConfig
from ltbench.errors import LtbenchError, LtbenchWarning
from ltbench.results.store import read
from ltbench.runs import run_list, sweep
from ltbench.runs.launchers import local, pool, worker
from ltbench.runs.launchers.worker import GRACE
from ltbench.runs.options import RunOptions

pytestmark = pytest.mark.slow  # workers import torch
CORES = pool.cores
BEFORE = os.environ.get("OMP_NUM_THREADS")
METHODS = {
    "base": '''
"""Cross entropy that keeps a log of its trainings, and takes its time."""

import time
from pathlib import Path

from ltbench_methods.ce import CrossEntropy

class Base(CrossEntropy):
    def begin(self, stage, data):
        with (Path(__file__).parent / "log").open("a") as log:
            log.write("trained\\n")
        time.sleep(2)
''',
    "one": '''
"""Starts from the base."""

import warnings

from ltbench.errors import LtbenchWarning
from ltbench_methods.ce import CrossEntropy

class After(CrossEntropy):
    @classmethod
    def uses(cls, run):
        warnings.warn("a word from one", LtbenchWarning)
        return {"base": run.replace(method="base")}

    def start_from(self, runs):
        self.network.load_state_dict(runs["base"].network.state_dict())

    def stages(self, recipe):
        return ()
''',
    "dies": '''
"""Is killed in training."""

import os
import signal

from ltbench_methods.ce import CrossEntropy

class Dies(CrossEntropy):
    def forward(self, batch, at):
        os.kill(os.getpid(), signal.SIGKILL)
''',
    "sleeps": '''
"""Takes a minute for a step, in which it hears nothing."""

import time
from pathlib import Path

from ltbench_methods.ce import CrossEntropy

class Sleeps(CrossEntropy):
    def forward(self, batch, at):
        (Path(__file__).parent / "asleep").touch()
        time.sleep(60)
''',
    "warns": '''
"""Has something to say."""

import warnings

from ltbench.errors import LtbenchWarning
from ltbench_methods.ce import CrossEntropy

class Warns(CrossEntropy):
    def stages(self, recipe):
        warnings.warn("a word of warning", LtbenchWarning)
        return super().stages(recipe)
''',
    "paced": '''
"""Cross entropy that takes half a second for a step while there is a certain file."""

import time
from pathlib import Path

from ltbench_methods.ce import CrossEntropy

class Paced(CrossEntropy):
    def after_step(self, at):
        if (Path(__file__).parent / "slow").exists():
            time.sleep(0.5)
''',
}
METHODS["two"] = METHODS["one"].replace("a word from one", "a word from two")


@pytest.fixture(scope="module")
def own_methods(tmp_path_factory):
    folder = tmp_path_factory.mktemp("methods")
    for name, source in METHODS.items():
        (folder / f"{name}.py").write_text(source)
    with registry.temporary_methods():
        registry.add_methods_dir(folder)
        yield folder


@pytest.fixture(autouse=True, scope="module")
def _one_thread_each():
    """As these tests have, whatever the machine."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(pool, "cores", lambda: 1)
        yield


@dataclass
class Sweep:
    """What came of runs that were carried out two at once."""

    configs: list
    folder: Path
    results: list = field(default_factory=list)
    told: list = field(default_factory=list)
    watched: list = field(default_factory=list)
    notes: list = field(default_factory=list)

    def of(self, method):
        return [result for result in self.results if result.config.method == method]


@pytest.fixture(scope="module")
def two_at_once(own_methods, tmp_path_factory):
    folder = tmp_path_factory.mktemp("parallel")
    runs = Sweep(run_list.expand([{}], {"method": "one,two", "backbone": "cifar_resnet8", "epochs": 1}), folder)
    shared = {"backbone": "cifar_resnet8", "epochs": 2, "seeds": "0-2"}
    runs.configs += run_list.expand([{}], {"method": "logit_adjustment_posthoc,ce", **shared})
    runs.configs += run_list.expand([{}], {"method": "dies"})
    with pytest.MonkeyPatch.context() as patched, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        patched.setenv("LTBENCH_CACHE", str(folder / "cache"))
        fork = multiprocessing.get_context("fork")  # other tests start workers as users do, which import torch
        patched.setattr(pool.multiprocessing, "get_context", lambda method: fork)
        runs.results = sweep.run_all(
            runs.configs,
            RunOptions(out=folder / "out", device="cpu", listener=runs.watched.append),
            lambda result, recalled: runs.told.append((result, recalled)),
            2,
        )
    runs.notes = [str(one.message) for one in caught if issubclass(one.category, LtbenchWarning)]
    return runs


def test_results_are_told_as_they_come_and_given_in_order(two_at_once):
    asked = [(config.method, config.seed) for config in two_at_once.configs]
    assert [(result.config.method, result.config.seed) for result in two_at_once.results] == asked
    assert sorted((result.config.method, result.config.seed) for result, _ in two_at_once.told) == sorted(asked)
    assert not any(recalled for _, recalled in two_at_once.told)


def test_two_at_once_give_the_same_results_as_one_after_the_other(two_at_once, tmp_path):
    options = RunOptions(out=tmp_path, device="cpu")
    alone = sweep.run_all(two_at_once.configs[2:8], options, lambda result, recalled: None)
    assert {result.config.method for result in alone} == {"ce", "logit_adjustment_posthoc"}
    for one, other in zip(alone, two_at_once.results[2:8], strict=True):
        assert one.status == "done"
        assert (one.run_id, one.metrics, one.curve) == (other.run_id, other.metrics, other.curve)
        assert one.method == other.method


def test_a_run_comes_after_the_one_it_starts_from_wherever_it_stands_in_the_list(two_at_once):
    order = [(result.config.method, result.config.seed) for result, _ in two_at_once.told]
    for seed in range(3):
        assert order.index(("ce", seed)) < order.index(("logit_adjustment_posthoc", seed))
    for ce, adjusted in zip(two_at_once.of("ce"), two_at_once.of("logit_adjustment_posthoc"), strict=True):
        assert adjusted.method.uses == {"ce": ce.run_id}
        assert adjusted.cost.training_seconds == ce.cost.training_seconds, "it was trained once"


def test_a_run_that_two_others_need_at_once_is_trained_once(two_at_once, own_methods):
    (one,), (two,) = two_at_once.of("one"), two_at_once.of("two")
    assert (one.status, two.status) == ("done", "done")
    assert one.metrics == two.metrics
    assert (own_methods / "log").read_text() == "trained\n"
    base = one.method.uses["base"]
    assert f"the base run {base} is under way in another process; waiting for it to end" in two_at_once.notes


def test_what_a_method_has_to_say_is_heard(two_at_once):
    assert {"a word from one", "a word from two"} <= set(two_at_once.notes)


def test_a_run_whose_process_is_killed_has_failed_and_the_others_go_on(two_at_once):
    (result,) = two_at_once.of("dies")
    assert result.status == "failed"
    assert result.reason == "its process was killed by signal 9 (out of memory?)"
    assert result.test is None
    stored = two_at_once.folder / "out" / "digits-lt" / "dies" / f"{result.run_id}.json"
    assert read(stored) == result
    assert all(other.status == "done" for other in two_at_once.results if other is not result)


def test_progress_is_told_for_every_run(two_at_once):
    ended = [update.run for update in two_at_once.watched if not update.message]
    assert sorted(ended) == list(range(len(two_at_once.configs)))
    assert any(update.message.startswith("train, epoch ") for update in two_at_once.watched if update.run == 5)


def test_workers_leave_nothing_behind(two_at_once):
    assert multiprocessing.active_children() == []
    assert os.environ.get("OMP_NUM_THREADS") == BEFORE
    assert not {signal.SIGINT, signal.SIGTERM} & signal.pthread_sigmask(signal.SIG_BLOCK, ())


def children(pid):
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return {int(one) for one in found if "spawn_main" in Path(f"/proc/{one}/cmdline").read_text()}


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


def until(what, seconds=60.0):
    """Wait until something holds, and return it."""
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, "nothing happens"
        time.sleep(0.02)
    return found


PACED = ("run", "--method", "paced", "--device", "cpu", "--epochs", 3, "--parallel", 2)


@pytest.fixture
def slow(own_methods):
    """A file that makes runs slow enough to be stopped on the way."""
    file = own_methods / "slow"
    file.touch()
    yield file
    file.unlink(missing_ok=True)


def checkpoints():
    return list(Path(os.environ["LTBENCH_CACHE"]).rglob("checkpoint.pt"))


def outcomes(folder):
    return sorted((one["config"]["seed"], one["status"]) for one in map(json.loads, texts(folder)))


def texts(folder):
    return [path.read_text() for path in folder.rglob("runs/**/*.json")]


def run_as_group(cli, words, said):
    """``ltbench`` in a process group of its own, as a shell starts it; writes down what came of it."""
    os.setsid()
    done = cli(*words)
    said.write_text(json.dumps([done.code, done.out, done.notes]))


def test_ctrl_c_stops_all_runs_which_save_and_go_on_one_after_the_other(cli, tmp_path, own_methods, slow):
    words, said = (*PACED, "--seeds", "0-1"), tmp_path / "said.json"
    started = multiprocessing.get_context("fork").Process(
        target=run_as_group, args=(cli, (*words, "--checkpoint-every", 0), said)
    )
    started.start()
    until(lambda: len(checkpoints()) == 2)
    workers = children(started.pid)
    assert len(workers) == 2
    os.killpg(started.pid, signal.SIGINT)
    started.join(timeout=30)
    assert json.loads(said.read_text()) == [
        130,
        "",
        "ltbench: interrupted; the same command resumes from the last checkpoint (without --rerun), "
        "or most downloads where they stopped\n",
    ]
    assert not any(map(alive, workers))
    assert outcomes(tmp_path) == [(0, "interrupted"), (1, "interrupted")]
    saved = {path: path.stat().st_mtime_ns for path in checkpoints()}
    slow.unlink()
    done = cli(*words, "--parallel", 1)
    assert (done.code, done.notes) == (0, "")
    assert outcomes(tmp_path) == [(0, "done"), (1, "done")]
    assert {path for path in checkpoints() if path.stat().st_mtime_ns > saved[path]} == set(saved)


def test_workers_end_when_their_parent_is_killed(cli, tmp_path, slow):
    parent = multiprocessing.get_context("fork").Process(target=cli, args=(*PACED, "--checkpoint-every", 0))
    parent.start()
    until(checkpoints)
    (worker,) = children(parent.pid)
    parent.kill()
    parent.join()
    until(lambda: not alive(worker), GRACE + 30)
    assert outcomes(tmp_path) == [(0, "interrupted")]


def test_a_second_ctrl_c_ends_at_once(cli, own_methods, forked_workers):
    def press_twice():
        until((own_methods / "asleep").exists)
        pressed.append(time.monotonic())
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)

    pressed = []
    presses = threading.Thread(target=press_twice)
    presses.start()
    done = cli("run", "--method", "sleeps", "--device", "cpu", "--parallel", 2)
    presses.join()
    assert (done.code, done.out) == (130, "")
    assert "Traceback" not in done.err
    assert time.monotonic() - pressed[0] < 30
    assert multiprocessing.active_children() == []


def test_an_error_that_a_worker_meets_arrives_whole(tmp_path):
    assigned = worker.AssignedRun(0, RunConfig(method="ce"))
    kind, error = worker.carry_out(assigned, RunOptions(out=tmp_path, device="cuda:99"), [])
    arrived = pickle.loads(pickle.dumps(error))
    assert (kind, type(arrived)) == ("error", LtbenchError)
    assert str(arrived).splitlines()[:2] == ["device 'cuda:99' is not there", "  where: --device"]


def test_a_fault_of_ours_arrives_with_its_traceback(tmp_path, monkeypatch):
    monkeypatch.setattr(worker, "run_or_recall", None)
    kind, error = worker.carry_out(worker.AssignedRun(0, RunConfig()), RunOptions(out=tmp_path), [])
    assert kind == "error"
    assert "'NoneType' object is not callable" in str(pickle.loads(pickle.dumps(error)))
    assert "in carry_out" in str(error)


@pytest.mark.parametrize("command", ["run", "tune"])
@pytest.mark.parametrize(("number", "reason"), [(0, "--parallel"), (-1, "--parallel"), ("two", "valid integer")])
def test_a_bad_number_of_runs_is_refused(cli, tmp_path, command, number, reason):
    done = cli(command, "--method", "ce", "--parallel", number)
    assert (done.code, done.out) == (2, "")
    assert reason in done.err
    assert "Traceback" not in done.err
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("forked_workers")
@pytest.mark.filterwarnings("default::ltbench.errors.LtbenchWarning")
def test_trials_at_once_are_a_search_that_goes_on(cli, tmp_path, own_methods):
    words = ("tune", "--method", "warns", "--epochs", 1, "--device", "cpu", "--parallel", 2, "--trials")
    done = cli(*words, 3)
    assert (done.code, done.notes) == (0, "ltbench: note: a word of warning\n"), "once, however many say it"
    lines = done.out.splitlines()
    assert [line.split(":")[0] for line in lines[:3]] == ["trial 1", "trial 2", "trial 3"]
    assert lines[3].startswith("best of 3 trials (0 failed): ")
    again = cli(*words, 3)
    assert (again.code, again.out.splitlines()) == (0, lines[3:])
    assert len(list(tmp_path.rglob("runs/**/*.json"))) == 3


def test_what_waits_for_what(own_methods):
    asked = [
        RunConfig(method="logit_adjustment_posthoc"),
        RunConfig(method="ce"),
        RunConfig(method="ce", seed=1),
        RunConfig(method="ce", hyperparameters={"mixup": 0}),
        RunConfig(method="one"),
    ]
    assert local._predecessors(asked) == [{1, 3}, set(), set(), {1}, set()]


def test_a_worker_has_its_share_of_the_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {1, 3, 4}, raising=False)
    assert CORES() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    assert CORES() == os.cpu_count()
