"""Many processes that save into one folder: on file systems with locks, without, and with locks that are ignored."""

import errno
import fcntl
import multiprocessing
import time
from contextlib import nullcontext

import pytest

from ltbench.errors import LtbenchError
from ltbench.results import store
from ltbench.results.store import Store, read

PROCESSES, EACH, CONTESTED = 16, 20, 8
FORK = multiprocessing.get_context("fork")


def refused(handle, operation):
    raise OSError(errno.ENOLCK, "No locks available")


FLOCKS = {"held": fcntl.flock, "refused": refused, "ignored": lambda handle, operation: None}


def saved_by(results, folder, flock):
    """Save results in a process of its own whose file system has such locks."""

    def work():
        fcntl.flock = flock
        for result in results:
            Store(folder).save(result)

    process = FORK.Process(target=work)
    process.start()
    return process


def crowd(make_result, processes, each):
    """What each process saves: results of its own, and of runs that it shares with its neighbour or with all.

    Of a pair, one has finished the run and the other failed; the run that all share has been finished by one.
    """
    template = make_result()
    names = [f"{number:012x}" for number in range(1, processes * each + processes // 2 + 2)]
    named = lambda name, **changes: template.model_copy(update={"run_id": name, **changes})  # noqa: E731
    own = [[named(names.pop()) for _ in range(each)] for _ in range(processes)]
    pairs = [names.pop() for _ in range(processes // 2)]
    of_all = names.pop()
    failed = {"status": "failed", "metrics": {}}
    for number, results in enumerate(own):
        name = pairs[number // 2]
        results.insert(number % 5, named(name) if number % 2 else named(name, reason=f"bad {number}", **failed))
    shared = [named(of_all) if n == 7 else named(of_all, reason=f"bad {n}", **failed) for n in range(processes)]
    expected = {result.run_id: named(result.run_id) for results in own for result in results}
    return own, shared, expected | {of_all: named(of_all)}


@pytest.mark.slow
@pytest.mark.parametrize("locks", list(FLOCKS))
def test_nothing_is_lost_or_torn_or_doubled_and_what_is_done_stays(tmp_path, make_result, locks):
    own, shared, expected = crowd(make_result, PROCESSES, EACH)
    if locks == "ignored":  # then only a first result that is not done is sure not to replace one that is
        del expected[shared[0].run_id]
    else:
        for number, results in enumerate(own):
            results.insert(number % 3, shared[number])
    workers = [saved_by(results, tmp_path / "runs", FLOCKS[locks]) for results in own]
    torn = []
    while any(worker.is_alive() for worker in workers):
        for path in (tmp_path / "runs").rglob("*.json"):
            try:
                read(path)
            except LtbenchError as error:
                torn.append(str(error))
        time.sleep(0.02)
    assert [worker.exitcode for worker in workers] == [0] * PROCESSES
    assert torn == []
    files = [path for path in (tmp_path / "runs").rglob("*") if path.is_file() and ".lock" not in path.name]
    assert {path.name for path in files} == {f"{name}.json" for name in expected}
    assert {path.stem: read(path) for path in files} == expected


@pytest.mark.parametrize("status", ["failed", "interrupted"])
def test_a_first_result_that_is_not_done_replaces_none_that_comes_meanwhile_though_locks_are_ignored(
    status, tmp_path, make_result, monkeypatch
):
    done, other = make_result(), make_result(status=status, reason="bad")
    looks = store._gives_way

    def look_and_wait(path, new, replace):
        found = looks(path, new, replace)
        if new.status == status:
            monkeypatch.setattr(store, "exclusive", lambda *words, **more: nullcontext())
            Store(tmp_path).save(done)
        return found

    monkeypatch.setattr(store, "_gives_way", look_and_wait)
    Store(tmp_path).save(other)
    assert read(Store(tmp_path).path(done.config, done.run_id)) == done
