"""One task of a job folder: ``ltbench run`` in a process of its own, watched by another that survives it.

The watcher imports no torch. It writes the task's state, passes on the scheduler's request to stop, and stores a run as
failed whose process was killed. A run that stops keeps its checkpoint, so that a requeued task resumes exactly.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from ltbench import registry
from ltbench.errors import LtbenchError, LtbenchWarning
from ltbench.runs.launchers.job_folder import JobFolder, State, TaskOptions, TaskState
from ltbench.runs.run_list import expand, read_runs

STATE_INTERVAL = 10.0
"""Seconds between two signs of life in a task's state."""
SAVE_TIMEOUT = 90.0
"""Seconds that a run has for saving once it is asked to stop; then its last checkpoint must do."""
INTERRUPTED = 130
"""Exit code of a run that was stopped."""
_IGNORED = ("SIGUSR1", "SIGUSR2")
"""Signals for the watcher alone, which a scheduler may send to every process of a task."""


class Task:
    """A task that is carried out by this process.

    Args:
        folder: of the job.
        number: of the task.
    """

    def __init__(self, folder: JobFolder, number: int) -> None:
        self.folder, self.number = folder, number
        self.settings = folder.settings_file(number)
        self._child: subprocess.Popen[bytes] | None = None
        self._requeue = self._asked_to_stop = False
        before = folder.state(number)
        now = datetime.now(UTC)
        self._state = TaskState(
            state="running",
            scheduler_job=scheduler_job(),
            attempt=before.attempt + 1 if before else 1,
            began=now,
            seen=now,
        )

    @property
    def attempt(self) -> int:
        """How often the task has been begun, this time included."""
        return self._state.attempt

    def carry_out(self) -> TaskState:
        """Start the run, wait for it, and note how it ended.

        Returns:
            The last state; "requeued" if the run was stopped to go on later.
        """
        log = self.folder.log_file(self.number)
        begin = log.stat().st_size if log.exists() else 0
        self._note("running")
        try:
            with log.open("ab") as stream, _blocked(_IGNORED):
                self._child = self._start(stream)
            code = self._wait(self._child)
        except subprocess.CalledProcessError:  # SLURM has ended us while we asked it to requeue the task
            raise
        except Exception as error:  # of the scheduler, in a handler of its signals
            self._end_child()
            self._note("failed", str(error))
            raise
        if code == 0:
            return self._note("done")
        if code in (INTERRUPTED, -signal.SIGTERM, -signal.SIGINT):  # the latter: before it listened to them
            return self._interrupted()
        if code < 0:
            return self._note("failed", self._record_death(-code))
        return self._note("failed", _reason(log, begin) or f"ltbench run ended with exit code {code}; see {log}")

    def _interrupted(self) -> TaskState:
        """The state of a task whose run was stopped, by this process or by the scheduler itself."""
        stopped = self._note("interrupted", "it was stopped")  # first: SLURM may end this process any moment
        if not self._requeue and not slurm_goes_on():
            return stopped
        limits = self.folder.description.max_requeues
        most = limits if isinstance(limits, int) else limits[self.number]
        if self.attempt > most:
            return self._note("failed", f"it was requeued {most} times and has not ended")
        return self._note("requeued")

    def stop(self, *, requeue: bool) -> None:
        """Have the run save its checkpoint and end; for a handler of a signal.

        Args:
            requeue: whether the task is to go on later.
        """
        self._requeue = self._requeue or requeue
        if self._child is not None and self._child.poll() is None:
            self._asked_to_stop = True
            self._child.terminate()

    def stop_and_requeue(self) -> None:
        """Stop the run, wait until it has ended, and note that the task waits again."""
        self.stop(requeue=True)
        self._end_child()
        self._note("requeued")

    def _start(self, log: IO[bytes]) -> "subprocess.Popen[bytes]":
        job = self.folder.description
        words = [sys.executable, "-m", "ltbench", "run", "--config", str(self.settings), *job.options.command_line()]
        environment = {**os.environ, "LTBENCH_CACHE": str(job.cache)}
        cpus = os.environ.get("SLURM_CPUS_PER_TASK")
        if cpus:
            environment.setdefault("OMP_NUM_THREADS", cpus)
        return subprocess.Popen(
            words, cwd=job.folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        )

    def _wait(self, child: "subprocess.Popen[bytes]") -> int:
        """Wait for the run, with a sign of life now and then."""
        while True:
            try:
                return child.wait(STATE_INTERVAL)
            except subprocess.TimeoutExpired:
                with suppress(LtbenchError):  # a disk that is full now does not end the run
                    self._note("running")

    def _end_child(self) -> None:
        """Wait for the run, which has been asked to stop or is now, and end it if it does not."""
        if self._child is None:
            return
        if not self._asked_to_stop:  # a second time would mean at once
            self.stop(requeue=False)
        try:
            self._child.wait(SAVE_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()

    def _note(self, state: State, reason: str | None = None) -> TaskState:
        now = datetime.now(UTC)
        self._state = self._state.model_copy(update={"state": state, "reason": reason, "seen": now})
        self.folder.write_state(self.number, self._state)
        return self._state

    def _record_death(self, number: int) -> str:
        """Store the run as failed whose process was killed; gives the reason."""
        reason = f"its process was killed by signal {number}{' (out of memory?)' if number == signal.SIGKILL else ''}"
        os.environ["LTBENCH_CACHE"] = str(self.folder.description.cache)
        record_death(self.settings, self.folder.description.options, reason)
        return reason


def record_death(settings: Path, options: TaskOptions, reason: str) -> None:
    """Store a run as failed.

    Args:
        settings: file with those of the run.
        options: of ``ltbench run``.
        reason: why it has failed.
    """
    from ltbench.runs.options import RunOptions  # these import torch
    from ltbench.runs.run import record_failure

    if options.methods_dir is not None:
        registry.add_methods_dir(options.methods_dir)
    [config] = expand(read_runs(settings)[0], {}, where=settings)
    try:
        record_failure(config, RunOptions(out=options.out, data_dir=options.data_dir, device=options.device), reason)
    except LtbenchError as error:
        warnings.warn(f"the run could not be stored as failed: {error}", LtbenchWarning, stacklevel=2)


def scheduler_job() -> str | None:
    """The id of this task in the scheduler's queue; None outside of one.

    ``SLURM_JOB_ID`` will not do for an array: the last task has the id of the array, which stands for all its tasks.
    """
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID")


def slurm_goes_on() -> bool:
    """Whether SLURM runs this job still: it has not been cancelled, and its time is not over.

    A run is then stopped because a job of higher priority needs the node, or because the node goes down.
    """
    job = scheduler_job()
    if job is None or shutil.which("scontrol") is None:
        return False
    about = subprocess.run(["scontrol", "show", "job", "--oneliner", job], capture_output=True, text=True)
    state = re.search(r"\bJobState=(\w+)", about.stdout)
    return state is not None and state[1] in ("RUNNING", "PREEMPTED")


def requeue() -> None:
    """Have SLURM begin this task anew, later; it ends this process for that, or that of ``scontrol`` first.

    Raises:
        LtbenchError: if SLURM refuses.
    """
    done = subprocess.run(["scontrol", "requeue", str(scheduler_job())], capture_output=True, text=True)
    if done.returncode > 0:
        raise LtbenchError(f"SLURM does not requeue the task: {done.stderr.strip()}", where=scheduler_job())


def _reason(log: Path, begin: int) -> str | None:
    """Why a run has failed, from what it has printed."""
    with log.open("rb") as stream:
        stream.seek(begin)
        text = stream.read().decode(errors="replace")
    failed = re.findall(r"seed \d+: failed: (.*)$", text, re.MULTILINE)
    if failed:
        return str(failed[-1])
    refused = re.findall(r"^ltbench: (?!note: )(.*)$", text, re.MULTILINE)
    return str(refused[-1]) if refused else None


@contextmanager
def _blocked(names: tuple[str, ...]) -> Iterator[None]:
    """Start a process to which some signals are not delivered; here they are when the context is left."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {getattr(signal, name) for name in names})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
