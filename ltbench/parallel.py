"""Several runs at once on one device: worker processes, and which run waits for which.

Each worker is a process of its own that carries out one run after the other. It obeys its parent alone, through a
pipe: signals to stop are blocked in it, because a terminal sends Ctrl-C to the parent and to all workers, and
training takes a second signal for "at once". The parent passes on one request; a worker then saves its checkpoint and
stores the run as interrupted. When the pipe breaks, the parent is gone, and the worker stops likewise.
"""

import multiprocessing
import os
import queue
import signal
import threading
import time
import traceback
import warnings
from _thread import interrupt_main
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import islice
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from ltbench import registry
from ltbench.config import RunConfig, canonical_json
from ltbench.data.streaming import cores
from ltbench.errors import LtbenchError, LtbenchWarning
from ltbench.experiment import Surroundings, record_failure, resolve, run_or_recall
from ltbench.store import Result

RunWatch = Callable[[int, float, str], None]
"""Called with a run's position in the list, the share of it that is done and a few words; no words: it has ended."""

GRACE = 5.0
"""Seconds that a worker has for saving when its parent is gone."""
LOOK_AROUND = 1.0
"""Seconds of silence after which it is checked whether all workers live."""
BETWEEN_REPORTS = 0.1
"""Seconds between two reports of progress."""


def run_parallel(
    configs: Sequence[RunConfig],
    around: Surroundings,
    workers: int,
    take: Callable[[int, Result | LtbenchError, bool], None],
    watch: RunWatch,
) -> None:
    """Carry out runs in several processes, each after the runs that it starts from.

    A run that fails does not stop the others, nor does one whose process dies: it is stored as failed.

    Args:
        configs: what to run.
        around: folders, device and the like; its ``watch`` is not called.
        workers: how many runs at once; each computes with its share of the cores.
        take: called with the position of every run that has ended, its result or the error for which it was refused,
            and whether the result was stored already. If it raises, the other runs are stopped and stored as
            interrupted.
        watch: told of progress.

    Raises:
        LtbenchError: if a run has died twice; the other runs are stopped and stored as interrupted.
        KeyboardInterrupt: passed on, once the runs are stopped and stored as interrupted.
    """
    predecessors = _predecessors(configs)
    waiting = list(range(len(configs)))
    ended: set[int] = set()
    with _Workers(workers, around, watch) as pool:
        while len(ended) < len(configs):
            ready = [position for position in waiting if predecessors[position] <= ended]
            for position in ready[: pool.free]:
                waiting.remove(position)
                pool.start(position, configs[position])
            position, result, recalled = pool.next_result()
            ended.add(position)
            take(position, result, recalled)


def run_in_order(configs: Iterable[RunConfig], around: Surroundings, workers: int, watch: RunWatch) -> Iterator[Result]:
    """Carry out runs in several processes and give their results in the order of ``configs``.

    The n-th setting is asked for when all but ``workers - 1`` results before it have been given, however long each run
    takes: so what is asked for may depend on results, and is the same every time.

    Args:
        configs: what to run.
        around: as for ``run_parallel``.
        workers: how many runs at once.
        watch: told of progress.

    Raises:
        LtbenchError: for a run that is refused or has died twice; the others are stopped and stored as interrupted.
        KeyboardInterrupt: as ``run_parallel``.
    """
    source = iter(configs)
    ended: dict[int, Result] = {}
    first = last = 0  # of the runs that were started and not given
    with _Workers(workers, around, watch) as pool:
        while True:
            for config in islice(source, workers - (last - first)):
                pool.start(last, config)
                last += 1
            if first == last:
                return
            while first not in ended:
                position, result, _ = pool.next_result()
                if isinstance(result, LtbenchError):
                    raise result
                ended[position] = result
            yield ended.pop(first)
            first += 1


def _predecessors(configs: Sequence[RunConfig]) -> list[set[int]]:
    """For every run those that must end before it: the ones it starts from, and the same run further up."""
    resolved = [resolve(config) for config in configs]
    names = [_name(config) for config in resolved]
    found = []
    for position, config in enumerate(resolved):
        try:
            with warnings.catch_warnings(action="ignore", category=LtbenchWarning):  # the run will say it
                used = _used(config)
        except KeyboardInterrupt:
            raise
        except BaseException:  # a fault in a method is the run's own, and will come up there
            used = set()
        same = {other for other in range(position) if names[other] == names[position]}
        found.append(same | {other for other, name in enumerate(names) if name in used})
    return found


