"""What ``ltbench watch`` shows."""

import io
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console

from ltbench.config import Recipe, RunConfig
from ltbench.files.atomic import write_text
from ltbench.results.store import Store
from ltbench.runs.monitor.heartbeat import FILE, Heartbeat
from ltbench.runs.monitor.jobs import FinishedRun, InterruptedRun, RunOverview
from ltbench.runs.monitor.watch import render

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def config(method="ce", seed=0, *, epochs=10, **hyperparameters):
    recipe = Recipe(name="standard", epochs=epochs)
    return RunConfig(method=method, seed=seed, imbalance_ratio=20, recipe=recipe, hyperparameters=hyperparameters)


def ago(**units):
    return NOW - timedelta(**units)


def running(settings, **changes):
    values = {
        "run_id": "abc", "config": settings, "folder": "/out", "host": "here", "process": 4711,
        "began": ago(seconds=60), "began_at": 0.0, "seen": NOW, "fraction": 0.4, "words": "train, epoch 5/10",
        "loss": 1.2345, "images_per_second": 912.3, **changes,
    }  # fmt: skip
    return Heartbeat(**values)


def ended(settings, *, status="done", reason=None, validation=False, progress=NOW):
    return FinishedRun("abc", settings, progress, status, reason, 93.25, 4.125, 75.0, validation)


def shown(jobs, width=80, height=None):
    console = Console(file=io.StringIO(), width=width, height=height or 100, highlight=False)
    console.print(render(jobs, NOW, width, height))
    lines = console.file.getvalue().splitlines()
    assert all(len(line) <= width for line in lines)
    return [line.rstrip() for line in lines]


def test_every_kind_in_eighty_columns():
    jobs = RunOverview(
        running=[running(config("balpoe", 1)), running(config(), fraction=0.001, loss=None, began_at=0.001)],
        interrupted=[
            InterruptedRun(config("ce", 2), ago(minutes=5), 0.43, saved=True),
            InterruptedRun(config("ce", 3), ago(days=3), None, saved=False),
        ],
        failed=[ended(config("ce", 4), status="failed", reason="the loss is nan [in epoch 3]", progress=ago(hours=3))],
        done=[ended(config("ce", 5), progress=ago(seconds=9))],
    )
    assert shown(jobs) == [
        "2 running, 2 interrupted, 1 failed, 1 done           digits-lt, IR 20, 10 epochs",
        "",
        "running                                                 left   loss",
        "balpoe, seed 1  train, epoch 5/10  ━━━━━          40 %  90 s  1.234",
        "ce, seed 0      train, epoch 5/10                  0 %",
        "",
        "interrupted",
        "ce, seed 2   at 43 %; the same command resumes   5 min ago",
        "ce, seed 3   the same command starts anew       3 days ago",
        "",
        "failed",
        "ce, seed 4  the loss is nan [in epoch 3]  3 h ago",
        "",
        "done        top-1   ECE  trained    ended",
        "ce, seed 5  93.25  4.12     75 s  9 s ago",
    ]


def test_a_wide_terminal_has_room_for_more():
    head, row = shown(RunOverview(running=[running(config())]), 120)[2:4]
    assert head.split() == ["running", "left", "loss", "images/s", "process"]
    assert row.split()[-5:] == ["90", "s", "1.234", "912", "4711"]


def test_names_have_the_settings_in_which_runs_differ():
    jobs = RunOverview(
        running=[
            running(config("balpoe", mixup=0.4, taus=[0.0, 1.0])),
            running(config("balpoe", mixup=0.4, taus=[0.0, 1.0, 2.0])),
            running(config("ce", epochs=20, mixup=0.0)),
        ]
    )
    head, *_ = lines = shown(jobs, 120)
    assert head.split("  ")[-1].strip() == "digits-lt, IR 20"
    assert [re.split(r"  +", line)[0] for line in lines[3:]] == [
        "balpoe, seed 0, 10 epochs, taus 0,1",
        "balpoe, seed 0, 10 epochs, taus 0,1,2",
        "ce, seed 0, 20 epochs",
    ]


def test_a_run_that_says_nothing_for_long():
    (row,) = shown(RunOverview(running=[running(config(), seen=ago(minutes=5))]))[3:]
    assert "silent for 5 min" in row


