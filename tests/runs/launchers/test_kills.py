"""A suite whose processes are killed again and again, at random moments, ends as one that nobody has disturbed."""

import json
import multiprocessing
import os
import random
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from ltbench.cli import main
from ltbench.results.store import read
from ltbench.runs.monitor.heartbeat import Heartbeat
from tests.conftest import SEED
from tests.runs.launchers.conftest import called, wait_for
from tests.runs.launchers.test_slurm import comparable

KILLS = int(os.environ.get("LTBENCH_TEST_KILLS", "2"))
"""Each takes seconds, until the killed process is back; five have been tried."""
FORK = multiprocessing.get_context("fork")  # the processes need not import torch
SMOKE = ("run", "--suite", "smoke", "--device", "cpu", "--checkpoint-every", "0", "--seeds", "0")


def heartbeats():
    """Of the runs that are under way in processes that live."""
    found = []
    for path in sorted(Path(os.environ["LTBENCH_CACHE"]).glob("runs/*/heartbeat.json")):
        with suppress(OSError, ValueError):
            beat = Heartbeat.model_validate_json(path.read_bytes())
            command = Path(f"/proc/{beat.process}/cmdline").read_text()  # empty for one that is dead
            if "ltbench" in command or command == Path("/proc/self/cmdline").read_text():
                found.append(beat)
    return found


def stored(folder):
    """Every result as it is in its file, but for time and provenance."""
    paths = sorted(folder.rglob("*.json"))
    return {path.relative_to(folder): json.dumps(comparable(read(path)), indent=1).encode() for path in paths}


def undisturbed(cli, monkeypatch, tmp_path):
    """The results of the suite, carried out in this process with a cache of its own."""
    monkeypatch.setenv("LTBENCH_CACHE", str(tmp_path / "undisturbed-cache"))
    done = cli(*SMOKE, "--out", tmp_path / "undisturbed")
    assert done.code == 0, done.err
    return stored(tmp_path / "undisturbed")


def run_as_group(words, log):
    """``ltbench`` in a process group of its own, as a shell starts it."""
    os.setsid()
    sys.stdout = sys.stderr = log.open("a")
    sys.argv = ["ltbench", *words]
    main()


@pytest.mark.slow
@pytest.mark.usefixtures("forked_workers")
def test_the_smoke_suite_with_workers_and_parents_killed_at_random_is_the_same(cli, monkeypatch, tmp_path):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    draw = random.Random(SEED)
    command, killed, begun, log = None, [], 0, tmp_path / "log"

    def start(*more):
        words = [*SMOKE, "--parallel", "2", "--out", str(tmp_path / "killed"), *more]
        process = FORK.Process(target=run_as_group, args=(words, log))
        process.start()
        return process

    def all_done():
        found = [read(path).status for path in (tmp_path / "killed").rglob("*.json")]
        return len(found) == 4 and set(found) == {"done"}

    while len(killed) < KILLS:
        if command is None or not command.is_alive():
            # Where all were faster than the kills: once more.
            command, begun = start(*["--rerun"] * all_done()), begun + 1
        wait_for("a run under way", lambda command=command: heartbeats() or not command.is_alive(), 120)
        time.sleep(draw.uniform(0.0, 0.7))
        beats = heartbeats()
        if not beats:
            assert begun < 20, log.read_text()
            continue
        with suppress(ProcessLookupError):
            victim = draw.choice(beats).process
            if (len(killed) < KILLS - 1 and draw.random() < 0.6) or not killed:
                os.kill(victim, signal.SIGKILL)
            else:
                os.killpg(command.pid, signal.SIGKILL)
                command.join()
            killed.append(victim)
    command.join(240)
    last = start()  # what was killed as a worker has failed, and is carried out again
    last.join(240)
    assert last.exitcode == 0, log.read_text()
    found = stored(tmp_path / "killed")
    expected = undisturbed(cli, monkeypatch, tmp_path)
    assert len(expected) == 4
    assert found == expected


@pytest.mark.slurm
@pytest.mark.slow
def test_the_smoke_suite_with_tasks_killed_at_random_is_the_same_through_slurm(slurm, cli, monkeypatch, tmp_path):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    draw, out, killed = random.Random(SEED), tmp_path / "killed", 0
    words = (*SMOKE, "--out", out)
    retry: tuple[str, ...] = ()
    while killed < KILLS:
        submitted = cli(*words, "--launch", "slurm", *retry)
        assert submitted.code == 0, submitted.err
        while killed < KILLS:
            if not wait_for("a task under way", lambda: heartbeats() or not called("squeue", "-h")) or not heartbeats():
                break
            time.sleep(draw.uniform(0.0, 0.7))
            with suppress(ProcessLookupError, IndexError):
                os.kill(draw.choice(heartbeats()).process, signal.SIGKILL)
                killed += 1
                time.sleep(0.3)
        wait_for("an empty queue", lambda: not called("squeue", "-h"))
        retry = ("--retry", "failed")
        if killed < KILLS and all(read(path).status == "done" for path in out.rglob("*.json")):
            retry = ("--rerun",)  # all were faster than the kills: once more
    cli(*words, "--launch", "slurm", "--retry", "failed")
    wait_for("an empty queue", lambda: not called("squeue", "-h"))
    found = stored(out)
    expected = undisturbed(cli, monkeypatch, tmp_path)
    assert len(expected) == 4
    assert found == expected
