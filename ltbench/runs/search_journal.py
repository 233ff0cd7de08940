"""The file that a search is kept in: optuna's journal, a line of JSON an operation, for one process at a time."""

import json
import math
import os
import warnings
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.storages.journal._storage import JournalOperation
from optuna.trial import TrialState

from ltbench.errors import LtbenchError, LtbenchWarning, SaveError
from ltbench.files.reading import read_small
from ltbench.runs.search_settings import Direction

_STUDY = "ltbench"
_LARGEST = 2**30
"""Bytes of a journal, at most; a trial takes about one thousand."""
_HINT = "restore the file, or choose another --out"


class _NoLock(JournalFileOpenLock):
    """Stands in for optuna's lock, which a killed process leaves behind: whoever opens the file holds its folder's."""

    def acquire(self) -> bool:
        """There is nobody to wait for."""
        return True

    def release(self) -> None:
        """Likewise."""


class _Journal(JournalFileBackend):
    """optuna's file, which knows the line that it is at, and whose errors are ours."""

    def __init__(self, path: Path) -> None:
        self.path, self.line = path, 0
        super().__init__(str(path), lock_obj=_NoLock(str(path)))

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        """Read as optuna does, and count the lines."""
        self.line = log_number_from
        for log in super().read_logs(log_number_from):
            self.line += 1
            yield log

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """As optuna's.

        Raises:
            SaveError: if the file cannot be written.
        """
        try:
            super().append_logs(logs)
        except OSError as error:
            raise _cannot_save(error, self.path) from error


def open_study(path: Path, directions: Sequence[Direction] = ("maximize",)) -> optuna.Study:
    """Open or begin a study; the caller holds a lock for it.

    A last line that was not written whole, as a killed process leaves it, is dropped.

    Args:
        path: of the journal.
        directions: of the objectives of a study that is begun.

    Raises:
        LtbenchError: naming the line, if the journal is damaged otherwise, or if it is no file.
        SaveError: if it cannot be written.
    """
    try:
        for left in path.parent.glob(f"{path.name}.lock*"):  # by older versions, with optuna's lock
            left.unlink()
        _drop_torn_line(path)
        journal = _Journal(path)
    except OSError as error:
        raise _cannot_save(error, path) from error
    try:
        storage = JournalStorage(journal)
        if _STUDY in optuna.get_all_study_names(storage):  # create_study() would write a line all the same
            study = optuna.load_study(study_name=_STUDY, storage=storage)
            _check_trials(study, path)
            return study
        return optuna.create_study(study_name=_STUDY, storage=storage, directions=directions)
    except LtbenchError:
        raise
    except Exception as error:  # what is no operation, or none that can follow those before it, fails in many ways
        raise _damaged(f"{type(error).__name__}: {error}", path, journal.line) from None


def _check_trials(study: optuna.Study, path: Path) -> None:
    """Refuse what no search writes: a hyper-parameter that lies out of its range, and a result that is no number."""
    for trial in study.get_trials(deepcopy=False):
        for name, space in trial.distributions.items():
            if not space._contains(space.to_internal_repr(trial.params[name])):
                line = _line_of(trial.number, JournalOperation.CREATE_TRIAL, path)
                raise _damaged(f"{name} of trial {trial.number + 1} lies out of its range", path, line)
        if not all(map(math.isfinite, trial.values or ())):
            line = _line_of(trial.number, JournalOperation.SET_TRIAL_STATE_VALUES, path)
            raise _damaged(f"the result of trial {trial.number + 1} is no finite number", path, line)


def _line_of(trial: int, code: JournalOperation, path: Path) -> int:
    """The last line that has an operation of a trial; the one that makes it does not name it."""
    created, found = -1, 1
    for number, line in enumerate(read_small(path, largest=_LARGEST).splitlines(), start=1):
        operation = _operation(line)
        created += operation["op_code"] == JournalOperation.CREATE_TRIAL
        if operation["op_code"] == code and operation.get("trial_id", created) == trial:
            found = number
    return found


def _drop_torn_line(path: Path) -> None:
    """Cut off what an interrupted write has left at the end of a journal, and refuse what no interruption explains."""
    if not path.exists():
        return
    content = read_small(path, largest=_LARGEST)
    *whole, torn = content.split(b"\n")
    if whole and not torn and _operation(whole[-1]) is None:
        torn = whole.pop() + b"\n"
    trials, finished = 0, set[int]()
    for number, line in enumerate(whole, start=1):
        operation = _operation(line)
        if not isinstance(operation, dict) or type(operation.get("op_code")) is not int:
            raise _damaged("not an operation of a search", path, number)
        if not _follows(operation, first=number == 1, trials=trials):
            raise _damaged("a line before this one is missing or changed", path, number)
        if operation.get("trial_id") in finished:
            raise _damaged("the trial has ended in a line before this one", path, number)
        trials += operation["op_code"] == JournalOperation.CREATE_TRIAL
        if operation["op_code"] == JournalOperation.SET_TRIAL_STATE_VALUES and _ends(operation):
            finished.add(operation["trial_id"])
    if torn:
        os.truncate(path, len(content) - len(torn))
        message = f"{path}: the last line was not written whole and is dropped; the search resumes from the one before"
        warnings.warn(message, LtbenchWarning, stacklevel=4)


def _follows(operation: dict[str, Any], *, first: bool, trials: int) -> bool:
    """Whether an operation can come after those before it; optuna leaves out in silence what cannot.

    Args:
        operation: of a line.
        first: whether it is the first one.
        trials: that have been made before it; optuna numbers them by their order.
    """
    code, study, trial = (operation.get(name) for name in ("op_code", "study_id", "trial_id"))
    if code == JournalOperation.CREATE_STUDY or first:
        return code == JournalOperation.CREATE_STUDY
    if code == JournalOperation.DELETE_STUDY:
        return False
    return study == 0 if trial is None else trial in range(trials)


def _ends(operation: dict[str, Any]) -> bool:
    """Whether the state that an operation gives a trial is its last."""
    return operation.get("state") in [state.value for state in TrialState if state.is_finished()]


def _operation(line: bytes) -> Any:
    """What a line says; None where it is no JSON."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _damaged(why: str, path: Path, line: int) -> LtbenchError:
    return LtbenchError(
        f"the record of the search is damaged: {why}", where=f"{path.absolute()}, line {line}", hint=_HINT
    )


def _cannot_save(error: OSError, path: Path) -> SaveError:
    where, hint = path.parent.absolute(), "make the folder writable, free some disk space, or choose another --out"
    return SaveError(f"the search cannot be saved: {error.strerror}", where=where, hint=hint)
