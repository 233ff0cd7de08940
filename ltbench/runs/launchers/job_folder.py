"""A folder with all that a scheduler needs to carry out runs on other machines, and what they say of themselves.

    job.json            where the runs store their results, their options, and the settings of each
    environment.json    versions, interpreter and variables where the job was made
    tasks/0003.toml     settings of one run, for ltbench run --config
    logs/0003.log       what ltbench run has printed, of all attempts
    state/0003.json     running, requeued or ended, and when it was last seen; none while the task waits
    slurm.json          the arrays that carry out the tasks

Several hosts may share it: every file has one writer at a time and is replaced whole.
"""

import json
import os
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, Literal

import tomli_w
from pydantic import ConfigDict, Field, ValidationError

from ltbench.config import Frozen, RunConfig
from ltbench.errors import LtbenchError
from ltbench.files import paths
from ltbench.files.atomic import write_text
from ltbench.files.reading import read_small

_VARIABLES = ("LTBENCH_", "CUDA_", "OMP_", "MKL_", "NCCL_", "GLOO_", "PYTHONPATH", "VIRTUAL_ENV", "CONDA_PREFIX")
"""Beginnings of the names of environment variables that a job notes; no others, which may hold secrets."""
_LARGEST = 2**30

State = Literal["running", "requeued", "done", "failed", "interrupted"]


class TaskState(Frozen):
    """What a task says of itself."""

    state: State
    reason: str | None = None
    host: str = Field(default_factory=socket.gethostname)
    process: int = Field(default_factory=os.getpid)
    scheduler_job: str | None = None
    """Id in the scheduler's queue, e.g. "17_3"."""
    attempt: int = 1
    began: datetime
    seen: datetime


class Array(Frozen):
    """Tasks that were submitted together."""

    model_config = ConfigDict(populate_by_name=True)

    scheduler_id: str = Field(validation_alias="job", serialization_alias="job")
    """What the scheduler calls the array, e.g. "17"."""
    tasks: list[int]
    """The number of each, in the order of the array."""


class Arrays(Frozen):
    """All arrays of a job."""

    arrays: list[Array]


class TaskOptions(Frozen):
    """Options of ``ltbench run`` besides the settings; paths are absolute."""

    out: Path
    data_dir: Path
    methods_dir: Path | None = None
    device: str = "auto"
    words: list[str] = Field(default_factory=list)
    """All others."""

    def command_line(self) -> list[str]:
        """The command as words."""
        own = [] if self.methods_dir is None else ["--methods-dir", str(self.methods_dir)]
        folders = ["--out", str(self.out), "--data-dir", str(self.data_dir)]
        return [*folders, *own, "--device", self.device, *self.words]


class JobDescription(Frozen):
    """What is to be carried out, and how."""

    name: str
    created: datetime
    host: str
    folder: Path
    """The working directory of the tasks."""
    cache: Path
    options: TaskOptions
    max_requeues: int | list[int]
    """How often a task may be requeued: every one, or each."""
    tasks: list[RunConfig]
    """The settings of each task, as described."""


