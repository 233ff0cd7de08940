"""``ltbench run --launch``: runs are submitted to SLURM, or written for SLURM or SkyPilot, and the command returns."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ltbench.cli.launch_options import LaunchOptions
from ltbench.cli.output import echo, echo_stderr
from ltbench.errors import LtbenchError
from ltbench.printable import printable_name
from ltbench.runs.launchers import job_folder, skypilot, slurm
from ltbench.runs.launchers.job_folder import JobFolder, TaskOptions
from ltbench.runs.monitor.tasks import described_run, queue_states, task_states
from ltbench.runs.suite import described_key, settings_key

if TYPE_CHECKING:
    from ltbench.config import RunConfig
    from ltbench.results.schema import Result
    from ltbench.runs.options import RunOptions


def not_under_way(configs: "Sequence[RunConfig]", jobs: Path, out: Path, data_dir: Path) -> "list[RunConfig]":
    """The runs that no job carries out already; says how many are left out.

    Args:
        configs: the runs.
        jobs: folder of all jobs.
        out: folder of their results.
        data_dir: folder of their data.
    """
    tasks = task_states(job_folder.job_folders(jobs), queue_states())
    active = {one.run for one in tasks if one.kind in ("waiting", "running") and one.submitted}
    folders = out.absolute(), data_dir.absolute()
    kept = [config for config in configs if described_run(config, *folders) not in active]
    if len(kept) < len(configs):
        echo_stderr(f"{len(configs) - len(kept)} of them are under way in jobs of {printable_name(str(jobs))}")
    return kept


def that_failed(configs: "Sequence[RunConfig]", jobs: Path, stored: "Sequence[Result]") -> "list[RunConfig]":
    """The runs whose last attempt has failed, was stopped, or was lost with its process.

    Args:
        configs: runs that are not done.
        jobs: folder of all jobs.
        stored: results.
    """
    failed = {settings_key(one.config) for one in stored if one.status == "failed"}
    tasks = task_states(job_folder.job_folders(jobs), queue_states())
    failed |= {one.key for one in tasks if one.kind == "lost" or (one.kind == "ended" and one.words)}
    return [config for config in configs if described_key(config) in failed]


def launch_runs(
    configs: "Sequence[RunConfig]",
    options: "RunOptions",
    launching: LaunchOptions,
    methods_dir: Path | None,
    *,
    name: str,
) -> None:
    """Make a job folder, and submit its tasks or write what submits them.

    Args:
        configs: of the runs.
        options: of all of them.
        launching: which scheduler, what tasks ask of it, and the folder of all jobs.
        methods_dir: folder of a user's methods.
        name: beginning of the job's name.

    Raises:
        LtbenchError: for what SLURM refuses, or bad resources.
    """
    of_tasks = TaskOptions(
        out=options.out.absolute(),
        data_dir=options.data_dir.absolute(),
        methods_dir=methods_dir.absolute() if methods_dir is not None else None,
        device=options.device,
        words=task_words(options),
    )
    resources, emit_skypilot = launching.resources, launching.emit_skypilot
    table = slurm.ResourceTable(None if emit_skypilot else resources)
    limits = [table.of(config).max_requeues for config in configs]
    cloud = skypilot.read_resources(resources) if emit_skypilot else None
    if not (launching.emit_array or emit_skypilot):
        slurm.check_installed()
    if emit_skypilot:
        configs = [skypilot.portable(config) for config in configs]
    job = job_folder.create(launching.jobs, name, configs, of_tasks, max_requeues=limits, tuning=options.tuning)
    count = f"{len(configs)} run{'s' * (len(configs) != 1)}"
    if cloud is not None:
        submit = shlex.join(["sky", "jobs", "launch", str(skypilot.write(job, cloud))])
        echo(f"{count} for SkyPilot; submit them with:\n  {submit}")
    elif launching.emit_array:
        scripts = slurm.write_scripts(job, table)
        echo(
            f"{count} for SLURM; submit them with:\n"
            + "\n".join(f"  {shlex.join(['sbatch', str(path)])}" for path in scripts)
        )
    else:
        for array in _submitted(job, table):
            echo(f"{len(array.tasks)} run{'s' * (len(array.tasks) != 1)} submitted as SLURM job {array.scheduler_id}")
        echo(f"job folder: {job.path}")
    echo_stderr(f"next: {printable_name(shlex.join(['ltbench', 'watch', '--jobs', str(launching.jobs)]))}")


def task_words(options: "RunOptions") -> list[str]:
    """The options of ``ltbench run`` for how runs are carried out, apart from folders and the device."""
    words = ["--checkpoint-every", f"{options.checkpoint_every:g}"]
    if options.workers is not None:
        words += ["--workers", str(options.workers)]
    if options.accumulate > 1:
        words += ["--accumulate", str(options.accumulate)]
    if options.compiled is not None:
        words += ["--compile" if options.compiled else "--no-compile"]
    if options.tensorboard is not None:
        words += ["--tensorboard", str(options.tensorboard.absolute())]
    return [*words, *(["--checkpoint-activations"] if options.checkpoint_activations else [])]


def _submitted(job: JobFolder, table: slurm.ResourceTable) -> "list[job_folder.Array]":
    try:
        return slurm.submit(job, table)
    except LtbenchError:
        if not job.arrays:  # nothing of it runs
            (job.path / "job.json").unlink()
        raise
