"""A search that workers share: no trial lost, none twice, an exact budget; in a real PostgreSQL, and over gRPC."""

import multiprocessing
import os
import shutil
import signal
import subprocess
import time
import tomllib
from pathlib import Path

import optuna
import pytest
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from ltbench.errors import LtbenchError
from ltbench.runs import shared_search
from ltbench.runs.options import RunOptions
from ltbench.runs.shared_search import open_storage, tune_shared
from tests.runs.launchers.conftest import called, end, free_ports, wait_for
from tests.runs.searches import BASE

pytestmark = pytest.mark.slow

FORK = multiprocessing.get_context("fork")  # the workers need not import torch again


@pytest.fixture
def trials_take(monkeypatch, make_result):
    """Trials that take a given time; what a worker does is a line in a file."""
    monkeypatch.setattr(shared_search, "SIGN_OF_LIFE_INTERVAL", 0.2)
    monkeypatch.setattr(shared_search, "SLOT_POLL_INTERVAL", 0.1)
    monkeypatch.setattr(shared_search, "SLOT_TIMEOUT", (0.5, 2.0))

    def install(seconds, silent=60.0, log=None):
        def result(config, options):
            mixup = config.hyperparameters["mixup"]
            if log is not None:
                with log.open("a") as stream:
                    stream.write(f"{os.getpid()} {mixup}\n")
            time.sleep(seconds)
            made = make_result(settings={"hyperparameters": {"mixup": mixup}}, macro=90 - (mixup - 0.3) ** 2)
            return made.model_copy(update={"metrics": {"validation": made.test}})

        monkeypatch.setattr(shared_search, "run", result)
        monkeypatch.setattr(shared_search, "TRIAL_LOST_AFTER", silent)

    return install


def sqlite(tmp_path):
    return f"sqlite:///{tmp_path}/search.db"


def study_in(url):
    storage = RDBStorage(url)
    [name] = optuna.get_all_study_names(storage)
    return optuna.load_study(study_name=name, storage=storage)


def counted(url):
    """Trials that have ended, by slot."""
    ended = [t for t in study_in(url).trials if t.state == TrialState.COMPLETE or "reason" in t.user_attrs]
    return sorted(trial.user_attrs["slot"] for trial in ended)


def test_one_worker_carries_out_the_budget_and_not_more(trials_take, tmp_path):
    trials_take(0)
    told, begun = [], []
    run = lambda budget: tune_shared(  # noqa: E731
        BASE, budget, tmp_path / "search", sqlite(tmp_path), RunOptions(device="cpu"), told.append, begun.append
    )
    assert run(4).trials == 4
    assert counted(sqlite(tmp_path)) == [0, 1, 2, 3]
    assert len({trial.params["mixup"] for trial in told}) == 4
    assert run(4).trials == 4
    assert len(told) == 4, "nothing is left"
    found = run(6)
    assert (found.trials, len(told), [len(one) for one in begun]) == (6, 6, [0, 4, 4])
    best = tomllib.loads(found.best_file.read_text())
    assert (best["tuning"]["trials"], best["method"]) == (6, "ce")


def test_a_trial_of_a_dead_worker_is_tried_again_with_its_parameters(trials_take, tmp_path, monkeypatch):
    trials_take(0, silent=0.3)
    url = sqlite(tmp_path)
    ours, theirs = FORK.Pipe()

    def dies(config, options):
        theirs.send(config.hyperparameters["mixup"])
        os.kill(os.getpid(), signal.SIGKILL)

    def dying_worker():
        monkeypatch.setattr(shared_search, "run", dies)
        tune_shared(BASE, 2, tmp_path / "search", url, RunOptions(device="cpu"))

    process = FORK.Process(target=dying_worker)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert tune_shared(BASE, 2, tmp_path / "search", url, RunOptions(device="cpu")).trials == 2
    trials = study_in(url).trials
    assert [trial.state for trial in trials] == [TrialState.FAIL, TrialState.COMPLETE, TrialState.COMPLETE]
    again = trials[2]
    assert (again.user_attrs["slot"], again.user_attrs["hyperparameters"]["mixup"]) == (0, ours.recv())


def test_an_outcome_that_comes_too_late_does_not_count(trials_take, tmp_path, monkeypatch):
    trials_take(0)
    url = sqlite(tmp_path)
    works, late = shared_search.run, []

    def given_up_meanwhile(config, options):
        if not late:
            study = study_in(url)
            [running] = [trial for trial in study.trials if trial.state == TrialState.RUNNING]
            study._storage.set_trial_state_values(running._trial_id, state=TrialState.FAIL)
            late.append(running.number)
        return works(config, options)

    monkeypatch.setattr(shared_search, "run", given_up_meanwhile)
    told = []
    assert tune_shared(BASE, 2, tmp_path / "search", url, RunOptions(device="cpu"), told.append).trials == 2
    assert [trial.number for trial in told] == [1, 2]
    assert counted(url) == [0, 1]


def test_of_two_trials_for_one_slot_the_first_counts(trials_take, tmp_path):
    trials_take(0)
    url = sqlite(tmp_path)

    def another_for_slot_1(trial):
        if trial.number == 0:
            study_in(url).enqueue_trial({"mixup": 0.5}, user_attrs={"slot": 1})

    assert tune_shared(BASE, 2, tmp_path / "search", url, RunOptions(device="cpu"), another_for_slot_1).trials == 2
    states = [trial.state for trial in study_in(url).trials]
    assert states == [TrialState.COMPLETE, TrialState.COMPLETE, TrialState.FAIL]
    assert counted(url) == [0, 1]


