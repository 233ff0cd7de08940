"""A worker process: it carries out the runs that its parent sends through a pipe.

It obeys its parent alone: signals to stop are blocked in it, because a terminal sends Ctrl-C to the parent and to all
workers, and training takes a second signal for "at once". The parent passes on one request; a worker then saves its
checkpoint and stores the run as interrupted. When the pipe breaks, the parent is gone, and the worker stops likewise.
"""

import os
import queue
import signal
import threading
import time
import traceback
import warnings
from _thread import interrupt_main
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ltbench import registry
from ltbench.config import RunConfig
from ltbench.errors import LtbenchError, LtbenchNotice, LtbenchWarning
from ltbench.progress import ProgressListener, ProgressUpdate
from ltbench.runs.last_dataset import LastDataset
from ltbench.runs.options import RunOptions
from ltbench.runs.run import record_failure, run_or_recall

if TYPE_CHECKING:
    from ltbench.runs.pruning import Pruning

GRACE = 5.0
"""Seconds that a worker has for saving when its parent is gone."""


BETWEEN_REPORTS = 0.1
"""Seconds between two reports of progress."""


@dataclass(frozen=True)
class AssignedRun:
    """A run that a worker carries out, and its position in the sweep."""

    position: int
    config: RunConfig
    lost: str | None = None
    """How the process died that had it before: the run is only recorded as failed, for this reason."""
    pruning: "Pruning | None" = None
    """What may end it early, if it is a trial of a search."""


def work_through(pipe: Connection, options: RunOptions, threads: int, method_files: Sequence[Path]) -> None:
    """Carry out runs from the pipe, one after the other, until asked to stop."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have had it ignored
    torch.set_num_threads(threads)
    runs: queue.SimpleQueue[AssignedRun | None] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(pipe, runs), daemon=True).start()
    warnings.showwarning = _show_warning(pipe, warnings.showwarning)
    workers = threads if options.workers is None else options.workers
    options = replace(options, listener=_report_progress(pipe), workers=workers, last_dataset=LastDataset())
    with suppress(KeyboardInterrupt):
        _send(pipe, "up")
        while (assigned := runs.get()) is not None:
            _send(pipe, *carry_out(assigned, options, method_files))
    _send(pipe, "stopped")  # the parent need not wait for the interpreter to clean up


def _listen(pipe: Connection, runs: "queue.SimpleQueue[AssignedRun | None]") -> None:
    """Take runs and requests to stop from the parent; stop when it is gone."""
    with suppress(EOFError, OSError):
        while True:
            assigned = pipe.recv()
            runs.put(assigned)  # None ends a worker that has just become idle, which an interrupt would not wake
            if assigned is None:
                interrupt_main(signal.SIGINT)
    runs.put(None)
    interrupt_main(signal.SIGINT)
    time.sleep(GRACE)
    os._exit(1)


def carry_out(assigned: AssignedRun, options: RunOptions, method_files: Sequence[Path]) -> tuple[str, Any]:
    """Carry out a run: the kind of the message for the parent, and its content."""
    try:
        for file in method_files:
            registry.add_method_file(file)
        if assigned.lost is not None:
            return "result", (record_failure(assigned.config, options, assigned.lost), False)
        return "result", run_or_recall(assigned.config, replace(options, pruning=assigned.pruning))
    except LtbenchError as error:
        return "error", error
    except KeyboardInterrupt:
        raise
    except BaseException:  # a fault of ours: not every exception can be sent, its traceback can
        return "error", RuntimeError(f"in a worker process:\n{traceback.format_exc()}")


def _send(pipe: Connection, kind: str, content: Any = None) -> None:
    with suppress(OSError):  # the parent is gone: _listen() knows
        pipe.send((kind, content))


def _report_progress(pipe: Connection) -> ProgressListener:
    reported = 0.0

    def listener(update: ProgressUpdate) -> None:
        nonlocal reported
        now = time.monotonic()
        if now - reported >= BETWEEN_REPORTS:
            reported = now
            _send(pipe, "progress", replace(update, history=None))

    return listener


def _show_warning(pipe: Connection, others: Callable[..., None]) -> Callable[..., None]:
    def show_one(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
        if issubclass(category, LtbenchWarning | LtbenchNotice):
            _send(pipe, "note", (str(message), category))
        else:
            others(message, category, *rest, **more)

    return show_one
