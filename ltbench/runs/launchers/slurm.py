"""SLURM: the runs of a sweep as one array for each kind of resources, one run a task.

Submitted by submitit (``ltbench[slurm]``), or written as a plain script for ``sbatch``. Either way a task is
``ltbench.runs.launchers.task``, which SLURM asks to stop before its time is over, and requeues.
"""

import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from ltbench import registry
from ltbench.config import Frozen, RunConfig, canonical_json, read_toml, validated
from ltbench.errors import LtbenchError
from ltbench.files.atomic import write_text
from ltbench.runs.launchers.job_folder import Array, JobFolder
from ltbench.runs.launchers.task import Task, requeue

LARGEST_ARRAY = 1000
"""Tasks of an array; SLURM's own limit, where nobody has raised it, is 1001."""


class Resources(Frozen):
    """What a task asks of SLURM; the names are those of sbatch's long options."""

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    exclude: str | None = None
    gres: str | None = None
    time: int = Field(60, ge=1, description="minutes after which SLURM ends the task; it is requeued before")
    mem: str | None = Field(None, pattern=r"^\d+[KMGT]?$", description="memory of a task, e.g. 32G")
    cpus_per_task: int | None = Field(None, ge=1)
    gpus_per_node: int | None = Field(None, ge=1)
    max_running: int = Field(256, ge=1, description="tasks of an array that run at once")
    signal_before: int = Field(
        120, ge=1, le=65535, description="seconds before the end of its time at which a run is stopped and saved"
    )
    max_requeues: int = Field(100, ge=0, description="how often a task may be requeued")
    setup: list[str] = Field([], description="lines of shell before ltbench, e.g. module load cuda")
    sbatch: dict[str, str | int | bool] = Field({}, description="other long options of sbatch, without hyphens")

    @model_validator(mode="after")
    def _leaves_time(self) -> Self:
        if self.signal_before > 30 * self.time:
            raise ValueError(
                f"signal_before = {self.signal_before} seconds is more than half of time = {self.time} minutes"
            )
        return self


_SBATCH = (
    "partition",
    "account",
    "qos",
    "constraint",
    "exclude",
    "gres",
    "time",
    "mem",
    "cpus_per_task",
    "gpus_per_node",
)


class ResourceTable:
    """The resources of runs, by method and data set.

    Args:
        path: of a TOML file: resources of all runs, and ``[[resources]]`` tables with those of some, which name a
            ``method`` or a ``dataset`` (a list, or text with commas) or both; later ones beat earlier ones. None: the
            defaults.

    Raises:
        LtbenchError: for a file that is missing or malformed, an unknown resource, method or data set.
    """

    def __init__(self, path: Path | None) -> None:
        values = read_toml(path) if path is not None else {}
        rules = values.pop("resources", [])
        if not isinstance(rules, list) or not all(isinstance(one, dict) for one in rules):
            raise LtbenchError("'resources' must be a list of [[resources]] tables", where=path)
        self._path, self._common, self._rules = path, values, [dict(rule) for rule in rules]
        validated(Resources, values, where=path, kind="resource")
        for rule in self._rules:
            for name, check in (("method", registry.check_method), ("dataset", registry.check_dataset)):
                for value in _names(rule.get(name)):
                    check(value, where=f"{path}, [[resources]]")
            validated(Resources, _merged(values, rule), where=path, kind="resource")

    def of(self, config: RunConfig) -> Resources:
        """The resources of a run."""
        found = dict(self._common)
        for rule in self._rules:
            if all(
                not _names(rule.get(key)) or getattr(config, key) in _names(rule[key]) for key in ("method", "dataset")
            ):
                found = _merged(found, rule)
        return validated(Resources, found, where=self._path, kind="resource")

    def groups(self, configs: Sequence[RunConfig]) -> list[tuple[Resources, list[int]]]:
        """Positions of runs that ask for the same, no more of them together than an array may have."""
        found: dict[str, tuple[Resources, list[int]]] = {}
        for position, config in enumerate(configs):
            resources = self.of(config)
            key = canonical_json(resources.model_dump(mode="json"))
            found.setdefault(key, (resources, []))[1].append(position)
        return [
            (resources, positions[begin : begin + LARGEST_ARRAY])
            for resources, positions in found.values()
            for begin in range(0, len(positions), LARGEST_ARRAY)
        ]


class SlurmTask:
    """A task as submitit calls it; its checkpoint is ltbench's own.

    Args:
        folder: of the job.
        number: of the task.
    """

    def __init__(self, folder: Path, number: int) -> None:
        self.folder, self.number = folder, number
        self._task: Task | None = None

    def __call__(self) -> str:
        """Carry out the task.

        Raises:
            LtbenchError: if it has failed, so that SLURM counts it as failed, too.
        """
        self._task = Task(JobFolder(self.folder), self.number)
        state = self._task.carry_out()
        if state.state == "requeued":
            requeue()
        if state.state == "failed":
            raise LtbenchError(state.reason or "failed", where=JobFolder(self.folder).log_file(self.number))
        return state.state

    def checkpoint(self) -> Any:
        """Stop the run before the time is over; it resumes when the task is begun anew."""
        from submitit.helpers import DelayedSubmission

        if self._task is not None:
            self._task.stop_and_requeue()
        return DelayedSubmission(SlurmTask(self.folder, self.number))


