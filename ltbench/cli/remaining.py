"""What ``ltbench run`` says of a suite before it begins: how many runs are left, and how long they will take."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ltbench.cli.estimate_table import duration
from ltbench.cli.launch import not_under_way, that_failed
from ltbench.cli.output import echo, echo_stderr
from ltbench.cli.progress_bars import RunProgress
from ltbench.errors import LtbenchError
from ltbench.runs.last_dataset import LastDataset
from ltbench.runs.remaining import RunTime, device_name, left, run_times, stored_results
from ltbench.runs.resolve import resolve
from ltbench.runs.run_names import RunNames

if TYPE_CHECKING:
    from ltbench.config import RunConfig
    from ltbench.runs.options import RunOptions


def keep_remaining(
    configs: "Sequence[RunConfig]",
    options: "RunOptions",
    *,
    jobs: Path,
    elsewhere: bool = False,
    retry: bool = False,
    dry_run: bool = False,
) -> "list[RunConfig]":
    """The runs of a list that are not stored; says how many these are and how long they will take.

    Args:
        configs: the runs.
        options: how they will be carried out.
        jobs: folder of job folders.
        elsewhere: whether other machines carry them out: runs that these have under way are left out, and this one
            times no steps.
        retry: whether to keep only those that have failed.
        dry_run: whether to print those that are left, a line each.
    """
    options = replace(options, last_dataset=LastDataset())  # read once for both questions
    stored = stored_results(configs, options) if options.group.is_main else []

    def kept() -> "tuple[int, list[RunConfig]]":
        found = not_done = left(configs, options, stored)
        found = that_failed(found, jobs, stored) if retry else found
        found = not_under_way(found, jobs, options.out, options.data_dir) if elsewhere else found
        return len(configs) - len(not_done), found

    done, remaining = options.group.broadcast_object(kept)
    if not options.group.is_main:
        return remaining
    head = f"{_runs(len(configs))}: {done} stored"
    if not remaining:
        echo_stderr(f"{head}, none {'to be tried again' if retry else 'left'}")
        return remaining
    resolved = [resolve(config, find_weights=False).config for config in remaining]
    names = RunNames(resolved)
    with RunProgress(len(remaining), lambda position: names(resolved[position]), "estimate") as progress:
        alone = not elsewhere and options.group.size == 1  # the other processes would not take part in the steps
        times = run_times(remaining, replace(options, listener=progress.listener), stored, measure=alone)
    common = f" ({names.common})" if names.common else ""
    what = "to be tried again" if retry else "left"
    echo_stderr(f"{head}, {len(remaining)} {what}{common}; {_total(times, options)}")
    if dry_run:  # else the run says it
        for reason in dict.fromkeys(str(time) for time in times if isinstance(time, LtbenchError)):
            echo_stderr(f"time not known: {reason}")
        if None in times:
            where = "on other machines" if elsewhere else "in several processes"
            echo_stderr(f"time not known: no stored run is alike, and steps are not timed for runs {where}")
        for config, time in zip(resolved, times, strict=True):
            echo(f"{names(config)}: {_time(time)}")
    return remaining


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"


def _total(times: "Sequence[RunTime | LtbenchError | None]", options: "RunOptions") -> str:
    """For example "about 2.1 h one after the other on this CPU (3 by stored runs alike, 2 by timed steps)"."""
    known = [time for time in times if isinstance(time, RunTime)]
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


def _time(time: "RunTime | LtbenchError | None") -> str:
    return f"about {duration(time.seconds)}" if isinstance(time, RunTime) else "time not known"
