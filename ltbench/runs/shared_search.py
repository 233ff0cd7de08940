"""A search that several workers share, on any number of hosts: trials in a database, or behind optuna's gRPC proxy.

The budget is exact: it is a number of slots, and a trial belongs to one. A trial that waits is taken by one worker,
since the storage changes its state for one only. A worker that dies gives no more signs of life; its trial is given up,
and its slot is tried again with the same hyper-parameters, from the checkpoint where workers share the cache. Where
two workers have made a trial for one slot, the first counts.
"""

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import optuna
from optuna.exceptions import DuplicatedStudyError, StorageInternalError, UpdateFinishedTrialError
from optuna.storages import BaseStorage, GrpcStorageProxy, RDBStorage
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from ltbench.config import RunConfig
from ltbench.errors import LtbenchError, first_line
from ltbench.files.lock import exclusive
from ltbench.method import Choice, Range
from ltbench.progress import LOADING, ProgressUpdate
from ltbench.results.schema import Result
from ltbench.runs.conclusion import SearchResult, conclude, finished_trials
from ltbench.runs.options import RunOptions, for_run
from ltbench.runs.pruning import Pruning, pruning_for
from ltbench.runs.resolve import search_space
from ltbench.runs.run import run
from ltbench.runs.search_settings import USUAL, SearchSettings
from ltbench.runs.tune import SearchIdentity, name_metrics, record, suggest

SIGN_OF_LIFE_INTERVAL = 5.0
"""Seconds between two signs of life of a trial."""
TRIAL_LOST_AFTER = 60.0
"""Seconds without one after which a trial is given up."""
SLOT_POLL_INTERVAL = 1.0
"""Seconds between two looks for a slot, while others carry out the last ones."""
SLOT_TIMEOUT = (2.0, 6.0)
"""Seconds without a new trial, at least and at most, after which a worker makes those that are lacking."""
TRIES = 5
"""How often a storage is opened before that has failed."""
_SLOT, _SEEN = "slot", "seen"


def tune_shared(
    base: RunConfig,
    trials: int,
    folder: Path,
    url: str,
    options: RunOptions,
    on_trial: Callable[[FrozenTrial], None] = lambda trial: None,
    on_begin: Callable[[Sequence[FrozenTrial]], None] = lambda finished: None,
    settings: SearchSettings = USUAL,
    space: Mapping[str, Range | Choice] | None = None,
) -> SearchResult:
    """Carry out trials of a search as one of its workers, until none is left.

    Args:
        base: the settings that all trials share.
        trials: how many in all, of all workers.
        folder: for this worker's results and best.toml.
        url: of the storage; see ``open_storage``.
        options: as for ``ltbench.runs.tune.tune``.
        on_trial: called with every trial that this worker has finished.
        on_begin: called once with the trials that are finished already.
        settings: what the search optimises, and how.
        space: what the search chooses, as ``search_space`` gives it; None: what the method declares.

    Raises:
        LtbenchError: for a storage that cannot be reached or serves one worker and has another, a method that leaves
            nothing to search, or a search whose trials have all failed.
    """
    base = base.replace(validation=True)
    space = search_space(base) if space is None else space
    settings.check(space)
    options = replace(options, out=folder / "runs", evaluate_test=False)
    identity = SearchIdentity.of(base, space, options, settings)
    with open_storage(url) as storage:
        study, is_new = _study(storage, identity)
        on_begin(finished_trials(study))
        worker = _SearchWorker(
            study, identity, trials, options, slot_timeout=0.0 if is_new else random.uniform(*SLOT_TIMEOUT)
        )
        for position, trial in enumerate(worker.trials()):
            if worker.carry_out(trial, position):
                on_trial(study.get_trials(deepcopy=False)[trial.number])
        return conclude(study, base, space, settings, folder)