def submit(job: JobFolder, table: ResourceTable) -> list[Array]:
    """Submit the tasks of a job by submitit, and return: no process need stay.

    Raises:
        LtbenchError: if submitit or SLURM is missing, or SLURM refuses.
    """
    check_installed()
    import submitit

    arrays: list[Array] = []
    for resources, numbers in table.groups(job.description.tasks):
        executor = submitit.SlurmExecutor(job.path / "submitit", max_num_timeout=resources.max_requeues)
        executor.update_parameters(
            job_name=f"ltbench-{job.description.name}",
            array_parallelism=resources.max_running,
            signal_delay_s=resources.signal_before,
            setup=resources.setup or None,
            stderr_to_stdout=True,
            additional_parameters={
                name: value for name, value in {"requeue": True, **resources.sbatch}.items() if value is not False
            },
            **_asked(resources),
        )
        try:
            with executor.batch():
                submitted = [executor.submit(SlurmTask(job.path, number)) for number in numbers]
        except Exception as error:  # submitit's own kinds
            raise LtbenchError(
                f"SLURM refuses the array: {_last_line(error)}", where=job.path, hint="see --resources, and sinfo"
            ) from None
        arrays.append(Array(scheduler_id=submitted[0].job_id.partition("_")[0], tasks=numbers))
        job.write_arrays(arrays)
    return arrays


def check_installed() -> None:
    """Fail before a job folder is made.

    Raises:
        LtbenchError: if submitit or SLURM's commands are missing.
    """
    if find_spec("submitit") is None:
        hint = "python -m pip install 'ltbench[slurm]', or write a plain script with --emit-array"
        raise LtbenchError("submitit is not installed", where="--launch slurm", hint=hint)
    if shutil.which("sbatch") is None:
        hint = "run it where SLURM's commands are, or write a plain script with --emit-array"
        raise LtbenchError("there is no sbatch here", where="--launch slurm", hint=hint)


def write_scripts(job: JobFolder, table: ResourceTable) -> list[Path]:
    """Write a script for ``sbatch`` for each kind of resources.

    Returns:
        Their paths.
    """
    written = []
    for position, (resources, numbers) in enumerate(table.groups(job.description.tasks)):
        path = job.path / ("array.sh" if position == 0 else f"array-{position}.sh")
        write_text(path, array_script(job, resources, numbers))
        path.chmod(0o755)
        written.append(path)
    return written


def array_script(job: JobFolder, resources: Resources, numbers: Sequence[int]) -> str:
    """The script of an array.

    Args:
        job: its folder.
        resources: of each task.
        numbers: of the tasks.
    """
    options: dict[str, object] = {
        "job-name": f"ltbench-{job.description.name}",
        "array": f"0-{len(numbers) - 1}%{resources.max_running}",
        **{name.replace("_", "-"): value for name, value in _asked(resources).items()},
        "signal": f"B:USR1@{resources.signal_before}",
        "requeue": True,
        "open-mode": "append",
        "output": f"{job.path}/logs/slurm-%A_%a.out",
        **resources.sbatch,
    }
    lines = [
        f"#SBATCH --{name}" + ("" if value is True else f"={shlex.quote(str(value))}")
        for name, value in options.items()
        if value is not False
    ]
    command = [sys.executable, "-m", "ltbench", "task", str(job.path)]
    return "\n".join(
        [
            "#!/usr/bin/env bash",
            *lines,
            "# One run a task. SLURM asks the task to stop before its time is over; it saves, and is requeued.",
            *resources.setup,
            f"tasks=({' '.join(map(str, numbers))})",
            f'exec {shlex.join(command)} "${{tasks[$SLURM_ARRAY_TASK_ID]}}"',
            "",
        ]
    )


def _asked(resources: Resources) -> dict[str, Any]:
    return {name: getattr(resources, name) for name in _SBATCH if getattr(resources, name) is not None}


def _names(value: Any) -> list[str]:
    if value is None:
        return []
    return [str(one).strip() for one in (value if isinstance(value, list) else str(value).split(","))]


def _merged(common: dict[str, Any], rule: dict[str, Any]) -> dict[str, Any]:
    """Resources with those of a rule, which beat them; further options of sbatch one by one."""
    own = _without_names(rule)
    tables = [one.get("sbatch") for one in (common, own)]
    if all(isinstance(table, dict) for table in tables):
        own["sbatch"] = {**common["sbatch"], **own["sbatch"]}
    return {**common, **own}


def _without_names(rule: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in rule.items() if name not in ("method", "dataset")}


def _last_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__
