"""The worker processes of a sweep, as their parent sees them."""

import multiprocessing
import os
import signal
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ltbench import registry
from ltbench.config import RunConfig
from ltbench.data.loading.from_files import cores
from ltbench.errors import LtbenchError
from ltbench.progress import LOADING, ProgressUpdate, silent
from ltbench.results.schema import Result
from ltbench.runs.launchers.worker import AssignedRun, work_through
from ltbench.runs.options import RunOptions

if TYPE_CHECKING:
    from ltbench.runs.pruning import Pruning

LIVENESS_CHECK = 1.0
"""Seconds of silence after which it is checked whether all workers live."""


@dataclass(eq=False)
class Worker:
    """A worker process and the run that it carries out."""

    process: BaseProcess
    pipe: Connection
    gpu: str | None = None
    """The device that it sees alone; None: all of them."""
    assigned: AssignedRun | None = None
    up: bool = False
    """Whether it has got through its imports."""

    def send(self, assigned: AssignedRun | None) -> None:
        """Give it a run; None asks it to stop."""
        with suppress(OSError):  # it has died: receive() will tell
            self.pipe.send(assigned)

    def receive(self) -> tuple[str, Any]:
        """The kind and the content of its next message; "died" if it can send none."""
        try:
            if self.pipe.poll():
                kind, content = self.pipe.recv()
                return kind, content
        except (EOFError, OSError):
            pass
        return "died", None

    def cause_of_death(self) -> str:
        """Why its process is gone, in words."""
        code = self.process.exitcode or 0
        if code >= 0:
            return f"its process ended with exit code {code}"
        return f"its process was killed by signal {-code}{' (out of memory?)' if code == -9 else ''}"


class WorkerPool:
    """Processes that carry out runs. Leaving the context stops what is under way and ends them all.

    Args:
        count: how many at once, at most.
        options: where and how.
        gpus: the devices among which they are shared out, as CUDA_VISIBLE_DEVICES names them; each process sees one.
            None: each sees all.
    """

    def __init__(self, count: int, options: RunOptions, gpus: Sequence[str] = ()) -> None:
        self.count, self.listener, self.gpus = count, options.listener, gpus
        self.options = replace(options, listener=silent)  # a closure cannot be sent
        self.workers: list[Worker] = []

    def __enter__(self) -> "WorkerPool":
        return self

    @property
    def free(self) -> int:
        """How many runs can be started now."""
        return self.count - sum(worker.assigned is not None for worker in self.workers)

    def start(self, position: int, config: RunConfig, pruning: "Pruning | None" = None) -> None:
        """Have a run carried out, which ``pruning`` may end early."""
        self.listener(ProgressUpdate(LOADING, 0.0, run=position))
        self._start(AssignedRun(position, config, pruning=pruning))

    def _start(self, assigned: AssignedRun) -> None:
        idle = [worker for worker in self.workers if worker.assigned is None]
        worker = idle[0] if idle else self._new_worker()
        worker.assigned = assigned
        worker.send(assigned)

    def _new_worker(self) -> Worker:
        threads = max(1, cores() // self.count)
        pipe, theirs = multiprocessing.Pipe()
        process = multiprocessing.get_context("spawn").Process(
            target=work_through, args=(theirs, self.options, threads, registry.method_files()), name="ltbench run"
        )
        gpu = self._emptiest_gpu()
        with _start_conditions(threads, gpu):
            process.start()
        theirs.close()  # so that the pipe breaks when the worker dies
        self.workers.append(Worker(process, pipe, gpu))
        return self.workers[-1]

    def _emptiest_gpu(self) -> str | None:
        """The device that the fewest workers have, the first of several."""
        taken = [worker.gpu for worker in self.workers]
        return min(self.gpus, key=taken.count, default=None)

    def next_result(self) -> tuple[int, Result | LtbenchError, bool]:
        """Wait for the next run to end: its position, the result or why it was refused, and whether it was stored."""
        while True:
            for worker in wait_for_messages(self.workers):
                kind, content = worker.receive()
                if kind == "died":
                    self._replace(worker)
                elif kind == "up":
                    worker.up = True
                elif kind == "note":
                    message, category = content
                    warnings.warn(message, category, stacklevel=2)
                elif kind == "error" and not isinstance(content, LtbenchError):
                    raise content
                elif worker.assigned is not None and kind == "error":
                    position, worker.assigned = worker.assigned.position, None
                    self.listener(ProgressUpdate("", 1.0, run=position))
                    return position, content, False
                elif worker.assigned is not None and kind == "progress":
                    self.listener(replace(content, run=worker.assigned.position))
                elif worker.assigned is not None and kind == "result":
                    position, worker.assigned = worker.assigned.position, None
                    self.listener(ProgressUpdate("", 1.0, run=position))
                    return position, *content

    def _replace(self, dead: Worker) -> None:
        """Have the run of a dead worker recorded as failed, by another worker: it takes loading the data."""
        self.workers.remove(dead)
        dead.process.join()
        dead.pipe.close()
        if dead.assigned is None:
            return
        reason = dead.cause_of_death()
        if dead.assigned.lost is not None:
            config = dead.assigned.config
            raise LtbenchError(
                f"the {config.method} run with seed {config.seed} died twice: {reason}",
                where="--parallel",
                hint="run fewer at once; runs that were stopped go on from their last checkpoint",
            )
        self._start(replace(dead.assigned, lost=reason))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            busy = [worker for worker in self.workers if worker.assigned is not None and worker.up]
            for worker in busy:
                worker.send(None)
            while busy:  # reading on, because a worker that cannot send cannot stop
                for worker in wait_for_messages(busy):
                    if worker.receive()[0] in ("stopped", "died"):
                        busy.remove(worker)
        finally:  # nothing to lose in the others; and a second Ctrl-C comes here at once
            for worker in self.workers:
                worker.process.kill()
            for worker in self.workers:
                worker.process.join()
                worker.pipe.close()


def wait_for_messages(workers: Sequence[Worker]) -> list[Worker]:
    """Wait for workers that have something to say or have died."""
    pipes: dict[Any, Worker] = {worker.pipe: worker for worker in workers}
    ready = {pipes[pipe] for pipe in wait(list(pipes), LIVENESS_CHECK)}
    # The pipe of a dead one stays open if it has left a process behind.
    return [worker for worker in workers if worker in ready or worker.process.exitcode is not None]


@contextmanager
def _start_conditions(threads: int, gpu: str | None = None) -> Iterator[None]:
    """The environment in which a worker starts: blocked signals, and its threads and GPU before it imports torch."""
    resource_tracker.ensure_running()  # its start, which would come inside, unblocks the signals
    wanted = {"OMP_NUM_THREADS": str(threads), **({"CUDA_VISIBLE_DEVICES": gpu} if gpu is not None else {})}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    if hasattr(signal, "pthread_sigmask"):
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
