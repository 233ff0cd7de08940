"""What is running, has stopped and has ended: from heartbeats in the cache and from results, read when they change."""

import math
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from ltbench.config import Recipe, RunConfig
from ltbench.errors import LtbenchError
from ltbench.files.lock import is_held
from ltbench.results.records import Status
from ltbench.results.schema import Result
from ltbench.results.store import read
from ltbench.runs.launchers.job_folder import JobFolder, job_folders
from ltbench.runs.monitor import tasks
from ltbench.runs.monitor.heartbeat import FILE, Heartbeat
from ltbench.runs.monitor.tasks import TaskStatus
from ltbench.runs.suite import settings_key

RUN_LOST_AFTER = 600.0
"""Seconds without a heartbeat after which a process on another machine is taken for dead."""
BETWEEN_QUESTIONS = 15.0
"""Seconds between two questions to a scheduler's queue, which many users share."""
SETTLED = 2.0
"""Seconds after which another change of a folder is sure to have another time."""


@dataclass(frozen=True)
class InterruptedRun:
    """A run that no process carries out, and that has not ended."""

    config: RunConfig
    at: datetime
    fraction: float | None
    """Fraction of training that was done; None where it is not known."""
    saved: bool
    """Whether there is a checkpoint from which the same command resumes; else it starts anew."""


@dataclass(frozen=True)
class FinishedRun:
    """What is shown of a result."""

    run_id: str
    config: RunConfig
    at: datetime
    status: Status
    reason: str | None
    top1: float | None
    ece: float | None
    seconds: float | None
    validation: bool
    """Whether the figures are of the validation part, as those of a search's trials."""


@dataclass(frozen=True)
class WaitingRun:
    """A run that a scheduler has not begun, or that is beginning: it loads its data."""

    config: RunConfig
    at: datetime
    words: str
    """What it waits for, or where it begins."""


@dataclass(frozen=True)
class RunOverview:
    """All runs at one moment, the latest first."""

    waiting: list[WaitingRun] = field(default_factory=list)
    running: list[Heartbeat] = field(default_factory=list)
    interrupted: list[InterruptedRun] = field(default_factory=list)
    failed: list[FinishedRun] = field(default_factory=list)
    done: list[FinishedRun] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """A message a file that could not be read."""


class RunIndex:
    """Looks for runs, again and again.

    Args:
        cache: where runs under way leave heartbeats.
        folders: of results; those that runs under way write to are looked into as well.
        jobs: folder of job folders, whose tasks are looked at; None: none.
    """

    def __init__(self, cache: Path, folders: Sequence[Path], jobs: Path | None = None) -> None:
        self.cache, self.jobs = cache, jobs
        self._caches = [cache]
        self._keys: dict[str, str] = {}
        self._queue: tasks.QueueStates | None = None
        self._asked = -math.inf
        self._folders: dict[Path, _Folder] = {}
        for folder in folders:
            self._add(folder)

    def _add(self, folder: Path) -> None:
        if not any(folder.absolute().is_relative_to(other) for other in self._folders):
            self._folders[folder.absolute()] = _Folder(folder)

    def look(self) -> RunOverview:
        """What there is now."""
        problems: list[str] = []
        running: dict[str, Heartbeat] = {}
        left: dict[str, Heartbeat] = {}
        folders = job_folders(self.jobs) if self.jobs is not None else []
        for folder in folders:
            self._add(folder.description.options.out)
        self._caches = list(dict.fromkeys([self.cache, *(folder.description.cache for folder in folders)]))
        for path in (path for cache in self._caches for path in cache.glob(f"runs/*/{FILE}")):
            try:
                heartbeat = Heartbeat.model_validate_json(path.read_bytes())
            except FileNotFoundError:  # it has just ended
                continue
            except (OSError, ValidationError):
                problems.append(f"not a valid heartbeat: {path}")
                continue
            (running if _alive(heartbeat, path) else left)[heartbeat.run_id] = heartbeat
        for heartbeat in running.values():
            self._add(heartbeat.folder)
        ended: dict[str, FinishedRun] = {}
        for one in (one for folder in self._folders.values() for one in folder.results()):
            if isinstance(one, str):
                problems.append(one)
            elif one.run_id not in ended or one.at > ended[one.run_id].at:
                ended[one.run_id] = one
        found = self._sorted(running, left, ended, problems)
        return self._with_tasks(found, folders) if folders else found

    def _with_tasks(self, found: RunOverview, folders: Sequence[JobFolder]) -> RunOverview:
        """Add what schedulers have not begun or have lost; it takes the place of an earlier attempt."""
        waiting: list[WaitingRun] = []
        failed = list(found.failed)
        over: dict[str, datetime] = {}
        running = {self._key(beat.config) for beat in found.running}
        ended: dict[str, datetime] = {}
        for one in (*found.done, *found.failed):
            key = self._key(one.config)
            ended[key] = max(one.at, ended.get(key, _LONG_AGO))
        if time.monotonic() - self._asked > BETWEEN_QUESTIONS:
            self._queue, self._asked = tasks.queue_states(), time.monotonic()
        for task in tasks.task_states(folders, self._queue):
            if task.key in running or ended.get(task.key, _LONG_AGO) > task.job.description.created:
                continue
            if task.kind in ("waiting", "running"):
                waiting.append(WaitingRun(task.config, task.at, task.words))
            elif task.kind == "lost" or task.words:
                failed.append(_failed_task(task))
            over[task.key] = task.job.description.created
        failed = [one for one in failed if not one.run_id or over.get(self._key(one.config), _LONG_AGO) <= one.at]
        failed.sort(key=lambda one: one.at, reverse=True)
        interrupted = [one for one in found.interrupted if self._key(one.config) not in over]
        waiting.sort(key=lambda one: one.at, reverse=True)
        return replace(found, waiting=waiting, failed=failed, interrupted=interrupted)

    def _key(self, config: RunConfig) -> str:
        if not isinstance(config.recipe, Recipe):  # was not trained by ltbench
            return ""
        text = config.model_dump_json()
        if text not in self._keys:
            self._keys[text] = settings_key(config)
        return self._keys[text]

    def _sorted(
        self,
        running: dict[str, Heartbeat],
        left: dict[str, Heartbeat],
        ended: dict[str, FinishedRun],
        problems: list[str],
    ) -> RunOverview:
        stopped: dict[str, InterruptedRun] = {}
        for name, one in ended.items():
            if one.status == "interrupted":
                stopped[name] = InterruptedRun(one.config, one.at, None, self._saved(name))
        for name, beat in left.items():
            if name not in ended or ended[name].status == "interrupted" or ended[name].at < beat.seen:
                stopped[name] = InterruptedRun(beat.config, beat.seen, beat.fraction, self._saved(name))
        over = [one for name, one in ended.items() if name not in stopped and name not in running]
        over.sort(key=lambda one: one.at, reverse=True)
        return RunOverview(
            [],
            sorted(running.values(), key=lambda beat: beat.began, reverse=True),
            sorted((one for name, one in stopped.items() if name not in running), key=lambda one: one.at, reverse=True),
            [one for one in over if one.status == "failed"],
            [one for one in over if one.status in ("done", "pruned")],
            problems,
        )

    def _saved(self, run_id: str) -> bool:
        return any((cache / "runs" / run_id / "checkpoint.pt").exists() for cache in self._caches)


