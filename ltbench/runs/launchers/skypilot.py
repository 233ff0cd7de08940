"""SkyPilot: a file for ``sky jobs launch``, whose managed job recovers from preemption and resumes exactly."""

import json
import shlex
from pathlib import Path

from pydantic import Field

from ltbench import __version__
from ltbench.config import Frozen, RunConfig, read_toml, recipes, validated
from ltbench.errors import LtbenchError
from ltbench.files.atomic import write_text
from ltbench.runs.launchers.job_folder import JobFolder

JOB = "~/ltbench-job"
"""Where the machine has the settings of the runs."""
OUTPUTS = "/ltbench"
"""Where the machine has the bucket, which outlives it: results and checkpoints."""


class CloudResources(Frozen):
    """What a job asks of SkyPilot; the names of the first are those of its ``resources``."""

    accelerators: str | None = Field("A100:1", description="kind and number of GPUs, e.g. A100:1")
    cpus: str | None = Field(None, pattern=r"^\d+\+?$", description="number of cores, e.g. 8+")
    memory: str | None = Field(None, pattern=r"^\d+\+?$", description="GB, e.g. 32+")
    disk_size: int | None = Field(None, ge=50, description="GB")
    infra: str | None = Field(None, description="cloud, region and zone, e.g. aws/us-east-1")
    use_spot: bool = Field(True, description="whether the machine may be taken away; the job then recovers elsewhere")
    bucket: str = Field("ltbench", description="name of the bucket that keeps results and checkpoints")
    data: str | None = Field(None, description="bucket with data sets, e.g. s3://my-data; none for what is downloaded")
    setup: list[str] = Field(
        [f"python -m pip install ltbench=={__version__}"], description="lines of shell on a new machine"
    )


def read_resources(path: Path | None) -> CloudResources:
    """What a job asks for, from a TOML file; None for the defaults.

    Raises:
        LtbenchError: for a file that is missing or malformed, or an unknown resource.
    """
    return validated(CloudResources, read_toml(path) if path is not None else {}, where=path, kind="resource")


def write(job: JobFolder, resources: CloudResources) -> Path:
    """Write the file of a job.

    Returns:
        Its path.
    """
    path = job.path / "skypilot.yaml"
    write_text(path, task_file(job, resources))
    return path


def portable(config: RunConfig) -> RunConfig:
    """A run as described, without files of this machine: the recipe of a file is in it.

    Raises:
        LtbenchError: for weights or a table of labels in a file.
    """
    if config.labels is not None and Path(config.labels).expanduser().is_absolute():
        raise LtbenchError(
            "the machine of the cloud has no such table of labels",
            where="--labels",
            hint="put it into the folder of the data, and name it by its place there",
        )
    if config.weights is not None and config.weights != "timm" and not config.weights.startswith("hf-hub:"):
        raise LtbenchError(
            "the machine of the cloud has no file of weights",
            where="--weights",
            hint="put them on the hub (--weights hf-hub:OWNER/MODEL), or use timm's own (--pretrained)",
        )
    if isinstance(config.recipe, str) and config.recipe.endswith(".toml"):
        return config.replace(recipe=recipes.recipe(config.recipe, ""))
    return config


def task_file(job: JobFolder, resources: CloudResources) -> str:
    """The YAML of a managed job that carries out all runs, one after the other; JSON within it is YAML, too."""
    asked = resources.model_dump(exclude_none=True, include={"accelerators", "cpus", "memory", "disk_size", "infra"})
    machine = {**asked, "use_spot": resources.use_spot, "job_recovery": {"max_restarts_on_errors": 0}}
    mounts: dict[str, object] = {f"{JOB}/tasks": str(job.path / "tasks")}
    methods = job.description.options.methods_dir
    if methods is not None:
        mounts[f"{JOB}/methods"] = str(methods)
    mounts[OUTPUTS] = {"name": resources.bucket, "mode": "MOUNT"}
    if resources.data is not None:
        mounts["/data"] = {"source": resources.data, "mode": "MOUNT"}
    own = f" --methods-dir {JOB}/methods" if methods is not None else ""
    data = "/data" if resources.data is not None else f"{JOB}/data"
    device = job.description.options.device
    words = shlex.join([*(["--device", device] if device != "auto" else []), *job.description.options.words])
    run = [
        f"export LTBENCH_CACHE={OUTPUTS}/cache",
        "code=0",
        f"for settings in {JOB}/tasks/*.toml; do",
        f'  ltbench run --config "$settings" --out {OUTPUTS}/results --data-dir {data}{own} {words} || code=1',
        "done",
        'exit "$code"',
    ]
    lines = [
        "# Submit with: sky jobs launch THIS_FILE",
        "# A machine that is taken away is replaced by another, which skips the runs that are done and resumes the one",
        "# that was under way: results and checkpoints lie in the bucket.",
        f"name: {json.dumps(job.description.name)}",
        f"resources: {json.dumps(machine)}",
        f"file_mounts: {json.dumps(mounts)}",
        *_block("setup", resources.setup),
        *_block("run", run),
    ]
    return "\n".join(lines) + "\n"


def _block(key: str, lines: list[str]) -> list[str]:
    return [f"{key}: |", *(f"  {line}" for text in lines for line in text.splitlines())]
