"""Which runs are running, stopped and over: from files made by hand."""

import os
import socket
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

import pytest

from ltbench.config import RunConfig
from ltbench.files.atomic import write_text
from ltbench.files.lock import exclusive
from ltbench.results.store import Store, read
from ltbench.runs.monitor import jobs
from ltbench.runs.monitor.heartbeat import FILE, Heartbeat
from ltbench.runs.monitor.jobs import RunIndex

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def place(tmp_path):
    with ExitStack() as stack:
        yield Place(tmp_path, stack)


class Place:
    """A cache and a folder of results."""

    def __init__(self, folder, stack):
        self.cache, self.results, self.stack = folder / "cache", folder / "runs", stack

    def write(self, run_id, *, alive=True, seen=NOON, host=None, checkpoint=True, folder=None):
        beat = Heartbeat(
            run_id=run_id, config=RunConfig(method="ce"), folder=folder or self.results, process=os.getpid(),
            host=host or socket.gethostname(), began=seen, began_at=0.0, seen=seen, fraction=0.43,
            words="train, epoch 5/10", loss=1.5, images_per_second=900.0,
        )  # fmt: skip
        runs = self.cache / "runs" / run_id
        write_text(runs / FILE, beat.model_dump_json())
        if checkpoint:
            (runs / "checkpoint.pt").touch()
        if alive:
            self.stack.enter_context(exclusive(runs / "lock", "the run"))
        return beat

    def end(self, result, progress=NOON, folder=None):
        dated = result.model_copy(update={"provenance": {"finished": progress.isoformat()}})
        Store(folder or self.results).save(dated)
        return result.run_id

    def look(self):
        return RunIndex(self.cache, [self.results]).look()


def ids(runs):
    return [run.run_id for run in runs]


def later(seconds):
    return NOON + timedelta(seconds=seconds)


def test_nothing_is_there_yet(place):
    assert place.look() == jobs.RunOverview()


def test_each_kind_the_latest_first(place, make_result):
    for number, name in enumerate(["first", "second"]):
        place.write(name, seen=later(number))
        place.write(f"{name}-stopped", seen=later(number), alive=False, checkpoint=number == 0)
    done = [place.end(make_result(seed=seed, top1=90.0, ece=4.5), later(seed)) for seed in range(3)]
    failed = place.end(make_result("balpoe", status="failed", reason="the loss is nan"))
    now = place.look()
    assert ids(now.running) == ["second", "first"]
    assert [(one.at, one.fraction, one.saved) for one in now.interrupted] == [
        (later(1), 0.43, False),
        (later(0), 0.43, True),
    ]
    assert ids(now.done) == done[::-1]
    assert [(one.run_id, one.reason) for one in now.failed] == [(failed, "the loss is nan")]
    latest = now.done[0]
    assert (latest.top1, latest.ece, latest.seconds, latest.at) == (90.0, 4.5, 12.0, later(2))
    assert now.problems == []


@pytest.mark.parametrize(
    ("status", "alive", "ended", "kind"),
    [
        ("done", True, +9, "running"),  # with --rerun
        ("done", False, +9, "done"),  # somebody ended it elsewhere, with another cache
        ("done", False, -9, "interrupted"),  # a --rerun that was killed
        ("failed", False, +9, "failed"),
        ("failed", False, -9, "interrupted"),  # tried again and killed
        ("interrupted", False, +9, "interrupted"),
        ("interrupted", True, -9, "running"),  # it goes on
    ],
)
def test_a_run_stands_in_one_place(place, make_result, status, alive, ended, kind):
    run_id = place.end(make_result(status=status, reason="so"), later(ended))
    place.write(run_id, alive=alive)
    now = place.look()
    counts = {name: len(getattr(now, name)) for name in ("running", "interrupted", "failed", "done")}
    assert counts == {**dict.fromkeys(counts, 0), kind: 1}
    assert now.interrupted == [] or now.interrupted[0].fraction == 0.43


def test_an_interrupted_result_without_a_heartbeat_waits(place, make_result):
    place.end(make_result(status="interrupted", reason="stopped by the user"), NOON)
    (stopped,) = place.look().interrupted
    assert (stopped.fraction, stopped.saved, stopped.at) == (None, False, NOON)


def test_of_a_process_on_another_machine_only_the_heartbeat_tells(place):
    now = datetime.now(UTC)
    place.write("lives", alive=False, host="elsewhere", seen=now)
    place.write("dead", host="elsewhere", seen=now - timedelta(seconds=jobs.RUN_LOST_AFTER + 1))
    found = place.look()
    assert ids(found.running) == ["lives"]
    assert len(found.interrupted) == 1


def test_trials_have_figures_of_their_validation_part(place, make_result):
    result = make_result(top1=71.0)
    place.end(result.model_copy(update={"metrics": {"validation": result.metrics["test"]}}))
    (trial,) = place.look().done
    assert (trial.validation, trial.top1) == (True, 71.0)


def test_where_running_runs_write_results_is_looked_at_as_well(place, make_result, tmp_path):
    elsewhere = tmp_path / "tune" / "runs"
    run_id = place.end(make_result(), folder=elsewhere)
    assert ids(place.look().done) == []
    place.write("running", folder=elsewhere)
    assert ids(place.look().done) == [run_id]


def test_only_what_is_new_or_has_changed_is_read(place, make_result, monkeypatch):
    opened = []
    monkeypatch.setattr(jobs, "read", lambda path: opened.append(path.stem) or read(path))
    monkeypatch.setattr(jobs, "SETTLED", 0.0)
    index = RunIndex(place.cache, [place.results])
    some = {place.end(make_result(method, seed)) for method in ("ce", "balpoe") for seed in range(3)}
    for expected in (some, set()):
        opened.clear()
        assert len(index.look().done) == 6
        assert set(opened) == expected
    new = place.end(make_result("sade", 0))
    changed = place.end(make_result("ce", 1, top1=99.0), later(1))
    opened.clear()
    now = index.look()
    assert sorted(opened) == sorted([new, changed])
    assert (len(now.done), now.done[0].top1) == (7, 99.0)
    gone = next(place.results.rglob(f"{new}.json"))
    gone.unlink()
    assert len(index.look().done) == 6


def test_a_change_in_the_same_instant_is_seen(place, make_result):
    """The clock of the file system may tick between two changes of a folder, or not."""
    index = RunIndex(place.cache, [place.results])
    place.end(make_result(seed=0))
    assert len(index.look().done) == 1
    folder = place.results / "digits-lt" / "ce"
    stamp = folder.stat().st_mtime_ns
    place.end(make_result(seed=1))
    os.utime(folder, ns=(stamp, stamp))
    assert len(index.look().done) == 2


def test_damaged_files_are_named(place, make_result):
    run_id = place.end(make_result())
    damaged = place.results / "digits-lt" / "ce" / "damaged.json"
    write_text(damaged, "{")
    write_text(place.results / "digits-lt" / ".half-written.json", "{")
    write_text(place.cache / "runs" / "abc" / FILE, "{}")
    now = place.look()
    assert ids(now.done) == [run_id]
    of_cache, of_results = now.problems
    assert of_cache == f"not a valid heartbeat: {place.cache / 'runs' / 'abc' / FILE}"
    assert of_results.startswith("not a valid result")
    assert str(damaged) in of_results


def test_a_result_that_does_not_say_when_it_ended_was_stored_then(place, make_result):
    path = Store(place.results).save(make_result())
    os.utime(path, (NOON.timestamp(), NOON.timestamp()))
    (ended,) = place.look().done
    assert ended.at == NOON
