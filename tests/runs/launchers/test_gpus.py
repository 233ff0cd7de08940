"""``--launch gpus``: each process sees one GPU. The devices here are made up."""

import os
from types import SimpleNamespace

import pytest
import torch

from ltbench.config import RunConfig
from ltbench.errors import LtbenchError
from ltbench.runs.launchers import gpus, pool
from ltbench.runs.options import RunOptions


@pytest.fixture
def devices(monkeypatch):
    """Say how many devices there are."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return lambda count: monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


def test_the_devices_are_those_that_this_process_may_use(devices, monkeypatch):
    devices(3)
    assert gpus.visible_gpus() == ["0", "1", "2"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5, 3,GPU-8932f937")
    assert gpus.visible_gpus() == ["5", "3", "GPU-8932f937"]
    devices(2)  # a number that is no device hides those behind it
    assert gpus.visible_gpus() == ["5", "3"]


def test_a_machine_without_gpus_is_refused(devices, cli):
    devices(0)
    with pytest.raises(LtbenchError, match="there is no GPU here"):
        gpus.visible_gpus()
    done = cli("run", "--method", "ce", "--launch", "gpus")
    assert (done.code, "there is no GPU here" in done.err) == (2, True)


@pytest.fixture
def started(monkeypatch):
    """The device that each worker was started with, as a list that grows; no process is started."""
    seen = []

    class Process:
        exitcode = None

        def __init__(self, **words):
            pass

        def start(self):
            seen.append(os.environ.get("CUDA_VISIBLE_DEVICES"))

    monkeypatch.setattr(pool.multiprocessing, "get_context", lambda kind: SimpleNamespace(Process=Process))
    return seen


def start(workers, count):
    for position in range(count):
        workers.start(position, RunConfig())


@pytest.mark.parametrize(
    ("names", "processes", "expected"),
    [
        (["0", "1", "2"], 3, ["0", "1", "2"]),
        (["4", "7"], 4, ["4", "7", "4", "7"]),
        (["0"], 3, ["0", "0", "0"]),
        ([], 2, [None, None]),
    ],
)
def test_workers_are_shared_out_among_the_devices(started, monkeypatch, names, processes, expected):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    workers = pool.WorkerPool(processes, RunOptions(), names)
    start(workers, processes)
    assert started == expected
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


def test_the_place_of_a_dead_worker_is_taken_on_its_device(started, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    workers = pool.WorkerPool(3, RunOptions(), ["0", "1", "2"])
    start(workers, 3)
    del workers.workers[1]
    start(workers, 1)
    assert started == ["0", "1", "2", "1"]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1,2"


def test_per_gpu_multiplies_the_processes(devices, cli, monkeypatch):
    from ltbench.cli import run

    devices(2)
    seen = []
    monkeypatch.setattr(
        run, "run_all", lambda configs, options, parallel, names: seen.append((parallel, names)) or True
    )
    assert cli("run", "--method", "ce", "--launch", "gpus", "--per-gpu", 3, "--device", "cpu").code == 0
    [(parallel, names)] = seen
    assert parallel == 6
    assert sorted(names) == ["0", "0", "0", "1", "1", "1"]


def test_parallel_and_gpus_exclude_each_other(devices, cli):
    devices(2)
    done = cli("run", "--method", "ce", "--launch", "gpus", "--parallel", 2)
    assert (done.code, "--per-gpu" in done.err) == (2, True)
