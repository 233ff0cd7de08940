"""Runs that torchrun starts: one result, a process that is killed, machines that only a network joins."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
NORMLESS = '''
"""Cross entropy, and no batch norm."""

from torch import nn

from ltbench.method.losses import cross_entropy
from ltbench.method import Method


class Normless(Method):
    """Its norms look at one image."""

    def make_network(self, build):
        network = super().make_network(build)
        for name, module in list(network.named_modules()):
            if isinstance(module, nn.BatchNorm2d):
                network.set_submodule(name, nn.GroupNorm(4, module.num_features))
        return network

    def forward(self, batch, at):
        logits = self.network(batch.images)
        return batch.loss(lambda labels: cross_entropy(logits, labels))
'''
TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]


@pytest.fixture
def words(tmp_path):
    """The words of a short run without batch norm, from ``-m`` on or for the ``cli`` fixture."""
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods" / "normless.py").write_text(NORMLESS)
    return ["run", "--method", "normless", "--methods-dir", tmp_path / "methods", "--epochs", 3, "--device", "cpu"]


def started(tmp_path, words, *options, before=(), **more):
    command = [*before, *TORCHRUN, *options, "-m", "ltbench", *words, "--out", tmp_path / "several"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "LTBENCH_CACHE": str(tmp_path / "cache"), **more}
    return subprocess.Popen(
        [str(word) for word in command], cwd=tmp_path, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def result(folder: Path):
    (path,) = folder.rglob("*.json")
    return json.loads(path.read_text())


def losses(stored) -> list[float]:
    return [point["loss"] for point in stored["curve"]]


def children(process) -> list[int]:
    return [int(word) for word in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def wait_for(path: Path, pattern: str) -> Path:
    for _ in range(1200):
        if found := list(path.glob(pattern)):
            return found[0]
        time.sleep(0.05)
    raise AssertionError(f"no {pattern}")


def test_one_process_killed_ends_the_others_with_a_message_and_the_run_goes_on_alone(words, tmp_path, cli, monkeypatch):
    sharded = [*words, "--checkpoint-every", 0, "--epochs", 6, "--shard", "--checkpoint-activations"]
    process = started(tmp_path, sharded, "--standalone", "--nproc-per-node", "2")
    wait_for(tmp_path / "cache", "runs/*/checkpoint.pt")
    leader = json.loads(wait_for(tmp_path / "cache", "runs/*/heartbeat.json").read_text())["process"]
    (other,) = set(children(process)) - {leader}
    os.kill(other, signal.SIGKILL)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "ltbench: another process of this run has ended or does not answer" in said
    assert "the same command resumes from the last checkpoint" in said
    assert not list((tmp_path / "several").rglob("*.json"))

    monkeypatch.setenv("LTBENCH_CACHE", str(tmp_path / "cache"))
    assert cli(*words, "--epochs", 6, "--out", tmp_path / "several").code == 0
    monkeypatch.setenv("LTBENCH_CACHE", str(tmp_path / "other"))
    assert cli(*words, "--epochs", 6, "--out", tmp_path / "alone").code == 0
    resumed, alone = result(tmp_path / "several"), result(tmp_path / "alone")
    assert resumed["run_id"] == alone["run_id"]
    # float32's rounding grows from epoch to epoch; that nothing else differs is shown in float64
    assert losses(resumed)[:3] == pytest.approx(losses(alone)[:3], rel=1e-3)
    assert len(losses(resumed)) == 6
    ways = resumed["cost"]["divisions"]
    assert [(way["processes"], way["batch_norm_images"]) for way in ways] == [(2, None), (1, None)]
    assert resumed["cost"]["training"] == "eager"  # as the rest of the stage was
    shown = cli("show", resumed["run_id"], "--results", tmp_path / "several").out
    assert "processes=2, accumulate=1; then processes=1, accumulate=1" in shown


def test_a_signal_to_torchrun_stops_all_processes_after_saving(words, tmp_path):
    process = started(tmp_path, [*words, "--epochs", 400], "--standalone", "--nproc-per-node", "2")
    wait_for(tmp_path / "cache", "runs/*/heartbeat.json")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode != 0
    assert result(tmp_path / "several")["status"] == "interrupted"
    wait_for(tmp_path / "cache", "runs/*/checkpoint.pt")


def test_several_processes_carry_out_a_suite(words, tmp_path):
    """One process alone must not time steps that the others would have to take part in."""
    (tmp_path / "mine.toml").write_text('summary = "mine"\nmethod = "normless"\nepochs = 1\n')
    run = ["run", "--suite", tmp_path / "mine.toml", *words[3:5], "--device", "cpu"]
    process = started(tmp_path, run, "--standalone", "--nproc-per-node", 2)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert "1 run: 0 stored, 1 left" in errors
    assert result(tmp_path / "several")["cost"]["divisions"][0]["processes"] == 2


def test_accumulated_gradients_on_the_command_line(words, cli, tmp_path):
    assert cli(*words, "--out", tmp_path / "one").code == 0
    assert cli(*words, "--out", tmp_path / "four", "--accumulate", 4, "--rerun").code == 0
    one, four = result(tmp_path / "one"), result(tmp_path / "four")
    assert one["run_id"] == four["run_id"]
    assert losses(four) == pytest.approx(losses(one), rel=1e-3)
    assert four["cost"]["divisions"] == [{"processes": 1, "accumulate": 4, "batch_norm_images": None}]
    refused = cli("run", "--method", "paco", "--accumulate", 2)
    assert refused.code == 2
    assert "couples the images of a batch" in refused.err


@pytest.fixture
def two_machines():
    """The names of two network namespaces with a cable between them: as good as two machines, for a network."""
    names = [f"ltbench{os.getpid()}{side}" for side in "ab"]
    cable = [f"lt{os.getpid()}{side}" for side in "ab"]

    def ip(*words):
        subprocess.run(["ip", *words], check=True)

    for name in names:
        ip("netns", "add", name)
    try:
        ip("link", "add", cable[0], "type", "veth", "peer", "name", cable[1])
        for number, (name, end) in enumerate(zip(names, cable, strict=True), start=1):
            ip("link", "set", end, "netns", name)
            ip("-n", name, "address", "add", f"10.77.0.{number}/24", "dev", end)
            for device in (end, "lo"):
                ip("-n", name, "link", "set", device, "up")
        yield list(zip(names, cable, strict=True))
    finally:
        for name in names:
            ip("netns", "delete", name)


@pytest.mark.namespaces
def test_two_machines_that_share_no_folder_train_as_one(words, two_machines, tmp_path, cli):
    processes = []
    for rank, (name, cable) in enumerate(two_machines):
        own = tmp_path / f"machine {rank}"
        own.mkdir()
        meeting = ("--nnodes", "2", "--node-rank", rank, "--master-addr", "10.77.0.1", "--master-port", "29517")
        processes.append(
            started(
                own,
                words,
                *meeting,
                "--nproc-per-node",
                "1",
                before=("ip", "netns", "exec", name),
                GLOO_SOCKET_IFNAME=cable,
            )
        )
    said = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert cli(*words, "--out", tmp_path / "one").code == 0
    assert not list((tmp_path / "machine 1").rglob("*.json"))
    several, one = result(tmp_path / "machine 0"), result(tmp_path / "one")
    assert losses(several) == pytest.approx(losses(one), rel=1e-3)
    assert several["cost"]["divisions"][0]["processes"] == 2
