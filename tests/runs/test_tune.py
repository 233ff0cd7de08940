"""The search for hyper-parameters: what it looks at, that it goes on, and what comes of it."""

import functools
import json
import multiprocessing
import os
import shlex
import signal
import socket
import time
import tomllib
from dataclasses import replace

import numpy as np
import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from ltbench import registry
from ltbench.config import RunConfig
from ltbench.data.datasets.digits import Digits
from ltbench.errors import LtbenchError, LtbenchWarning
from ltbench.method import Choice, Range
from ltbench.results.store import read
from ltbench.runs import run, search_journal, train, tune
from ltbench.runs.launchers import local
from ltbench.runs.options import RunOptions
from ltbench.runs.resolve import resolve

BASE = RunConfig(method="ce", backbone="cifar_resnet8", epochs=1, batch_size=8, lr=0.03, seed=1000)
"""Learns enough in an epoch that trials differ in their outcome."""


@pytest.fixture
def search(tmp_path):
    """Search in a folder of the test's own."""

    def run(trials, base=BASE, name="search", **options):
        return tune.tune(base, trials, tmp_path / name, RunOptions(device="cpu"), **options)

    return run


def study_in(folder):
    storage = JournalStorage(JournalFileBackend(str(folder / "study.journal")))
    return optuna.load_study(storage=storage, study_name="ltbench")


def trials_in(folder):
    return study_in(folder).trials


def outcomes(folder):
    return [
        (trial.params, trial.value, trial.user_attrs["ece"])
        for trial in trials_in(folder)
        if trial.state == TrialState.COMPLETE
    ]


def test_trials_are_runs_that_leave_the_test_set_alone(search, tmp_path):
    told = []
    found = search(2, on_trial=told.append)
    results = [read(path) for path in sorted((tmp_path / "search" / "runs").rglob("*.json"))]
    assert len(results) == found.trials == len(told) == 2
    for result in results:
        assert result.config.validation
        assert result.config.seed == 1000
        assert set(result.metrics) == {"validation"}
        assert result.test is None
    by_id = {result.run_id: result for result in results}
    for trial in trials_in(tmp_path / "search"):
        result = by_id[trial.user_attrs["run_id"]]
        assert trial.value == result.metrics["validation"].macro
        assert trial.user_attrs["ece"] == result.metrics["validation"].ece
        assert result.config.hyperparameters == {"mixup": round(trial.params["mixup"], 4)}
    first, second = (result.metrics["validation"].macro for result in results)
    assert first != second
    assert found.accuracy == max(first, second)
    (best,) = (result for result in results if result.metrics["validation"].macro == found.accuracy)
    assert found.best == BASE.replace(hyperparameters=best.config.hyperparameters, seed=0)


@pytest.mark.slow
def test_the_labels_of_the_test_set_change_nothing(search, tmp_path, monkeypatch):
    search(2, name="true")
    load = Digits.load

    def scrambled(self, folder, image_size):
        raw = load(self, folder, image_size)
        labels = np.random.default_rng(0).permutation(raw.test.labels)
        return replace(raw, test=replace(raw.test, labels=labels, images=raw.test.images[::-1].copy()))

    monkeypatch.setattr(Digits, "load", scrambled)
    search(2, name="scrambled")
    assert outcomes(tmp_path / "true") == outcomes(tmp_path / "scrambled")
    assert len({value for _, value, _ in outcomes(tmp_path / "true")}) == 2
    ids = [{trial.user_attrs["run_id"] for trial in trials_in(tmp_path / name)} for name in ("true", "scrambled")]
    assert not ids[0] & ids[1]  # really trained on the other data


@pytest.mark.slow
def test_a_search_goes_on_where_it_was_and_ends_as_if_never_stopped(search, tmp_path):
    assert search(1, name="parts").trials == 1
    assert search(3, name="parts").trials == 3
    assert len(trials_in(tmp_path / "parts")) == 3
    search(3, name="whole")
    assert outcomes(tmp_path / "parts") == outcomes(tmp_path / "whole")
    best = [(tmp_path / name / "best.toml").read_text() for name in ("parts", "whole")]
    assert best[0] == best[1]


