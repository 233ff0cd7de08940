"""The tasks of job folders: waiting, running or ended, from the files that they share and from SLURM's queue."""

import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Literal

from ltbench.config import RunConfig, canonical_json
from ltbench.errors import LtbenchError
from ltbench.runs.launchers.job_folder import JobFolder, TaskState
from ltbench.runs.resolve import resolve
from ltbench.runs.suite import described_key, settings_key

TASK_LOST_AFTER = 120.0
"""Seconds without a sign of life after which a task is taken for dead where its queue cannot be asked."""
QueueStates = Mapping[str, tuple[str, str]]
"""Id of a job in the queue, e.g. "17_3" -> its state and the reason why it waits."""


@dataclass(frozen=True)
class TaskStatus:
    """How a task is."""

    job: JobFolder
    number: int
    config: RunConfig
    """The settings, filled in but for weights; as described where its method or recipe is not known here."""
    key: str
    """Its settings; see ``ltbench.runs.suite``."""
    kind: Literal["waiting", "running", "ended", "lost"]
    """Lost: no process carries it out, and none will, though it has not ended."""
    words: str
    """What it waits for, or why it was lost or has failed."""
    at: datetime
    """When it was last seen, or its job was made."""
    run: str
    """What tells its run from others: see ``described_run``."""
    submitted: bool
    """Whether it is known to be in a queue or to have begun, unlike that of a script that nobody may have submitted."""


def task_states(jobs: Iterable[JobFolder], queue: QueueStates | None) -> Iterator[TaskStatus]:
    """Every task of some jobs; what a later job has taken up again is left out of the earlier ones.

    Args:
        jobs: the oldest first.
        queue: what ``queue_states`` gives.
    """
    latest: dict[str, TaskStatus] = {}
    for job in jobs:
        ids = _queue_ids(job)
        for number, described in enumerate(_described(job.path, job.description.created)):
            found = _status(job, number, described, ids.get(number), queue)
            earlier = latest.get(found.run)
            # A script that nobody may have submitted takes no place of what is under way.
            if earlier is None or found.submitted or not (earlier.submitted and earlier.kind in ("waiting", "running")):
                latest[found.run] = found
    yield from latest.values()


def described_run(config: RunConfig, out: Path, data_dir: Path) -> str:
    """Text that tells a task's run from others before it has a run id: its settings as described, and its folders.

    Args:
        config: as described.
        out: folder of results.
        data_dir: folder of data sets.
    """
    try:
        key = described_key(config)
    except LtbenchError:
        key = ""
    as_written = config.model_dump(mode="json", include={"weights", "labels", "label_columns", "image_size"})
    return canonical_json([key or config.model_dump(mode="json"), as_written, str(out), str(data_dir)])


def queue_states() -> QueueStates | None:
    """The user's jobs in SLURM's queue; None where there is none, or it does not answer."""
    if shutil.which("squeue") is None:
        return None
    words = ["squeue", "--me", "--noheader", "--array", "--states=all", "--format=%i|%T|%r"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    rows = [line.strip().split("|") for line in done.stdout.splitlines() if line.count("|") >= 2]
    return {row[0]: (row[1], row[2]) for row in rows}


@lru_cache(maxsize=64)
def _described(path: Path, created: datetime) -> list[tuple[RunConfig, str, str]]:
    """``config``, ``key`` and ``run`` of ``TaskStatus`` for each task of a job; a job's settings do not change."""
    description, found = JobFolder(path).description, []
    for config in (_in_folder(one, description.folder) for one in description.tasks):
        run = described_run(config, description.options.out, description.options.data_dir)
        try:
            resolved = resolve(config, find_weights=False).config
            found.append((resolved, settings_key(resolved), run))
        except LtbenchError:  # its method or recipe is in a file that is not known here
            found.append((config, canonical_json(config.model_dump(mode="json")), run))
    return found


def _in_folder(config: RunConfig, folder: Path) -> RunConfig:
    """A run as described, with a recipe file as its tasks find it."""
    if isinstance(config.recipe, str) and config.recipe.endswith(".toml"):
        return config.replace(recipe=str(folder / config.recipe))
    return config


def _queue_ids(job: JobFolder) -> dict[int, str]:
    """The id of each task in the queue, as far as known."""
    found = {}
    for array in job.arrays:
        for position, number in enumerate(array.tasks):
            found[number] = f"{array.scheduler_id}_{position}" if len(array.tasks) > 1 else array.scheduler_id
    return found


_QUEUED = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD")
_ACTIVE = ("RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING")
_WHY = {
    "CANCELLED": "it was cancelled",
    "TIMEOUT": "its time was over before it could be requeued",
    "OUT_OF_MEMORY": "out of memory",
    "NODE_FAIL": "its node failed",
    "FAILED": "its process has died",
    "PREEMPTED": "a job of higher priority took its node",
}


def _status(
    job: JobFolder, number: int, described: tuple[RunConfig, str, str], queue_id: str | None, queue: QueueStates | None
) -> TaskStatus:
    config, key, run = described
    state = job.state(number)
    at = job.description.created if state is None else state.seen

    def status(kind: Literal["waiting", "running", "ended", "lost"], words: str = "") -> TaskStatus:
        return TaskStatus(job, number, config, key, kind, words, at, run, submitted=bool(state or queue_id))

    if state is not None and state.state in ("done", "failed", "interrupted"):
        return status("ended", state.reason or "")
    queue_id = queue_id or (state.scheduler_job if state is not None else None)
    queued = queue.get(queue_id) if queue is not None and queue_id is not None else None
    if queued is not None and queued[0] in _QUEUED:
        why = "" if queued[1] in ("None", "") else f": {queued[1]}"
        return status("waiting", f"{'requeued' if state else 'queued'} as {queue_id}{why}")
    if queued is not None and queued[0] in _ACTIVE:
        return status("running", f"on {state.host}" if state else f"starts as {queue_id}")
    if queue is not None and queue_id is not None:
        why = _WHY.get(queued[0], f"SLURM says {queued[0]}") if queued else "it is in no queue any more"
        return status("lost", f"{why}; see {job.log_file(number)}" if state else why)
    return _by_its_files(status, state, at, number, job)


def _by_its_files(
    status: Callable[..., TaskStatus], state: TaskState | None, at: datetime, number: int, job: JobFolder
) -> TaskStatus:
    """The status where no queue can be asked."""
    if state is None:
        return status("waiting", "not begun")
    if state.state == "requeued":
        return status("waiting", "requeued")
    quiet = (datetime.now(UTC) - at).total_seconds()
    if quiet > TASK_LOST_AFTER:
        return status("lost", f"no sign of life from {state.host}; see {job.log_file(number)}")
    return status("running", f"on {state.host}")