def _used(config: RunConfig) -> set[str]:
    """The runs that a run starts from, and those that they start from."""
    found: set[str] = set()
    for one in registry.method(config.method).uses(config).values():
        other = resolve(one)
        found |= {_name(other), *_used(other)}
    return found


def _name(resolved: RunConfig) -> str:
    return canonical_json(resolved.model_dump(mode="json"))


@dataclass(frozen=True)
class _Job:
    position: int
    config: RunConfig
    lost: str | None = None
    """How the process died that had it before: the run is only recorded as failed, for this reason."""


@dataclass(eq=False)
class _Worker:
    process: BaseProcess
    pipe: Connection
    job: _Job | None = None
    up: bool = False
    """Whether it has got through its imports."""

    def send(self, job: _Job | None) -> None:
        with suppress(OSError):  # it has died: receive() will tell
            self.pipe.send(job)

    def receive(self) -> tuple[str, Any]:
        try:
            if self.pipe.poll():
                kind, content = self.pipe.recv()
                return kind, content
        except (EOFError, OSError):
            pass
        return "died", None

    def how_it_died(self) -> str:
        code = self.process.exitcode or 0
        if code >= 0:
            return f"its process ended with exit code {code}"
        return f"its process was killed by signal {-code}{' (out of memory?)' if code == -9 else ''}"