@pytest.mark.slow
def test_a_search_that_is_complete_trains_nothing(search, tmp_path, monkeypatch):
    first = search(2)
    monkeypatch.setattr("ltbench.runs.train.fit", None)
    assert search(1) == first
    assert search(2) == first


@pytest.mark.slow
def test_a_trial_that_was_killed_is_tried_again_with_the_same_parameters(search, tmp_path, monkeypatch):
    search(1, name="killed")

    def die(*args, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(tune, "run", die)
        with pytest.raises(KeyboardInterrupt):
            search(3, name="killed")
    killed = trials_in(tmp_path / "killed")[-1]
    assert killed.state == TrialState.RUNNING
    found = search(3, name="killed")
    assert (found.trials, found.failed) == (3, 0)
    after = trials_in(tmp_path / "killed")
    assert [trial.state for trial in after].count(TrialState.RUNNING) == 0
    assert (after[1].params, after[1].state) == (killed.params, TrialState.COMPLETE)
    assert [trial.number for trial in after] == [0, 1, 2]
    search(3, name="whole")
    assert outcomes(tmp_path / "killed") == outcomes(tmp_path / "whole")


@pytest.mark.slow
def test_a_killed_trial_keeps_parameters_that_would_not_be_drawn_again(search, tmp_path):
    search(1)
    study = study_in(tmp_path / "search")
    study.sampler = optuna.samplers.RandomSampler(seed=99)
    drawn = study.ask().suggest_float("mixup", 0.0, 1.0)
    search(2)
    assert [trial.state.name for trial in trials_in(tmp_path / "search")] == ["COMPLETE", "COMPLETE"]
    assert outcomes(tmp_path / "search")[1][0] == {"mixup": drawn}


@pytest.mark.slow
def test_a_trial_does_not_stand_in_for_a_run_that_looks_at_the_test_set(tmp_path):
    config = BASE.replace(validation=True)
    trial = RunOptions(device="cpu", out=tmp_path, evaluate_test=False)
    first = run.run(config, trial)
    assert run.run(config, trial) == first
    final = run.run(config, replace(trial, evaluate_test=True))
    assert set(final.metrics) == {"validation", "test"}
    assert final.metrics["validation"] == first.metrics["validation"]
    assert run.run(config, trial) == final  # which serves both


@pytest.mark.slow
def test_a_trial_that_failed_does_not_stand_in_for_a_run(tmp_path, monkeypatch):
    trained = []
    fit = train.fit
    monkeypatch.setattr("ltbench.runs.train.fit", lambda *args, **options: trained.append(1) or fit(*args, **options))
    config = BASE.replace(validation=True, lr=1e30)
    for _ in range(2):
        assert run.run(config, RunOptions(device="cpu", out=tmp_path, evaluate_test=False)).status == "failed"
    assert len(trained) == 2


@pytest.mark.parametrize(
    "change",
    [{"method": "balanced_softmax"}, {"epochs": 2}, {"seed": 1}, {"lr": 0.2}, {"imbalance_ratio": 10}],
    ids=str,
)
def test_another_search_in_the_folder_is_refused(search, tmp_path, at_once, change):
    search(1)
    before = trials_in(tmp_path / "search")
    with pytest.raises(LtbenchError, match="the folder holds a search with other settings") as caught:
        search(2, BASE.replace(**change))
    assert str(tmp_path / "search") in str(caught.value)
    ((name, value),) = change.items()
    assert f"({name}: {getattr(BASE, name)} there, {value} here)" in str(caught.value)
    assert trials_in(tmp_path / "search") == before


@pytest.mark.slow
def test_failed_trials_count_and_do_not_win(search, tmp_path, monkeypatch):
    run = tune.run

    def sometimes(config, options):
        low = config.hyperparameters["mixup"] < threshold
        return run(config.replace(lr=1e30) if low else config, options)

    search(3, name="fair")
    mixups = sorted(params["mixup"] for params, *_ in outcomes(tmp_path / "fair"))
    threshold = mixups[1]
    monkeypatch.setattr(tune, "run", sometimes)
    found = search(3)
    assert (found.trials, found.failed) == (3, 1)
    assert found.best.hyperparameters["mixup"] >= threshold
    (failed,) = (trial for trial in trials_in(tmp_path / "search") if trial.state == TrialState.FAIL)
    assert failed.user_attrs["reason"].startswith("the loss is ")
    history = tomllib.loads(found.best_file.read_text())["tuning"]["history"]
    assert [set(trial) for trial in history if trial["number"] == failed.number] == [{"number", "params", "reason"}]
    with monkeypatch.context() as patched:
        patched.setattr("ltbench.runs.train.fit", None)
        assert search(3).failed == 1  # a failure is an outcome: not tried again


@pytest.mark.slow
def test_a_search_in_which_every_trial_fails_says_why(search, tmp_path):
    with pytest.raises(LtbenchError, match="all 2 trials failed, the last: the loss is "):
        search(2, BASE.replace(lr=1e30))
    assert not (tmp_path / "search" / "best.toml").exists()


def test_what_is_fixed_is_not_searched(search, tmp_path):
    found = search(1, BASE.replace(method="logit_adjustment", hyperparameters={"mixup": 0.3}))
    (trial,) = trials_in(tmp_path / "search")
    assert set(trial.params) == {"tau"}
    assert found.best.hyperparameters["mixup"] == 0.3


@pytest.mark.slow
def test_balpoes_experts_are_searched_and_best_toml_has_their_taus(search, tmp_path):
    found = search(1, BASE.replace(method="balpoe"))
    (trial,) = trials_in(tmp_path / "search")
    assert set(trial.params) == {"experts", "spread", "mixup"}
    best = tomllib.loads(found.best_file.read_text())["hyperparameters"]
    assert len(best["taus"]) == trial.params["experts"]
    assert (max(best["taus"]) - min(best["taus"])) / 2 == pytest.approx(trial.params["spread"], abs=1e-4)
    short = {name: round(trial.params[name], 4) for name in ("spread", "mixup")}
    short["experts"] = trial.params["experts"]
    assert resolve(RunConfig(hyperparameters=short)).config == resolve(RunConfig(hyperparameters=best)).config


@pytest.mark.parametrize("method", ["balpoe", "ce", "balanced_softmax", "logit_adjustment", "logit_adjustment_posthoc"])
def test_every_corner_of_a_declared_space_is_allowed(method):
    space = registry.method(method).Config.search_space()
    assert space
    for end in (0, -1):
        corner = {}
        for name, option in space.items():
            assert isinstance(option, Range | Choice)
            corner[name] = (option.low, option.high)[end] if isinstance(option, Range) else option.options[end]
        resolve(RunConfig(method=method, hyperparameters=corner))


@pytest.fixture
def pool(monkeypatch, make_result):
    """Replace the workers by ones that end in the order of our choice, and take no time."""

    def install(pick, stop_after=99):
        ended = []

        class Pool:
            def __init__(self, count, options):
                self.count, self.under_way = count, []

            def __enter__(self):
                return self

            def __exit__(self, *error):
                pass

            def start(self, position, config):
                self.under_way.append((position, config))
                assert len(self.under_way) <= self.count

            def next_result(self):
                if len(ended) == stop_after:
                    raise KeyboardInterrupt
                position, config = self.under_way.pop(pick)
                ended.append(config)
                mixup = config.hyperparameters["mixup"]
                result = make_result(settings={"hyperparameters": {"mixup": mixup}}, macro=90 - (mixup - 0.3) ** 2)
                return position, result.model_copy(update={"metrics": {"validation": result.test}}), False

        monkeypatch.setattr(local, "WorkerPool", Pool)
        return ended

    eager = functools.partial(optuna.samplers.TPESampler, n_startup_trials=2)
    monkeypatch.setattr(optuna.samplers, "TPESampler", eager)
    return install


def test_a_search_with_several_workers_does_not_depend_on_who_is_first(search, tmp_path, pool):
    told = []
    for name, pick in (("first", 0), ("last", -1)):
        pool(pick)
        search(9, name=name, parallel=3, on_trial=told.append)
    assert outcomes(tmp_path / "first") == outcomes(tmp_path / "last")
    assert len(outcomes(tmp_path / "first")) == 9
    assert [trial.number for trial in told] == [*range(9), *range(9)]
    pool(0)
    search(9, name="two", parallel=2)
    assert outcomes(tmp_path / "two") != outcomes(tmp_path / "first"), "what is known when a trial is chosen counts"


def test_a_search_with_several_workers_that_is_stopped_goes_on_as_if_it_were_not(search, tmp_path, pool):
    pool(0)
    search(9, name="whole", parallel=3)
    pool(-1, stop_after=5)
    with pytest.raises(KeyboardInterrupt):
        search(9, name="stopped", parallel=3)
    assert [trial.state for trial in trials_in(tmp_path / "stopped")].count(TrialState.RUNNING) == 3
    pool(-1)
    assert search(9, name="stopped", parallel=3).trials == 9
    assert outcomes(tmp_path / "stopped") == outcomes(tmp_path / "whole")


@pytest.fixture
def at_once(monkeypatch, make_result):
    """Trials that take no time, one worker."""

    def result(config, options):
        mixup = config.hyperparameters["mixup"]
        made = make_result(settings={"hyperparameters": {"mixup": mixup}}, macro=90 - (mixup - 0.3) ** 2)
        return made.model_copy(update={"metrics": {"validation": made.test}})

    monkeypatch.setattr(tune, "run", result)
    eager = functools.partial(optuna.samplers.TPESampler, n_startup_trials=2)
    monkeypatch.setattr(optuna.samplers, "TPESampler", eager)


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
        ({"remix": Range(1.0, 2.0)}, "remix: None there, {'high': 2, "),
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
    with pytest.raises(LtbenchError, match="trial 1 of the search was not made by ltbench tune"):
        search(2)


def test_best_toml_is_written_anew_by_each_call_and_only_if_it_differs(search, at_once):
    file = search(2).best_file
    text, stamp = file.read_bytes(), file.stat().st_mtime_ns
    search(1)  # fewer than there are: nothing to do
    assert file.stat().st_mtime_ns == stamp
    file.write_text("changed by hand")
    search(2)
    assert file.read_bytes() == text


@pytest.mark.slow
def test_best_toml_is_replayed_with_the_search_on_record(cli, tmp_path):
    done = cli("tune", "--method", "ce", "--trials", 2, "--epochs", 1, "--device", "cpu", "--seed", 5)
    assert (done.code, done.notes) == (0, "")
    lines = done.out.splitlines()
    assert [line.split(":")[0] for line in lines[:2]] == ["trial 1", "trial 2"]
    assert lines[2].startswith("best of 2 trials (0 failed): validation macro accuracy ")
    command = shlex.split(lines[4].removeprefix("next: "))
    assert command == ["ltbench", "run", "--config", "tune/digits-lt-ce/best.toml", "--seeds", "0-4"]
    best = tomllib.loads((tmp_path / command[3]).read_text())
    assert (best["tuning"]["trials"], best["tuning"]["failed"], best["tuning"]["seed"]) == (2, 0, 5)
    assert "validation" in best["tuning"]["objective"]
    assert best["tuning"]["space"] == {"mixup": {"low": 0.0, "high": 1.0, "log": False}}
    trials = trials_in(tmp_path / "tune" / "digits-lt-ce")
    assert best["tuning"]["history"] == [
        {
            "number": trial.number,
            "params": {"mixup": round(trial.params["mixup"], 4)},
            "macro": trial.value,
            "ece": trial.user_attrs["ece"],
        }
        for trial in trials
    ]

    assert cli(*command[1:], "--seeds", "0-1", "--device", "cpu").code == 0
    results = [read(path) for path in sorted((tmp_path / "results").rglob("*.json"))]
    assert sorted(result.config.seed for result in results) == [0, 1]
    for result in results:
        assert result.config.hyperparameters == best["hyperparameters"]
        assert not result.config.validation
        assert result.test is not None
        assert result.tuning == best["tuning"]
        assert result.config.recipe.epochs == 1


def test_the_command_says_that_another_search_is_there(cli):
    words = ("tune", "--method", "ce", "--trials", 1, "--epochs", 1, "--device", "cpu", "--out", "here")
    assert cli(*words).code == 0
    done = cli(*words, "--lr", 0.3)
    assert done.code == 2
    assert "holds a search with other settings" in done.err
    assert "choose another --out" in done.err