class JobFolder:
    """A job folder that exists.

    Args:
        path: of the folder.

    Raises:
        LtbenchError: if it is none.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path).absolute()
        try:
            self.description = JobDescription.model_validate_json(read_small(self.path / "job.json", largest=_LARGEST))
        except ValidationError:
            raise LtbenchError("not a job folder of this version of ltbench", where=self.path) from None

    def settings_file(self, number: int) -> Path:
        """The settings of a task.

        Raises:
            LtbenchError: if there is no such task.
        """
        if not 0 <= number < len(self.description.tasks):
            last = len(self.description.tasks) - 1
            raise LtbenchError(f"there is no task {number}", where=self.path, hint=f"give a number from 0 to {last}")
        return self.path / "tasks" / f"{number:04}.toml"

    def log_file(self, number: int) -> Path:
        """What a task has printed."""
        return self.path / "logs" / f"{number:04}.log"

    def state(self, number: int) -> TaskState | None:
        """What a task says of itself; None before it has begun."""
        try:
            return TaskState.model_validate_json((self.path / "state" / f"{number:04}.json").read_bytes())
        except (OSError, ValidationError):
            return None

    def write_state(self, number: int, state: TaskState) -> None:
        """Replace what a task says of itself.

        Raises:
            SaveError: if the folder cannot be written.
        """
        write_text(self.path / "state" / f"{number:04}.json", state.model_dump_json(), lasting=False)

    @property
    def arrays(self) -> list[Array]:
        """The arrays that were submitted."""
        try:
            return Arrays.model_validate_json((self.path / "slurm.json").read_bytes()).arrays
        except (OSError, ValidationError):
            return []

    def write_arrays(self, arrays: Sequence[Array]) -> None:
        """Note which arrays carry out the tasks."""
        write_text(self.path / "slurm.json", Arrays(arrays=list(arrays)).model_dump_json(by_alias=True))


def create(
    folder: Path,
    name: str,
    tasks: Sequence[RunConfig],
    options: TaskOptions,
    *,
    max_requeues: int | Sequence[int] = 100,
    tuning: Mapping[str, Any] | None = None,
) -> JobFolder:
    """Make a job folder.

    Args:
        folder: of all jobs.
        name: beginning of the name of this one.
        tasks: the runs, as described.
        options: of all runs.
        max_requeues: how often a task may be requeued: every one, or each.
        tuning: the search that chose the settings, for the results.

    Raises:
        LtbenchError: for settings that TOML cannot hold.
        SaveError: if the folder cannot be written.
    """
    texts = [_settings_text(config, tuning) for config in tasks]
    path = _new_folder(folder, name)
    for number, text in enumerate(texts):
        write_text(path / "tasks" / f"{number:04}.toml", text, lasting=False)
    write_text(path / "environment.json", _environment())
    for below in ("logs", "state"):
        (path / below).mkdir()
    description = JobDescription(
        name=path.name,
        created=datetime.now(UTC),
        host=socket.gethostname(),
        folder=Path.cwd(),
        cache=paths.cache_dir().absolute(),
        options=options,
        max_requeues=max_requeues if isinstance(max_requeues, int) else list(max_requeues),
        tasks=list(tasks),
    )
    write_text(path / "job.json", description.model_dump_json(indent=1) + "\n")
    return JobFolder(path)


def job_folders(folder: Path) -> list[JobFolder]:
    """All jobs below a folder, the oldest first; what is no job is left out."""
    found = []
    for path in sorted(folder.glob("*/job.json")):
        try:
            found.append(JobFolder(path.parent))
        except LtbenchError:
            continue
    return sorted(found, key=lambda one: one.description.created)


def _new_folder(folder: Path, name: str) -> Path:
    """A folder that nobody else has, named after the time."""
    stem = f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
    while True:
        path = folder.absolute() / stem
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            time.sleep(0.1)
            stem = f"{name}-{datetime.now():%Y%m%d-%H%M%S-%f}"
        except OSError as error:
            hint = "make the folder writable, or choose another with --jobs"
            raise LtbenchError(f"cannot make a job folder: {error.strerror}", where=path, hint=hint) from None
        else:
            return path


def _settings_text(config: RunConfig, tuning: Mapping[str, Any] | None) -> str:
    values = config.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    values["method"] = config.method
    values["dataset"] = config.dataset
    try:
        return tomli_w.dumps({**values, **({"tuning": dict(tuning)} if tuning else {})})
    except TypeError:
        raise LtbenchError(
            "a setting of null cannot be written to a job folder",
            where=f"{config.method}: {config.hyperparameters}",
            hint="leave it out, or use --launch local",
        ) from None


def _environment() -> str:
    found = {
        "python": sys.version,
        "executable": sys.executable,
        "argv": sys.argv,
        "host": socket.gethostname(),
        "packages": _packages(),
        "variables": {name: value for name, value in sorted(os.environ.items()) if name.startswith(_VARIABLES)},
    }
    return json.dumps(found, indent=1) + "\n"


@cache
def _packages() -> dict[str, str]:
    """Versions of the installed packages, which do not change within a process."""
    return dict(sorted((one.metadata["Name"], one.version) for one in distributions()))