def test_figures_of_a_trial_are_of_its_validation_part():
    (row,) = shown(RunOverview(done=[ended(config(), validation=True)]))[3:]
    assert row.startswith("ce, seed 0 (validation)  93.25  4.12")


def test_words_are_cut_before_figures():
    long = config("label_aware_smoothing", 12345)
    jobs = RunOverview(running=[running(long)], failed=[ended(config(), status="failed", reason="word " * 50)])
    lines = shown(jobs, 60)
    assert lines[3].endswith("40 %  90 s  1.234")
    assert lines[3].startswith("label_aware")
    assert lines[6].endswith("…  0 s ago")


@pytest.mark.parametrize("height", [8, 12, 24, 40])
def test_it_fits_the_height(height):
    runs = [config("ce", seed) for seed in range(30)]
    jobs = RunOverview(
        running=[running(one) for one in runs[:3]],
        failed=[ended(one, status="failed", reason="so") for one in runs],
        done=[ended(one) for one in runs],
        problems=["not a valid result\n  where: /results/x.json"],
    )
    lines = shown(jobs, 80, height)
    assert len(lines) <= height
    assert lines[0].startswith("3 running, 0 interrupted, 30 failed, 30 done")
    assert lines[-1] == "left out: 1 unreadable file, e.g. not a valid result where: /results/x.json"
    for kind in ("failed", "done"):
        (title,) = [line for line in lines if line.startswith(f"{kind}, ")]
        assert re.match(rf"{kind}, \d+ latest of 30", title)


def test_without_a_limit_twenty_of_a_kind_are_shown():
    lines = shown(RunOverview(done=[ended(config("ce", seed)) for seed in range(30)]))
    assert lines[2].startswith("done, 20 latest of 30")
    assert len(lines) == 3 + 20


def test_nothing_yet(cli):
    done = cli("watch", "--once")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("0 running, 0 interrupted, 0 failed, 0 done")
    assert "Nothing is under way, and there are no results yet" in done.out


def test_one_look_at_stored_runs_and_a_dead_one(cli, tmp_path, make_result):
    Store(tmp_path / "mine").save(make_result("sade", top1=91.5, ece=3.25))
    run = Path(os.environ["LTBENCH_CACHE"]) / "runs" / "abc"
    write_text(run / FILE, running(make_result("balpoe").config).model_dump_json())
    (run / "checkpoint.pt").touch()
    for words in (("watch", "--once", "--results", "mine"), ("watch", "--results", "mine")):
        done = cli(*words)
        assert (done.code, done.err) == (0, "")
        assert "0 running, 1 interrupted, 0 failed, 1 done" in done.out
        assert "\nbalpoe, seed 0  at 40 %; the same command resumes " in done.out
        assert re.search(r"\nsade, seed 0 +91\.50 +3\.25 +12 s ", done.out)


def test_an_interval_of_nothing_is_refused(cli):
    done = cli("watch", "--interval", 0)
    assert (done.code, done.out) == (2, "")
    assert "--interval" in done.err


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_in_a_terminal_it_goes_on_until_it_is_stopped(tmp_path, make_result, number):
    master, terminal = pty.openpty()
    words = [sys.executable, "-m", "ltbench", "watch", "--results", tmp_path, "--interval", "0.1"]
    with subprocess.Popen(words, stdin=terminal, stdout=terminal, stderr=subprocess.PIPE) as process:
        os.close(terminal)
        wait_for(master, "0 done")
        Store(tmp_path).save(make_result())
        wait_for(master, "1 done")
        process.send_signal(number)
        wait_for(master, "\x1b[?1049l")  # back from the alternate screen
        assert process.wait(30) == 0
        assert process.stderr.read() == b""
    os.close(master)


def wait_for(terminal, text):
    seen, end = "", time.monotonic() + 60
    while text not in seen:
        assert time.monotonic() < end
        if select.select([terminal], [], [], 1)[0]:
            seen += os.read(terminal, 65536).decode()


def test_nothing_is_said_of_how_models_from_elsewhere_were_trained():
    scored = RunConfig(method="mine", imbalance_ratio=20, recipe="external")
    text = "\n".join(shown(RunOverview(done=[ended(scored), ended(config("balpoe", epochs=10))]), width=160))
    assert "mine, seed 0, recipe external " in text
    assert "None" not in text
    assert "200" not in text