class _Workers:
    """Processes that carry out runs. Leaving the context stops what is under way and ends them all."""

    def __init__(self, count: int, around: Surroundings, watch: RunWatch) -> None:
        self.count, self.watch = count, watch
        self.around = replace(around, watch=_silent)  # a closure cannot be sent
        self.workers: list[_Worker] = []

    def __enter__(self) -> "_Workers":
        return self

    @property
    def free(self) -> int:
        """How many runs can be started now."""
        return self.count - sum(worker.job is not None for worker in self.workers)

    def start(self, position: int, config: RunConfig) -> None:
        """Have a run carried out."""
        self._start(_Job(position, config))

    def _start(self, job: _Job) -> None:
        idle = [worker for worker in self.workers if worker.job is None]
        worker = idle[0] if idle else self._new_worker()
        worker.job = job
        worker.send(job)

    def _new_worker(self) -> _Worker:
        threads = max(1, cores() // self.count)
        pipe, theirs = multiprocessing.Pipe()
        process = multiprocessing.get_context("spawn").Process(
            target=_work, args=(theirs, self.around, threads, registry.method_files()), name="ltbench run"
        )
        with _inherited(threads):
            process.start()
        theirs.close()  # so that the pipe breaks when the worker dies
        self.workers.append(_Worker(process, pipe))
        return self.workers[-1]

    def next_result(self) -> tuple[int, Result | LtbenchError, bool]:
        """Wait for the next run to end: its position, the result or why it was refused, and whether it was stored."""
        while True:
            for worker in _heard(self.workers):
                kind, content = worker.receive()
                if kind == "died":
                    self._replace(worker)
                elif kind == "up":
                    worker.up = True
                elif kind == "note":
                    warnings.warn(content, LtbenchWarning, stacklevel=2)
                elif kind == "error" and not isinstance(content, LtbenchError):
                    raise content
                elif worker.job is not None and kind == "error":
                    position, worker.job = worker.job.position, None
                    return position, content, False
                elif worker.job is not None and kind == "progress":
                    self.watch(worker.job.position, *content)
                elif worker.job is not None and kind == "result":
                    position, worker.job = worker.job.position, None
                    self.watch(position, 1.0, "")
                    return position, *content

    def _replace(self, dead: _Worker) -> None:
        """Have the run of a dead worker recorded as failed, by another worker: it takes loading the data."""
        self.workers.remove(dead)
        dead.process.join()
        dead.pipe.close()
        if dead.job is None:
            return
        reason = dead.how_it_died()
        if dead.job.lost is not None:
            config = dead.job.config
            raise LtbenchError(
                f"the {config.method} run with seed {config.seed} died twice: {reason}",
                where="--parallel",
                hint="run fewer at once; runs that were stopped go on from their last checkpoint",
            )
        self._start(replace(dead.job, lost=reason))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            busy = [worker for worker in self.workers if worker.job is not None and worker.up]
            for worker in busy:
                worker.send(None)
            while busy:  # reading on, because a worker that cannot send cannot stop
                for worker in _heard(busy):
                    if worker.receive()[0] in ("stopped", "died"):
                        busy.remove(worker)
        finally:  # nothing to lose in the others; and a second Ctrl-C comes here at once
            for worker in self.workers:
                worker.process.kill()
            for worker in self.workers:
                worker.process.join()
                worker.pipe.close()


def _heard(workers: Sequence[_Worker]) -> list[_Worker]:
    """Wait for workers that have something to say or have died."""
    pipes: dict[Any, _Worker] = {worker.pipe: worker for worker in workers}
    ready = {pipes[pipe] for pipe in wait(list(pipes), LOOK_AROUND)}
    # The pipe of a dead one stays open if it has left a process behind.
    return [worker for worker in workers if worker in ready or worker.process.exitcode is not None]


def _silent(share: float, words: str) -> None:
    pass


@contextmanager
def _inherited(threads: int) -> Iterator[None]:
    """Surroundings for the start of a worker: blocked signals, and the number of threads before it imports torch."""
    resource_tracker.ensure_running()  # its start, which would come inside, unblocks the signals
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if hasattr(signal, "pthread_sigmask"):
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before


# The other side: what follows runs in the worker process.


def _work(pipe: Connection, around: Surroundings, threads: int, method_files: Sequence[Path]) -> None:
    """Carry out jobs from the pipe, one after the other, until asked to stop."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have had it ignored
    torch.set_num_threads(threads)
    jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(pipe, jobs), daemon=True).start()
    warnings.showwarning = _show_warning(pipe, warnings.showwarning)
    workers = threads if around.workers is None else around.workers
    around = replace(around, watch=_report_progress(pipe), workers=workers)
    with suppress(KeyboardInterrupt):
        _send(pipe, "up")
        while (job := jobs.get()) is not None:
            _send(pipe, *_carried_out(job, around, method_files))
    _send(pipe, "stopped")  # the parent need not wait for the interpreter to clean up


def _listen(pipe: Connection, jobs: "queue.SimpleQueue[_Job | None]") -> None:
    """Take jobs and requests to stop from the parent; stop when it is gone."""
    with suppress(EOFError, OSError):
        while True:
            job = pipe.recv()
            jobs.put(job)  # None ends a worker that has just become idle, which an interrupt would not wake
            if job is None:
                interrupt_main(signal.SIGINT)
    jobs.put(None)
    interrupt_main(signal.SIGINT)
    time.sleep(GRACE)
    os._exit(1)


def _carried_out(job: _Job, around: Surroundings, method_files: Sequence[Path]) -> tuple[str, Any]:
    try:
        for file in method_files:
            registry.add_method_file(file)
        if job.lost is not None:
            return "result", (record_failure(job.config, around, job.lost), False)
        return "result", run_or_recall(job.config, around)
    except LtbenchError as error:
        return "error", error
    except KeyboardInterrupt:
        raise
    except BaseException:  # a fault of ours: not every exception can be sent, its traceback can
        return "error", RuntimeError(f"in a worker process:\n{traceback.format_exc()}")


def _send(pipe: Connection, kind: str, content: Any = None) -> None:
    with suppress(OSError):  # the parent is gone: _listen() knows
        pipe.send((kind, content))


def _report_progress(pipe: Connection) -> Callable[[float, str], None]:
    reported = 0.0

    def watch(share: float, words: str) -> None:
        nonlocal reported
        now = time.monotonic()
        if now - reported >= BETWEEN_REPORTS:
            reported = now
            _send(pipe, "progress", (share, words))

    return watch


def _show_warning(pipe: Connection, others: Callable[..., None]) -> Callable[..., None]:
    def show_one(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
        if issubclass(category, LtbenchWarning):
            _send(pipe, "note", str(message))
        else:
            others(message, category, *rest, **more)

    return show_one
