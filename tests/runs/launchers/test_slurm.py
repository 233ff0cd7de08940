"""Runs through a real SLURM: killed, stopped by a time limit and requeued, cancelled, on a drained node; and equal."""

import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from ltbench.results.store import read
from ltbench.runs.launchers.job_folder import JobFolder, job_folders
from ltbench.runs.monitor.heartbeat import Heartbeat
from tests.runs.launchers.conftest import called, wait_for

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

METHOD = '''
"""Cross entropy that takes its time for a step while there is a file of the name of its lane."""

import time
from pathlib import Path

from ltbench.method import hyperparameter
from ltbench_methods.ce import CrossEntropy

class Paced(CrossEntropy):
    class Config(CrossEntropy.Config):
        lane: int = hyperparameter(0)

    def after_step(self, progress):
        if (Path(__file__).parent / f"slow-{self.config.lane}").exists():
            time.sleep(6)  # an epoch of some steps outlasts the time limit
'''
RESOURCES = """
time = 60
[[resources]]
method = "hurried"
time = 2
signal_before = 60
"""
SUITE = """
dataset = "digits-lt"
backbone = "cifar_resnet8"
epochs = 3
"""
HURRIED = "[[runs]]\nmethod = 'hurried'\ngrid = { lane = [%s] }\n"
PACED = "[[runs]]\nmethod = 'paced'\ngrid = { lane = [1, 2, 3] }\n"
TIMED_OUT, KILLED, CANCELLED, PLAIN, SCRIPT = range(5)