@contextmanager
def open_storage(url: str) -> Iterator[BaseStorage]:
    """Open a storage that several workers share.

    Args:
        url: postgresql://USER:PASSWORD@HOST/DATABASE, or of another database that SQLAlchemy knows; grpc://HOST:PORT of
            ``optuna.storages.run_grpc_proxy_server``; or sqlite:///FILE, for one worker.

    Raises:
        LtbenchError: for another kind of URL, a storage that cannot be reached, or a second worker on SQLite.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:  # without the URL, which may hold a password
        raise LtbenchError(
            f"the storage is no URL: {error}", where="--storage", hint="write signs such as [ in a password as %5B"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if parts.scheme == "sqlite":
        file = Path(url.partition(":///")[2] or "search.db")
        hint = "SQLite locks the whole file, and loses writes over network folders: use PostgreSQL, or a gRPC proxy"
        with exclusive(file.with_name(f"{file.name}.lock"), "a worker on this SQLite file", wait=False, hint=hint):
            yield _reached(lambda: RDBStorage(url), url)
        return
    if parts.scheme == "grpc":
        yield _reached(lambda: _proxy(parts.hostname or "localhost", parts.port or 13000), url)
        return
    if "+" not in parts.scheme and parts.scheme in ("postgresql", "postgres"):
        url = url.replace(f"{parts.scheme}://", "postgresql+psycopg://", 1)
    elif "://" not in url:
        raise LtbenchError(
            f"'{url}' is no URL of a storage",
            where="--storage",
            hint="write postgresql://USER@HOST/DATABASE, grpc://HOST:PORT, or sqlite:///FILE for one worker",
        )
    engine: dict[str, Any] = {"pool_pre_ping": True}
    if url.startswith("postgresql"):  # a worker that is stopped amid a change would keep its locks
        engine["connect_args"] = {"options": f"-c idle_in_transaction_session_timeout={1000 * TRIAL_LOST_AFTER:.0f}"}
    yield _reached(lambda: RDBStorage(url, engine_kwargs=engine), url)


def _proxy(host: str, port: int) -> GrpcStorageProxy:
    proxy = GrpcStorageProxy(host=host, port=port)
    proxy.wait_server_ready(timeout=20)
    return proxy


def _reached(connect: Callable[[], BaseStorage], url: str) -> BaseStorage:
    try:
        for _ in range(TRIES):
            with suppress(SQLAlchemyError, RuntimeError):  # workers that come at once make the same tables
                return connect()
            time.sleep(0.5)
        return connect()
    except ImportError as error:
        hint = "python -m pip install 'ltbench[storage]' for PostgreSQL and gRPC, or the driver of your database"
        what = f"the storage needs a package that is not installed: {first_line(error)}"
        raise LtbenchError(what, where="--storage", hint=hint) from None
    except Exception as error:  # of the driver, SQLAlchemy or gRPC
        host = urlsplit(url).hostname or "this machine"  # not the URL, which may have a password
        reason = first_line(error)
        raise LtbenchError(
            f"cannot use the storage on {host}: {reason}", where="--storage", hint="see that it runs, and its URL"
        ) from None


def _study(storage: BaseStorage, identity: SearchIdentity) -> tuple[optuna.Study, bool]:
    """The study of a search, and whether this worker came first and made it; other settings have another."""
    name = f"ltbench/{identity.base.dataset}/{identity.base.method}/{identity.digest}"
    try:
        study = optuna.create_study(storage=storage, study_name=name, directions=identity.settings.directions)
        for fact, value in identity.facts.items():
            study.set_user_attr(fact, value)
        name_metrics(study, identity.settings)
    except DuplicatedStudyError:
        return optuna.load_study(storage=storage, study_name=name), False
    return study, True


class _SearchWorker:
    """One of the workers of a search.

    Args:
        study: the search.
        identity: what it searches, and how.
        budget: number of slots.
        options: of all trials.
        slot_timeout: seconds without a new trial after which it makes those that slots lack: others may be about to.
    """

    def __init__(
        self,
        study: optuna.Study,
        identity: SearchIdentity,
        budget: int,
        options: RunOptions,
        slot_timeout: float,
    ) -> None:
        self.study, self.budget, self.options, self.slot_timeout = study, budget, options, slot_timeout
        self.base, self.space, self.settings = identity.base, identity.space, identity.settings
        self._signs: dict[int, tuple[float | None, float]] = {}
        self._trials, self._since = -1, 0.0

    def trials(self) -> Iterator[FrozenTrial]:
        """The trials that this worker gets, until all slots have ended."""
        failures = 0
        while True:
            try:
                self._give_up_silent()
                self._fill_slots()
                taken = self._take()
                over = taken is None and self._ended() >= set(range(self.budget))
            except StorageInternalError:  # it has closed the connection of a worker that was stopped
                failures += 1
                if failures > TRIES:
                    raise
                continue
            failures = 0
            if taken is not None:
                yield taken
            elif over:
                return
            else:
                time.sleep(SLOT_POLL_INTERVAL)  # a worker may die, and leave its slot

    def carry_out(self, trial: FrozenTrial, position: int) -> bool:
        """Carry out a trial; whether its outcome counts, and no other worker was given its slot meanwhile."""
        attempt = sum(one.user_attrs.get(_SLOT) == trial.user_attrs[_SLOT] for one in self.study.get_trials(False))
        draw = (trial.user_attrs[_SLOT], attempt)
        self.study.sampler = self.settings.make_sampler(seed=self.base.seed, draw=draw, liar=True)
        handle = Trial(self.study, trial._trial_id)
        self.options.listener(ProgressUpdate(LOADING, 0.0, run=position))
        try:
            with _signs_of_life(handle):
                config = self.base.replace(hyperparameters=suggest(handle, self.space, self.base))
                trials = self.study.get_trials(deepcopy=False)
                pruning = pruning_for(self.settings, trial.number, trials, known=trial.number)
                result = run(config, replace(for_run(self.options, position), pruning=pruning))
            return self._recorded(handle, result, pruning)
        except UpdateFinishedTrialError:  # while its hyper-parameters were drawn
            return False
        except BaseException:
            self._retry(trial)  # at once: others need not wait until it is silent
            raise
        finally:
            self.options.listener(ProgressUpdate("", 1.0, run=position))

    def _recorded(self, handle: Trial, result: Result, pruning: Pruning | None) -> bool:
        """Record an outcome; not where the trial was given up meanwhile."""
        for _ in range(TRIES):
            try:
                record(self.study, handle, result, self.settings, pruning)
            except StorageInternalError:  # it has closed the connection of a worker that was stopped
                time.sleep(SLOT_POLL_INTERVAL)
            except (UpdateFinishedTrialError, ValueError):  # the latter is what tell() raises for it
                return False
            else:
                return True
        record(self.study, handle, result, self.settings, pruning)
        return True

    def _by_slot(self) -> dict[int, FrozenTrial]:
        """The trial that counts of each slot that has one."""
        found: dict[int, FrozenTrial] = {}
        for trial in self.study.get_trials(deepcopy=False):
            slot = trial.user_attrs.get(_SLOT)
            if slot is not None and not _given_up(trial):
                found.setdefault(slot, trial)
        return found

    def _ended(self) -> set[int]:
        """The slots whose trial has ended."""
        return {slot for slot, trial in self._by_slot().items() if trial.state.is_finished()}

    def _fill_slots(self) -> None:
        """See that every slot has a trial, if nobody else does; with the hyper-parameters of one that was given up."""
        trials = self.study.get_trials(deepcopy=False)
        if len(trials) != self._trials:
            self._trials, self._since = len(trials), time.monotonic()
        if time.monotonic() - self._since < self.slot_timeout:
            return
        counted = self._by_slot()
        before = {trial.user_attrs.get(_SLOT): trial.params for trial in trials if _given_up(trial) and trial.params}
        for slot in range(self.budget):
            if slot not in counted:
                self._enqueue(slot, before.get(slot, {}))

    def _enqueue(self, slot: int, hyperparameters: dict[str, Any]) -> None:
        self.study.enqueue_trial(hyperparameters, user_attrs={_SLOT: slot})

    def _retry(self, trial: FrozenTrial) -> None:
        """Give up a trial that was begun, and have its slot tried again."""
        if self._changed(trial, TrialState.FAIL):
            params = next(one.params for one in self.study.get_trials(False) if one.number == trial.number)
            self._enqueue(trial.user_attrs[_SLOT], params)

    def _take(self) -> FrozenTrial | None:
        """Take a trial that waits; one that came second in its slot is given up."""
        counted = {trial.number for trial in self._by_slot().values()}
        for trial in self.study.get_trials(False, (TrialState.WAITING,)):
            if trial.number not in counted:
                self._changed(trial, TrialState.FAIL)
            elif self._changed(trial, TrialState.RUNNING):
                return trial
        return None

    def _give_up_silent(self) -> None:
        """Give up the trials of workers that have given no sign of life, by this worker's own clock."""
        now = time.monotonic()
        for trial in self.study.get_trials(False, (TrialState.RUNNING,)):
            sign = trial.user_attrs.get(_SEEN)
            if self._signs.get(trial.number, (None, 0.0))[0] != sign or trial.number not in self._signs:
                self._signs[trial.number] = sign, now
            elif now - self._signs[trial.number][1] > TRIAL_LOST_AFTER:
                self._retry(trial)

    def _changed(self, trial: FrozenTrial, state: TrialState) -> bool:
        """Change the state of a trial; not where another worker was first."""
        with suppress(UpdateFinishedTrialError):
            return self.study._storage.set_trial_state_values(trial._trial_id, state=state)
        return False


def _given_up(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.FAIL and "reason" not in trial.user_attrs


@contextmanager
def _signs_of_life(trial: Trial) -> Iterator[None]:
    """Note now and then that a trial is under way."""
    over = threading.Event()

    def beat() -> None:
        while True:
            try:
                trial.set_user_attr(_SEEN, time.time())
            except UpdateFinishedTrialError:  # it was given up
                return
            except Exception:  # the storage does not answer, and may do so again
                pass
            if over.wait(SIGN_OF_LIFE_INTERVAL):
                return

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
