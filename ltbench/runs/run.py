"""The spine: RunConfig -> resolve -> plan -> train -> evaluate -> Result."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import torch

from ltbench import registry
from ltbench.config import RunConfig
from ltbench.errors import LtbenchError, TrainingFailedError, first_line, out_of_memory
from ltbench.files.atomic import remove_abandoned
from ltbench.files.lock import exclusive
from ltbench.method import Method
from ltbench.progress import ProgressUpdate
from ltbench.results.schema import Result
from ltbench.results.store import Store
from ltbench.runs.evaluate import evaluate
from ltbench.runs.listeners import RunListeners
from ltbench.runs.options import RunOptions
from ltbench.runs.plan import PlannedRun, check_same_run, plan_run
from ltbench.runs.resolve import resolve
from ltbench.runs.result import BaseRuns, make_result
from ltbench.runs.stored import find_stored, save
from ltbench.runs.train import make_loaders, train
from ltbench.training.checkpoint import load_trained


def run(config: RunConfig, options: RunOptions | None = None) -> Result:
    """Train and evaluate one run, or return its stored result.

    Args:
        config: what to run; what it leaves out is filled in.
        options: folders, device and the like.

    Returns:
        The result, done or failed with a reason; it is stored as well.

    Raises:
        LtbenchError: for bad input or a bad environment; nothing is stored then.
        KeyboardInterrupt: passed on, once the run is stored as interrupted.
    """
    return run_or_recall(config, options)[0]


def run_or_recall(config: RunConfig, options: RunOptions | None = None) -> tuple[Result, bool]:
    """Like ``run``; also says whether the result was stored already."""
    options = options or RunOptions()
    planned = plan_run(resolve(config), options)
    check_same_run(planned, options)
    stored = _recall(planned, options)
    return (stored, True) if stored is not None else (_carry_out(planned, options), False)


def record_failure(config: RunConfig, options: RunOptions, reason: str) -> Result:
    """Store a run as failed whose process has died."""
    planned = plan_run(resolve(config), options)
    result = make_result(planned, options, "failed", datetime.now(UTC), reason=reason)
    Store(options.out).save(result)
    RunListeners(planned, options).heartbeat.stop()
    return result


def _recall(planned: PlannedRun, options: RunOptions) -> Result | None:
    """The stored result, as the main process finds it: machines need share no folder of results."""

    def found() -> Result | None:
        stored = find_stored(planned, options)
        if stored is not None:
            RunListeners(planned, options).recalled(stored)
        return stored

    return options.group.broadcast_object(found)


def _carry_out(planned: PlannedRun, options: RunOptions) -> Result:
    """Train, evaluate and store; waits for another process that trains this run, and takes its result."""
    started = datetime.now(UTC)
    method = _built(planned)
    listeners = RunListeners(planned, options)
    with _held(planned, options, listeners):
        stored = _recall(planned, options)
        if stored is not None:
            return stored
        with listeners:
            result = _new_result(planned, options, method, listeners, started)
            listeners.ended(result)
        return result


def _built(planned: PlannedRun) -> Method | BaseException:
    """The untrained method, or what went wrong in its own code; bad input is raised and leaves no trace."""
    try:
        return planned.build_method()
    except (LtbenchError, Warning, KeyboardInterrupt):
        raise
    except BaseException as error:  # SystemExit, too
        return error


@contextmanager
def _held(planned: PlannedRun, options: RunOptions, listeners: RunListeners) -> Iterator[None]:
    """Hold the run, on behalf of all processes that carry it out together."""
    if not options.group.is_main:
        yield
        return
    with exclusive(planned.folder / "lock", f"the {planned.config.method} run {planned.run_id}"), listeners.heartbeat:
        for folder in (planned.folder, Store(options.out).path(planned.config, planned.run_id).parent):
            remove_abandoned(folder)
        yield


def _new_result(
    planned: PlannedRun,
    options: RunOptions,
    method: Method | BaseException,
    listeners: RunListeners,
    started: datetime,
) -> Result:
    """Train and evaluate, and store what comes of it; what goes wrong in this run alone is a result, too."""
    checkpoint, several = planned.checkpoint(options), options.group.size > 1
    base_runs, network = BaseRuns(), None
    if options.rerun:
        checkpoint.delete()
    try:
        if not isinstance(method, Method):
            raise method
        _start_from_base_runs(planned, method, options, base_runs)
        result = _trained_and_evaluated(planned, options, method, listeners, base_runs, started)
        network = method.network
    except (TrainingFailedError, torch.OutOfMemoryError) as error:
        if several and isinstance(error, torch.OutOfMemoryError):
            raise out_of_memory(error) from None  # not stored: the others know nothing of it
        if isinstance(error, TrainingFailedError):  # what lacked memory may go on where there is more
            checkpoint.delete()
        reason = first_line(error)
        result = make_result(planned, options, "failed", started, reason=reason, base_runs=base_runs)
    except (LtbenchError, Warning):  # a warning is raised for whoever has asked Python for that
        raise
    except KeyboardInterrupt:
        interrupted = make_result(
            planned, options, "interrupted", started, reason="stopped by the user", base_runs=base_runs
        )
        save(interrupted, planned, options)
        raise
    except BaseException as error:  # a method may do anything, and the others of a sweep are to go on
        if several:
            raise  # not stored: the others know nothing of it
        reason = _reason(error, planned.method)
        result = make_result(planned, options, "failed", started, reason=reason, base_runs=base_runs)
    return save(result, planned, options, network)


def _trained_and_evaluated(
    planned: PlannedRun,
    options: RunOptions,
    method: Method,
    listeners: RunListeners,
    base_runs: BaseRuns,
    started: datetime,
) -> Result:
    loaders = make_loaders(planned, options)
    history = train(planned, method, loaders, options, listeners)
    if history.ended_early and options.pruning is not None:
        reason = options.pruning.reason(history.validation_curve)
        return make_result(
            planned, options, "pruned", started, reason=reason, base_runs=base_runs, method=method, history=history
        )
    listeners(ProgressUpdate("evaluation", 1.0, history=history))
    evaluation = evaluate(planned, method, loaders, options)
    result = make_result(
        planned,
        options,
        "done",
        started,
        base_runs=base_runs,
        method=method,
        history=history,
        evaluation=evaluation,
    )
    return options.group.broadcast_object(lambda: result)


def _start_from_base_runs(planned: PlannedRun, method: Method, options: RunOptions, found: BaseRuns) -> None:
    """Give a method the trained weights of the runs that it starts from, which are carried out if need be."""
    options = replace(options, rerun=False, tuning=None, pruning=None)
    trained: dict[str, Method] = {}
    for name, config in planned.method.uses(planned.config).items():
        base = plan_run(resolve(config), options)
        result = _recall(base, options) or _carry_out(base, options)
        if result.status != "done":
            raise TrainingFailedError(f"the {config.method} run {base.run_id} it starts from: {result.reason}")
        trained[name], found.run_ids[name] = _trained(base, options), base.run_id
        found.seconds += (result.cost and result.cost.training_seconds) or 0.0
    if trained:
        method.start_from(trained)


def _trained(planned: PlannedRun, options: RunOptions) -> Method:
    """The trained method of a finished run; if its weights are not in the cache, it is trained, or goes on being so.

    Its stored result stays.
    """
    method, checkpoint = planned.build_method(), planned.checkpoint(options)
    if load_trained(method, checkpoint, planned.device):
        return method
    started, listeners = datetime.now(UTC), RunListeners(planned, options)
    with _held(planned, options, listeners):
        if load_trained(method, checkpoint, planned.device):  # another process has trained it meanwhile
            return method
        with listeners:
            result = _new_result(planned, options, _built(planned), listeners, started)
            listeners.ended(result)
        if result.status != "done" or not load_trained(method, checkpoint, planned.device):
            reason = result.reason or "its weights are not in the cache folder"
            raise TrainingFailedError(f"the {planned.config.method} run {planned.run_id} it starts from: {reason}")
    return method


def _reason(error: BaseException, method: type[Method]) -> str:
    """Why a run has failed, in a line, with the place in the method's own code, or else where the error came up."""
    lines = str(error).strip().splitlines()
    last = traceback.extract_tb(error.__traceback__)[-1]
    place = registry.error_location(error, method) or f"{Path(last.filename).name}, line {last.lineno}"
    return f"{type(error).__name__}{': ' + lines[0] if lines else ''} ({place})"
