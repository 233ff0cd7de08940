"""ltbench task: what SLURM or another scheduler starts."""

import os
import signal
from pathlib import Path
from typing import Annotated

import typer


def task(
    job: Annotated[Path, typer.Argument(help="Job folder, as ltbench run --emit-array writes it")],
    number: Annotated[int, typer.Argument(help="Number of the task, from 0")],
) -> None:
    """Carry out a task of a job folder (for schedulers).

    SIGUSR1 and SIGUSR2 stop the run after saving and have SLURM requeue the task; SIGTERM only stops it.
    """
    from ltbench.runs.launchers.job_folder import JobFolder
    from ltbench.runs.launchers.task import INTERRUPTED, Task, requeue

    one = Task(JobFolder(job), number)
    in_slurm = "SLURM_JOB_ID" in os.environ  # which sends its signals to the run as well: a second one would lose steps
    for name, handler in (
        ("SIGUSR1", lambda *_: one.stop(requeue=True)),
        ("SIGUSR2", lambda *_: one.stop(requeue=True)),
        ("SIGTERM", lambda *_: None if in_slurm else one.stop(requeue=False)),
        ("SIGINT", lambda *_: None),  # a terminal sends it to the run as well
    ):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), handler)
    state = one.carry_out().state
    if state == "requeued" and in_slurm:
        requeue()
    codes = {"done": 0, "failed": 1, "interrupted": INTERRUPTED, "requeued": INTERRUPTED}
    raise typer.Exit(codes.get(state, 1))
