"""A search goes on from its journal: killed, changed, damaged, of an older version."""

import functools
import json
import multiprocessing
import os
import re
import signal
import socket
import time
import tomllib
from dataclasses import replace

import optuna
import pytest
from optuna.trial import TrialState

from ltbench import registry
from ltbench.data.datasets.digits import Digits
from ltbench.errors import LtbenchError, LtbenchWarning
from ltbench.method import Choice, Range
from ltbench.runs import search_journal, tune
from ltbench.runs.options import RunOptions
from tests.runs.searches import BASE, outcomes, study_in, trials_in

pytestmark = pytest.mark.usefixtures("small_network")


def in_another_process(work):
    """Do something in a process like this one; what its exit code is, negative for a signal."""
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join(60)
    return process.exitcode


def killed_at(number, torn, work):
    """Do something in a process that is killed in the midst of its n-th line of the journal, or right after it."""
    written = []

    def append(self, logs):
        written.append(logs)
        text = json.dumps(logs[0], separators=(",", ":")) + "\n"
        last = len(written) == number
        with self.path.open("a") as file:
            file.write(text[: len(text) // 2] if last and torn else text)
        if last:
            os.kill(os.getpid(), signal.SIGKILL)

    def killed():
        search_journal._Journal.append_logs = append
        work()

    return in_another_process(killed)


def on_record(folder):
    kept = ("run_id", "hyperparameters", "ece")
    return [
        (trial.number, trial.state, trial.params, trial.value, {name: trial.user_attrs[name] for name in kept})
        for trial in trials_in(folder)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.filterwarnings("ignore:.*the last line was not written whole:ltbench.errors.LtbenchWarning")
def test_a_search_that_is_killed_anywhere_ends_as_an_undisturbed_one(search, tmp_path, at_once, pool, workers):
    pool(0, stop_after=10**6)
    search(6, name="whole", parallel=workers)
    lines = (tmp_path / "whole" / "study.journal").read_bytes().count(b"\n")
    assert lines > 6 * 4
    for number in range(workers, lines + 1, 3):  # other lines for one worker than for two
        torn = number % 2 == 0
        name = f"killed at {number}"
        work = functools.partial(search, 6, name=name, parallel=workers)
        assert killed_at(number, torn, work) == -signal.SIGKILL
        if number % 4 == 0:
            killed_at(2, torn, work)  # and once more
        search(6, name=name, parallel=workers)
        assert on_record(tmp_path / name) == on_record(tmp_path / "whole"), name
        files = [(tmp_path / one / "best.toml").read_bytes() for one in (name, "whole")]
        assert files[0] == files[1], name


def test_a_lock_that_a_killed_process_of_an_older_version_left_in_a_relative_folder_stops_nothing(
    tmp_path, monkeypatch, at_once
):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "here"
    folder.mkdir()

    def killed():  # optuna's own lock: a link to a relative path, which leads nowhere
        os.chdir(tmp_path)
        optuna.storages.journal.JournalFileSymlinkLock("here/study.journal").acquire()
        os.kill(os.getpid(), signal.SIGKILL)

    assert in_another_process(killed) == -signal.SIGKILL
    assert (folder / "study.journal.lock").is_symlink()
    assert not (folder / "study.journal.lock").exists()
    relative = folder.relative_to(tmp_path)
    assert tune.tune(BASE, 2, relative, RunOptions(device="cpu")).trials == 2
    assert not (folder / "study.journal.lock").is_symlink()


def test_a_second_search_in_the_folder_is_refused_and_told_who_has_it(search, tmp_path, at_once, monkeypatch):
    def hang():
        monkeypatch.setattr(tune, "run", lambda config, options: time.sleep(60))
        search(2)

    process = multiprocessing.get_context("fork").Process(target=hang)
    process.start()
    lock = tmp_path / "search" / "study.lock"
    deadline = time.monotonic() + 60
    while not (lock.exists() and lock.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    with pytest.raises(LtbenchError, match="a search in this folder is under way in another process") as caught:
        search(2)
    words = f"{lock}: held by process {process.pid} on {socket.gethostname()} since "
    assert words in str(caught.value)
    assert "choose another --out" in str(caught.value)
    process.kill()
    process.join()
    assert search(2).trials == 2


def scrambled(load):
    def scrambled_load(self, folder, image_size):
        raw = load(self, folder, image_size)
        return replace(raw, train=replace(raw.train, images=raw.train.images[::-1].copy()))

    return scrambled_load


def test_a_search_on_other_images_is_refused(search, tmp_path, at_once, monkeypatch):
    search(2)
    before = (tmp_path / "search" / "study.journal").read_bytes()
    monkeypatch.setattr(Digits, "load", scrambled(Digits.load))
    for trials in (2, 3):  # where nothing is left to do as well
        with pytest.raises(LtbenchError, match=r"holds a search with other data \(the train and validation images\)"):
            search(trials)
    assert (tmp_path / "search" / "study.journal").read_bytes() == before


def test_a_search_with_another_revision_of_the_method_is_refused(search, at_once, monkeypatch):
    search(1)
    monkeypatch.setattr(registry, "revision", lambda cls: "77")
    with pytest.raises(LtbenchError, match=r"with other revision of ce \(\d+ there, 77 here\)"):
        search(2)


def test_a_search_with_a_recipe_file_that_has_changed_is_refused(search, tmp_path, at_once):
    file = tmp_path / "mine.toml"
    file.write_text("epochs = 1\nmomentum = 0.5")
    base = BASE.replace(recipe=str(file))
    search(1, base)
    file.write_text("epochs = 1\nmomentum = 0.25")
    with pytest.raises(LtbenchError, match=r"other settings \(recipe.momentum: 0.5 there, 0.25 here\)"):
        search(2, base)


@pytest.mark.parametrize("older", [False, True], ids=["of this version", "of an older one"])
@pytest.mark.parametrize(
    ("space", "words"),
    [
        ({"mixup": Range(0.0, 2.0)}, "(mixup.high: 1 there, 2 here)"),
        ({"mixup": Choice((0.0, 0.5))}, "mixup.options: None there, [0, 0.5] here"),
        ({"cmo": Range(0.1, 0.5)}, "cmo: None there, {'high': 0.5, "),
    ],
    ids=["wider", "listed", "another"],
)
def test_a_search_of_another_space_is_refused(search, tmp_path, at_once, monkeypatch, older, space, words):
    method = registry.method("ce")
    search(1)
    if older:
        forget(tmp_path / "search")
    monkeypatch.setattr(method.Config, "search_space", classmethod(lambda cls: space))
    with pytest.raises(LtbenchError, match="with other search space") as caught:
        search(2)
    assert older or words in str(caught.value)


def forget(folder):
    """Leave of what a search is of what an older version has noted: the settings."""
    file = folder / "study.journal"
    lines = file.read_bytes().splitlines(keepends=True)
    newer = [f'"user_attr":{{"{name}":'.encode() for name in ("resolved", "data", "revision", "space")]
    file.write_bytes(b"".join(line for line in lines if not any(word in line for word in newer)))
    assert set(study_in(folder).user_attrs) == {"settings"}


@pytest.mark.slow
def test_a_search_of_an_older_version_goes_on_if_its_trials_are_the_runs_of_now(search, tmp_path, monkeypatch):
    search(1)
    forget(tmp_path / "search")
    with monkeypatch.context() as patched:
        patched.setattr(Digits, "load", scrambled(Digits.load))
        with pytest.raises(LtbenchError, match="with other data, or another version of the recipe or of ce"):
            search(2)
    assert set(study_in(tmp_path / "search").user_attrs) == {"settings"}
    assert search(2).trials == 2
    assert set(study_in(tmp_path / "search").user_attrs) == {"settings", "resolved", "data", "revision", "space"}


@pytest.mark.slow
def test_a_search_with_a_trial_that_an_older_version_queued_anew_goes_on(search, tmp_path):
    search(1)
    study = study_in(tmp_path / "search")
    drawn = study.ask().suggest_float("mixup", 0.0, 1.0)
    study.tell(1, state=TrialState.FAIL)
    study.enqueue_trial({"mixup": drawn})
    found = search(2)
    assert (found.trials, found.failed) == (2, 0)
    assert outcomes(tmp_path / "search")[1][0] == {"mixup": drawn}
    history = tomllib.loads(found.best_file.read_text())["tuning"]["history"]
    assert [trial["number"] for trial in history] == [0, 1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "torn", [b'{"op_code":8,"worker_id":"a-1","tri', b"{", b"\x00\x00\x00", b"\xff\xfe", b'{"op_code":8', b'{"op\n']
)
def test_a_torn_last_line_is_dropped(search, tmp_path, at_once, torn):
    search(2)
    file = tmp_path / "search" / "study.journal"
    before = file.read_bytes()
    file.write_bytes(before + torn)
    with pytest.warns(LtbenchWarning, match=f"^{file}: the last line was not written whole and is dropped"):
        search(2)
    assert file.read_bytes() == before
    assert search(3).trials == 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "not an operation of a search"),
        (b"", "not an operation of a search"),
        (b"\xff\x00", "not an operation of a search"),
        (b"[1, 2]", "not an operation of a search"),
        (b'{"op_code": "5"}', "not an operation of a search"),
        (b"[" * 100_000, "not an operation of a search"),
        (b'{"op_code":true,"study_id":0,"worker_id":"a"}', "not an operation of a search"),  # True is 1 to optuna
        (b'{"op_code":99,"study_id":0,"worker_id":"a"}', "Error"),
        (b'{"op_code":2,"study_id":0,"worker_id":"a"}', "Error"),
        (b'{"op_code":1,"study_id":0,"worker_id":"a"}', "a line before this one is missing or changed"),
        (b'{"op_code":2,"study_id":1,"worker_id":"a"}', "a line before this one is missing or changed"),
        (b'{"op_code":5,"worker_id":"a"}', "a line before this one is missing or changed"),
        (b'{"op_code":8,"trial_id":7,"worker_id":"a"}', "a line before this one is missing or changed"),
    ],
)
def test_other_damage_is_named_with_its_line(search, tmp_path, at_once, line, reason):
    search(2)
    file = tmp_path / "search" / "study.journal"
    lines = file.read_bytes().splitlines()
    lines[3] = line
    file.write_bytes(b"\n".join(lines) + b"\n")
    before = file.read_bytes()
    with pytest.raises(LtbenchError, match="the record of the search is damaged: ") as caught:
        search(3)
    assert reason in str(caught.value)
    assert f"where: {file}, line 4\n" in str(caught.value)
    assert file.read_bytes() == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "pattern", "instead", "reason"),
    [
        (6, rb'"values":\[[^]]*\]', b'"values":[NaN]', "the result of trial 2 is no finite number"),
        (6, rb'"values":\[[^]]*\]', b'"values":[1e999]', "the result of trial 2 is no finite number"),
        (4, rb'"params":{"mixup":[^,}]*', b'"params":{"mixup":9.5', "mixup of trial 2 lies out of its range"),
    ],
)
def test_values_that_no_search_writes_are_named_with_their_line(
    search, tmp_path, at_once, code, pattern, instead, reason
):
    search(2)
    file = tmp_path / "search" / "study.journal"
    lines = file.read_bytes().splitlines(keepends=True)
    (_, place) = (place for place, line in enumerate(lines) if json.loads(line)["op_code"] == code)
    lines[place], changes = re.subn(pattern, instead, lines[place])
    assert changes == 1
    file.write_bytes(b"".join(lines))
    with pytest.raises(LtbenchError, match=f"the record of the search is damaged: {reason}") as caught:
        search(3)
    assert f"where: {file}, line {place + 1}\n" in str(caught.value)
    assert file.read_bytes() == b"".join(lines)