_LONG_AGO = datetime.min.replace(tzinfo=UTC)


def _failed_task(task: TaskStatus) -> FinishedRun:
    """A task that a scheduler has lost, or that has failed without a result."""
    return FinishedRun("", task.config, task.at, "failed", task.words, None, None, None, False)


def _alive(heartbeat: Heartbeat, path: Path) -> bool:
    if heartbeat.host != socket.gethostname():
        return (datetime.now(UTC) - heartbeat.seen).total_seconds() < RUN_LOST_AFTER
    return is_held(path.with_name("lock"))  # unlike the process id, which another process may have by now


class _Folder:
    """A folder of results and those below it; only what has changed since it was last asked is looked at."""

    def __init__(self, path: Path, above: frozenset[tuple[int, int]] = frozenset()) -> None:
        self.path = path
        self._above = above
        """Device and number of the folders that it is in: a link that leads back to one is not followed."""
        self._changed = 0
        self._below: dict[str, _Folder] = {}
        self._stamps: dict[str, int] = {}
        self._results: dict[str, FinishedRun | str] = {}
        self._problem: str | None = None

    def results(self) -> Iterator[FinishedRun | str]:
        """Each result, or a message where a file is damaged or no result."""
        self._refresh()
        yield from [self._problem] if self._problem else []
        yield from self._results.values()
        for folder in self._below.values():
            yield from folder.results()

    def _refresh(self) -> None:
        """A result is written beside its place and moved there, so its folder changes with it."""
        problem = None
        try:
            about = self.path.stat()
            changed, itself = about.st_mtime_ns, (about.st_dev, about.st_ino)
            if changed == self._changed:
                return
            there = [] if itself in self._above else list(self.path.iterdir())
        except FileNotFoundError:  # not yet
            there, changed, itself = [], 0, (0, 0)
        except OSError as error:
            there, changed, itself = [], 0, (0, 0)
            problem = str(LtbenchError(f"cannot read the folder: {error.strerror}", where=self.path))
        stamps = {path.name: stamp for path in there if _is_result(path) and (stamp := _stamp(path)) is not None}
        self._changed = changed if time.time_ns() - changed > SETTLED * 1e9 else 0
        folders = [path.name for path in there if path.is_dir()]
        above = self._above | {itself}
        self._below = {name: self._below.get(name) or _Folder(self.path / name, above) for name in folders}
        self._problem = problem
        self._results = {
            name: self._results[name] if self._stamps.get(name) == stamp else _summary(self.path / name)
            for name, stamp in stamps.items()
        }
        self._stamps = stamps


def _is_result(path: Path) -> bool:
    return path.name.endswith(".json") and not path.name.startswith(".")


def _stamp(path: Path) -> int | None:
    """When a file was last written; 0 for a link that leads nowhere, None for a file that has gone meanwhile."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0 if path.is_symlink() else None


def _summary(path: Path) -> FinishedRun | str:
    try:
        result = read(path)
    except LtbenchError as error:
        return str(error)
    metrics = result.test or result.metrics.get("validation")
    return FinishedRun(
        run_id=result.run_id,
        config=result.config,
        at=_end(result, path),
        status=result.status,
        reason=result.reason,
        top1=metrics.top1 if metrics else None,
        ece=metrics.ece if metrics else None,
        seconds=result.cost.training_seconds if result.cost else None,
        validation=result.test is None,
    )


def _end(result: Result, path: Path) -> datetime:
    """When the run ended; where the result has no word of it, when it was stored."""
    try:
        return datetime.fromisoformat(result.provenance["finished"]).astimezone(UTC)
    except (KeyError, TypeError, ValueError, OverflowError):
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)