def test_other_settings_have_a_study_of_their_own(trials_take, tmp_path):
    trials_take(0)
    url = sqlite(tmp_path)
    for base in (BASE, BASE.replace(lr=0.1)):
        assert tune_shared(base, 1, tmp_path / "search", url, RunOptions(device="cpu")).trials == 1
    assert len(optuna.get_all_study_names(RDBStorage(url))) == 2


def test_a_second_worker_on_sqlite_is_refused_with_the_reason(tmp_path):
    with open_storage(sqlite(tmp_path)):
        ready, told = FORK.Pipe()

        def second():
            try:
                with open_storage(sqlite(tmp_path)):
                    told.send("no error")
            except LtbenchError as error:
                told.send(str(error))

        process = FORK.Process(target=second)
        process.start()
        message = ready.recv()
        process.join()
    assert "SQLite locks the whole file" in message
    assert "use PostgreSQL, or a gRPC proxy" in message


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--storage", "search.db"), "is no URL of a storage"),
        (("--storage", "postgresql://user:se[cret@127.0.0.1:1/x"), "the storage is no URL"),
        (("--storage", "nosuch://host/x"), "cannot use the storage on host"),
        (("--storage", "postgresql://user:secret@127.0.0.1:1/x"), "cannot use the storage on 127.0.0.1"),
        (("--storage", "sqlite:///x.db", "--parallel", 2), "each command is one worker"),
    ],
)
def test_bad_storages_are_refused(cli, monkeypatch, words, message):
    monkeypatch.setattr(shared_search, "TRIES", 0)
    done = cli("tune", "--method", "ce", "--trials", 1, "--device", "cpu", *words)
    assert done.code == 2
    assert message in done.err
    assert "secret" not in done.err


@pytest.fixture(scope="module")
def database():
    """A PostgreSQL that nobody else uses; gives its URL."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    assert programs, "apt-get install postgresql"
    folder = Path("/tmp") / f"ltbench-postgresql-{os.getpid()}"
    folder.mkdir()
    shutil.chown(folder, "postgres")
    port = free_ports()[0]
    try:
        by_user = ("runuser", "-u", "postgres", "--")
        called(*by_user, programs[-1] / "initdb", "-D", folder / "data", "-U", "ltbench", "--auth=trust")
        server = [
            *by_user,
            str(programs[-1] / "postgres"),
            "-D",
            str(folder / "data"),
            "-p",
            str(port),
            "-k",
            str(folder),
        ]
        with subprocess.Popen([*server, "-c", "fsync=off"], stderr=subprocess.DEVNULL) as process:
            ready = ("pg_isready", "-h", "127.0.0.1", "-p", str(port))
            wait_for("PostgreSQL", lambda: subprocess.run(ready, capture_output=True, check=False).returncode == 0, 60)
            yield f"postgresql+psycopg://ltbench@127.0.0.1:{port}/"
            end(int((folder / "data" / "postmaster.pid").read_text().split()[0]))
            process.wait(20)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def fresh(database):
    """An empty database in it."""
    import psycopg

    name = f"test{time.monotonic_ns()}"
    with psycopg.connect(database.replace("+psycopg", "") + "postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return database + name


def work(url, folder):
    tune_shared(BASE, 20, folder, url, RunOptions(device="cpu"))


@pytest.mark.postgresql
@pytest.mark.slow
@pytest.mark.parametrize("through", ["postgresql", "grpc"])
def test_workers_share_a_search_though_one_is_killed_and_one_is_stopped(through, fresh, trials_take, tmp_path):
    log = tmp_path / "log"
    trials_take(0.5, silent=3.0, log=log)
    url, proxy = fresh, None
    if through == "grpc":
        port = free_ports()[0]
        url = f"grpc://127.0.0.1:{port}"
        serve = lambda: optuna.storages.run_grpc_proxy_server(  # noqa: E731
            RDBStorage(fresh), host="127.0.0.1", port=port
        )
        proxy = FORK.Process(target=serve, daemon=True)
        proxy.start()
    try:
        workers = [FORK.Process(target=work, args=(url, tmp_path / "search")) for _ in range(4)]
        for worker in workers:
            worker.start()
        for worker, sign in zip(workers, (signal.SIGKILL, signal.SIGSTOP), strict=False):
            busy = lambda pid=worker.pid: log.exists() and str(pid) in log.read_text()  # noqa: E731
            wait_for("its first trial", busy, 60)
            os.kill(worker.pid, sign)  # the first one at once, while it has this trial
        for worker in workers[2:]:
            worker.join(120)
            assert worker.exitcode == 0
        os.kill(workers[1].pid, signal.SIGCONT)
        workers[1].join(60)
        assert workers[1].exitcode == 0
        assert counted(fresh) == list(range(20))
        trials = study_in(fresh).trials
        assert not [trial for trial in trials if trial.state in (TrialState.RUNNING, TrialState.WAITING)]
        given_up = [trial for trial in trials if trial.state == TrialState.FAIL and trial.params]
        assert 1 <= len(given_up) <= 2, "that of the killed worker, and of the other, if it had one"
        best = tomllib.loads((tmp_path / "search" / "best.toml").read_text())
        assert best["tuning"]["trials"] == 20
        assert len(log.read_text().splitlines()) <= 20 + len(given_up)
    finally:
        if proxy is not None:
            proxy.terminate()
