"""What ``ltbench run`` says of a suite before it begins: how many runs are left, and how long they will take."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ltbench.cli.estimate_table import duration
from ltbench.cli.output import echo, echo_stderr
from ltbench.cli.progress_bars import RunProgress
from ltbench.runs.remaining import RunTime, device_name, left, run_times, stored_results
from ltbench.runs.resolve import resolve
from ltbench.runs.run_names import RunNames

if TYPE_CHECKING:
    from ltbench.config import RunConfig
    from ltbench.runs.options import RunOptions


def keep_remaining(
    configs: "Sequence[RunConfig]", options: "RunOptions", *, dry_run: bool, measure: bool = True
) -> "list[RunConfig]":
    """The runs of a list that are not stored; says how many these are and how long they will take.

    Args:
        configs: the runs.
        options: how they will be carried out.
        dry_run: whether to print those that are left, a line each.
        measure: whether to time steps of runs like which none is stored.
    """
    stored = stored_results(configs, options) if options.group.is_main else []
    remaining = options.group.broadcast_object(lambda: left(configs, options, stored))
    if not options.group.is_main or not remaining:
        if options.group.is_main:
            echo_stderr(f"{_runs(len(configs))}: all stored, none left")
        return remaining
    resolved = [resolve(config, find_weights=False).config for config in remaining]
    names = RunNames(resolved)
    with RunProgress(len(remaining), lambda position: names(resolved[position]), "estimate") as progress:
        times = run_times(remaining, replace(options, listener=progress.listener), stored, measure=measure)
    common = f" ({names.common})" if names.common else ""
    done = len(configs) - len(remaining)
    echo_stderr(f"{_runs(len(configs))}{common}: {done} stored, {len(remaining)} left; {_total(times, options)}")
    if dry_run:
        for config, time in zip(resolved, times, strict=True):
            echo(f"{names(config)}: {_time(time)}")
    return remaining


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"


def _total(times: "Sequence[RunTime | None]", options: "RunOptions") -> str:
    """For example "about 2.1 h one after the other on this CPU (3 by stored runs alike, 2 by timed steps)"."""
    known = [time for time in times if time is not None]
    counts = {
        "by stored runs alike": sum(time.source == "stored" for time in known),
        "by timed steps": sum(time.source == "estimate" for time in known),
        "not known": len(times) - len(known),
    }
    how = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    if not known:
        return "how long they take is not known"
    total = duration(sum(time.seconds for time in known))
    return f"about {total} one after the other on {device_name(options)} ({how})"


def _time(time: "RunTime | None") -> str:
    return "time not known" if time is None else f"about {duration(time.seconds)}"