@pytest.fixture
def paced(tmp_path, monkeypatch):
    """The method, slow in every lane; gives its folder."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    folder = tmp_path / "methods"
    folder.mkdir()
    for name in ("paced", "hurried"):  # of the latter SLURM expects that it needs little time
        (folder / f"{name}.py").write_text(METHOD)
    for lane in range(5):
        (folder / f"slow-{lane}").touch()
    (tmp_path / "resources.toml").write_text(RESOURCES)
    return folder


@pytest.fixture(autouse=True)
def no_jobs_left(slurm):
    """A test that has failed leaves no jobs for the next one."""
    yield
    subprocess.run(["scancel", "--user", "root"], check=False)
    wait_for("an empty queue", lambda: not called("squeue", "-h"))


def lane_of(config):
    return config.hyperparameters.get("lane", 0)


def states(jobs):
    """The latest state of every lane."""
    found = {}
    for job in job_folders(jobs):
        for number, config in enumerate(job.description.tasks):
            found[lane_of(config)] = job.state(number)
    return found


def heartbeats():
    """Of the runs under way, by lane."""
    found = {}
    for path in Path(os.environ["LTBENCH_CACHE"]).glob("runs/*/heartbeat.json"):
        try:
            beat = Heartbeat.model_validate_json(path.read_bytes())
        except (OSError, ValueError):
            continue
        found[lane_of(beat.config)] = beat
    return found


def results(folder):
    return {lane_of(one.config): one for one in map(read, folder.rglob("*.json"))}


def comparable(result):
    """A result but for time and provenance."""
    content = json.loads(result.model_dump_json())
    del content["provenance"]
    times = ("training_seconds", "images_per_second", "peak_memory")
    content["cost"] = {name: value for name, value in content["cost"].items() if not any(one in name for one in times)}
    return content


def test_runs_survive_what_happens_to_them(slurm, cli, paced, monkeypatch, tmp_path):
    """One story, since each chapter of it waits for SLURM: two jobs of five tasks on two nodes."""
    jobs, out = tmp_path / "jobs", tmp_path / "runs"
    (tmp_path / "submitted.toml").write_text(SUITE + HURRIED % "0" + PACED)
    (tmp_path / "script.toml").write_text(SUITE + HURRIED % "4")
    common = ("--methods-dir", paced, "--resources", "resources.toml", "--checkpoint-every", 0)
    called("scontrol", "update", "nodename=n2", "state=drain", "reason=test")

    submitted = cli("run", "--suite", "submitted.toml", "--launch", "slurm", *common)
    assert submitted.code == 0, submitted.err
    assert "1 run submitted as SLURM job" in submitted.out
    array = re.search(r"3 runs submitted as SLURM job (\d+)", submitted.out)[1]
    written = cli("run", "--suite", "script.toml", "--emit-array", *common)
    assert written.code == 0, written.err
    called(*re.search(r"(sbatch .*)$", written.out, re.MULTILINE)[1].split())

    wait_for("two tasks on the node that is left", lambda: sum(one is not None for one in states(jobs).values()) == 2)
    queued = r"paced, seed 0, lane \d +queued as \d+_\d: (Resources|Priority)"  # SLURM takes seconds to say why
    wait_for("the reason of those that wait", lambda: re.search(queued, cli("watch", "--once").out))
    again = cli("run", "--suite", "submitted.toml", "--launch", "slurm", *common)
    assert "0 stored, none left" in again.err and "4 of them are under way" in again.err
    called("scontrol", "update", "nodename=n2", "state=resume")

    killed = wait_for("the run to be killed", lambda: heartbeats().get(KILLED))
    os.kill(killed.process, signal.SIGKILL)
    wait_for("the run to be cancelled", lambda: heartbeats().get(CANCELLED))
    called("scancel", f"{array}_{CANCELLED - 1}")
    (paced / f"slow-{PLAIN}").unlink()
    for lane in (TIMED_OUT, SCRIPT):
        wait_for("the second attempt", lambda lane=lane: (one := states(jobs)[lane]) and one.attempt > 1)
    for lane in (TIMED_OUT, SCRIPT):
        (paced / f"slow-{lane}").unlink()
    ends = {TIMED_OUT: "done", KILLED: "failed", PLAIN: "done", SCRIPT: "done"}
    wait_for("the end of all", lambda: {lane: states(jobs)[lane].state for lane in ends} == ends)
    stored = results(out)
    assert {lane: one.status for lane, one in stored.items()} == {
        TIMED_OUT: "done", KILLED: "failed", CANCELLED: "interrupted", PLAIN: "done", SCRIPT: "done",
    }  # fmt: skip
    assert stored[KILLED].reason == "its process was killed by signal 9 (out of memory?)"
    wait_for("an empty queue", lambda: not called("squeue", "-h"))
    view = cli("watch", "--once").out
    assert "0 running, 0 interrupted, 2 failed, 3 done" in view
    assert re.search(r"lane 1 .*killed by signal 9", view)
    assert re.search(r"lane 2 .*(it was stopped|it was cancelled)", view)

    retry = cli("run", "--suite", "submitted.toml", "--launch", "slurm", "--retry", "failed", "--dry-run", *common)
    names = [line.partition(":")[0] for line in retry.out.splitlines()]
    assert names == ["paced, seed 0, lane 1", "paced, seed 0, lane 2"]
    for lane in (KILLED, CANCELLED):
        (paced / f"slow-{lane}").unlink()
    retry = cli("run", "--suite", "submitted.toml", "--launch", "slurm", "--retry", "failed", *common)
    assert "2 runs submitted as SLURM job" in retry.out
    wait_for("the retried ones", lambda: {one.status for one in results(out).values()} == {"done"})
    assert "4 stored, none left" in cli("run", "--suite", "submitted.toml", "--launch", "slurm", *common).err

    monkeypatch.setenv("LTBENCH_CACHE", str(tmp_path / "cache"))  # or it would resume from their checkpoints
    (tmp_path / "all.toml").write_text(SUITE + HURRIED % "0, 4" + PACED)
    local = cli("run", "--suite", "all.toml", "--methods-dir", paced, "--out", "undisturbed", "--device", "cpu")
    assert local.code == 0, local.err
    undisturbed = results(tmp_path / "undisturbed")
    assert {lane: comparable(one) for lane, one in results(out).items()} == {
        lane: comparable(one) for lane, one in undisturbed.items()
    }


def test_the_smoke_suite_is_the_same_through_slurm(slurm, cli, monkeypatch, tmp_path):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    words = ("run", "--suite", "smoke", "--seeds", 0, "--device", "cpu")
    submitted = cli(*words, "--launch", "slurm")
    assert submitted.code == 0, submitted.err
    monkeypatch.setenv("LTBENCH_CACHE", str(tmp_path / "cache"))  # or one would wait for the other, and resume it
    local = cli(*words, "--out", "local")
    assert local.code == 0, local.err
    paths = sorted(path.relative_to(tmp_path / "local") for path in (tmp_path / "local").rglob("*.json"))
    assert len(paths) == 4
    wait_for("four results", lambda: all((tmp_path / "runs" / path).exists() for path in paths))
    for path in paths:
        remote, here = (comparable(read(tmp_path / folder / path)) for folder in ("runs", "local"))
        assert remote == here
    [job] = job_folders(tmp_path / "jobs")
    wait_for("the states", lambda: {job.state(number).state for number in range(4)} == {"done"})
    assert json.loads((job.path / "environment.json").read_text())["packages"]["torch"]
    assert "top-1" in job.log_file(0).read_text()


def test_what_slurm_refuses_is_said(slurm, cli, tmp_path):
    (tmp_path / "resources.toml").write_text("partition = 'nosuch'")
    done = cli("run", "--method", "ce", "--launch", "slurm", "--resources", "resources.toml")
    assert done.code == 2
    assert "SLURM refuses the array" in done.err
    assert "invalid partition" in done.err.lower()
    assert job_folders(tmp_path / "jobs") == []
    assert subprocess.run(["squeue", "-h"], capture_output=True, text=True, check=True).stdout == ""
    assert JobFolder  # the folder stays for a look at it, but is no job any more