@pytest.mark.slow
def test_a_journal_that_was_copied_behind_itself_is_refused(search, tmp_path, at_once):
    search(2)
    file = tmp_path / "search" / "study.journal"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines + lines))
    of_trials = [number for number, line in enumerate(lines, start=1) if "trial_id" in json.loads(line)]
    with pytest.raises(LtbenchError, match="the trial has ended in a line before this one") as caught:
        search(3)
    assert f"where: {file}, line {len(lines) + of_trials[0]}\n" in str(caught.value)


@pytest.mark.slow
def test_a_journal_that_lacks_any_line_is_refused_or_goes_on_to_the_same_end(search, tmp_path, at_once):
    best = search(3).best_file.read_text()
    file = tmp_path / "search" / "study.journal"
    lines, refused = file.read_bytes().splitlines(keepends=True), []
    for number, line in enumerate(lines, start=1):
        file.write_bytes(b"".join(lines[: number - 1] + lines[number:]))
        try:
            assert search(3).best_file.read_text() == best
        except LtbenchError:
            refused.append(json.loads(line)["op_code"])
    # The beginning, trials, and what they found cannot be missing; that a trial has ended, its stored run says.
    assert {code: refused.count(code) for code in (0, 4, 8, 6)} == {0: 1, 4: 3, 8: 9, 6: 0}


def test_a_journal_that_is_no_file_is_named(search, tmp_path, at_once):
    file = tmp_path / "search" / "study.journal"
    file.mkdir(parents=True)
    with pytest.raises(LtbenchError, match="Is a directory"):
        search(1)
    file.rmdir()
    os.mkfifo(file)  # which keeps a reader waiting for ever
    with pytest.raises(LtbenchError, match="it is a device or a pipe"):
        search(1)


def test_a_full_disk_ends_a_search_which_goes_on_when_there_is_room(search, tmp_path, at_once, monkeypatch):
    def full(self, logs):
        raise OSError(28, "No space left on device")

    search(1)
    with monkeypatch.context() as patched:
        patched.setattr(search_journal.JournalFileBackend, "append_logs", full)
        with pytest.raises(LtbenchError, match="the search cannot be saved: No space left on device"):
            search(2)
    assert search(2).trials == 2


def test_a_trial_of_somebody_elses_making_is_refused(search, tmp_path, at_once):
    search(1)
    study_in(tmp_path / "search").add_trial(optuna.trial.create_trial(value=99.0))
    with pytest.raises(LtbenchError, match="trial 2 of the search was not made by ltbench tune"):
        search(2)
