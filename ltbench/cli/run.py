"""ltbench run."""

import os
import shlex
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ltbench.cli.launch_options import LaunchOptions
from ltbench.cli.options import (
    DATA,
    LAUNCHER,
    METHODS,
    RESULTS,
    Accumulate,
    Backbone,
    BatchNormImages,
    BatchSize,
    CacheResized,
    CheckpointActivations,
    ClassOrder,
    Compiled,
    DataDir,
    DataSeed,
    Dataset,
    DecodeOnGpu,
    Device,
    Epochs,
    FeatureViews,
    ImageSize,
    Imbalance,
    Jobs,
    KeepClassesWithoutTestImages,
    LabelColumns,
    LabelTable,
    Methods,
    MethodsDir,
    Out,
    Parallel,
    Precision,
    Pretrained,
    Rate,
    Ratio,
    RecipeName,
    Settings,
    Shard,
    Suite,
    TensorBoard,
    Train,
    Weights,
    Workers,
    add_methods,
    check_data_is_there,
    check_parallel,
    given,
    hyperparameters,
    run_options,
)
from ltbench.cli.output import echo, echo_stderr, getting_ready
from ltbench.errors import LtbenchError, LtbenchWarning
from ltbench.files.paths import DEFAULT_RESULTS
from ltbench.printable import printable_name

if TYPE_CHECKING:
    from ltbench.config import RunConfig
    from ltbench.results.schema import Result
    from ltbench.runs.options import RunOptions
    from ltbench.training.distributed.process_group import Group


def run(
    method: Methods = None,
    dataset: Dataset = None,
    backbone: Backbone = None,
    imbalance_ratio: Ratio = None,
    imbalance: Imbalance = None,
    class_order: ClassOrder = None,
    seeds: Annotated[
        str | None, typer.Option(help="Seeds, e.g. 0-4 or 0,2  [default: 0]", rich_help_panel=METHODS)
    ] = None,
    epochs: Epochs = None,
    recipe: RecipeName = None,
    lr: Rate = None,
    batch_size: BatchSize = None,
    image_size: ImageSize = None,
    cache_resized: CacheResized = None,
    decode_on_gpu: DecodeOnGpu = None,
    settings: Settings = None,
    config: Annotated[
        Path | None,
        typer.Option(
            help="TOML file with the settings of a run or of a list of runs; or a stored result to repeat",
            rich_help_panel=METHODS,
        ),
    ] = None,
    suite: Suite = None,
    data_dir: DataDir = None,
    labels: LabelTable = None,
    label_columns: LabelColumns = None,
    data_seed: DataSeed = None,
    keep_classes_without_test_images: KeepClassesWithoutTestImages = None,
    device: Device = "auto",
    precision: Precision = None,
    pretrained: Pretrained = None,
    weights: Weights = None,
    train: Train = None,
    feature_views: FeatureViews = None,
    validation: Annotated[
        bool | None,
        typer.Option(
            "--validation",
            help="Hold out the official validation images, else 20 % of each training class",
            rich_help_panel=DATA,
        ),
    ] = None,
    out: Out = DEFAULT_RESULTS,
    rerun: Annotated[
        bool, typer.Option("--rerun", help="Repeat finished runs instead of skipping them", rich_help_panel=RESULTS)
    ] = False,
    checkpoint_every: Annotated[
        float, typer.Option(help="Seconds of training between checkpoints", rich_help_panel=RESULTS)
    ] = 30.0,
    compiled: Compiled = None,
    workers: Workers = None,
    accumulate: Accumulate = 1,
    checkpoint_activations: CheckpointActivations = False,
    shard: Shard = False,
    batch_norm_images: BatchNormImages = None,
    parallel: Parallel = 1,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print the runs that are left, one a line, and exit", rich_help_panel=RESULTS),
    ] = False,
    retry: Annotated[
        Literal["failed"] | None,
        typer.Option(help="Of the runs that are left, carry out only those that have failed", rich_help_panel=RESULTS),
    ] = None,
    launch: Annotated[
        Literal["local", "gpus", "slurm"],
        typer.Option(
            help="local: here; gpus: one process a GPU of this machine; slurm: submit an array and return",
            rich_help_panel=LAUNCHER,
        ),
    ] = "local",
    per_gpu: Annotated[
        int, typer.Option(min=1, max=100, help="With --launch gpus: processes on each GPU", rich_help_panel=LAUNCHER)
    ] = 1,
    resources: Annotated[
        Path | None,
        typer.Option(
            help="TOML file with what runs ask of SLURM, by method and data set, or of SkyPilot",
            rich_help_panel=LAUNCHER,
        ),
    ] = None,
    emit_array: Annotated[
        bool,
        typer.Option(
            "--emit-array",
            help="Write a script for sbatch, which needs no submitit, and exit",
            rich_help_panel=LAUNCHER,
        ),
    ] = False,
    emit_skypilot: Annotated[
        bool,
        typer.Option("--emit-skypilot", help="Write a managed job for SkyPilot, and exit", rich_help_panel=LAUNCHER),
    ] = False,
    jobs: Jobs = Path("jobs"),
    tensorboard: TensorBoard = None,
    methods_dir: MethodsDir = None,
) -> None:
    """Train and evaluate methods. Finished runs are skipped; interrupted runs resume.

    Without options it trains BalPoE on digits-lt. For one run on several GPUs:
    torchrun --standalone --nproc-per-node 8 -m ltbench run ...
    """
    with getting_ready("run"):
        check_parallel(parallel)
        add_methods(methods_dir, method)
        if suite is not None and config is not None:
            raise LtbenchError("a suite is a file of settings, too", where="--config", hint="give one of the two")
        launching = LaunchOptions(launch, per_gpu, resources, emit_array, emit_skypilot, jobs)
        launching.check(rerun=rerun, shard=shard, parallel=parallel)
        leaves_out_stored = suite is not None or dry_run or launching.elsewhere or retry is not None
        flags = given(
            method=method,
            dataset=dataset,
            backbone=backbone,
            imbalance_ratio=imbalance_ratio,
            labels=labels,
            label_columns=label_columns,
            imbalance=imbalance,
            class_order=class_order,
            seeds=seeds,
            epochs=epochs,
            recipe=recipe,
            lr=lr,
            batch_size=batch_size,
            image_size=image_size,
            data_seed=data_seed,
            precision=precision,
            pretrained=pretrained,
            weights=weights,
            train=train,
            feature_views=feature_views,
            validation=validation,
            batch_norm_images=batch_norm_images,
            cache_resized=cache_resized,
            decode="gpu" if decode_on_gpu else None,
            keep_classes_without_test_images=keep_classes_without_test_images,
            hyperparameters=hyperparameters(settings),
        )
        configs, tuning = described_runs(config, suite, flags, once=leaves_out_stored)
        if not leaves_out_stored:
            check_data_is_there(configs, data_dir)
            announce(configs, out)
        from ltbench.training.distributed.process_group import process_group

    with process_group(device) as group:
        check_group(group, launching, parallel)
        options = run_options(
            data_dir,
            device=device,
            out=out,
            rerun=rerun,
            checkpoint_every=checkpoint_every,
            compiled=compiled,
            workers=workers,
            tensorboard=tensorboard,
            tuning=tuning,
            group=group,
            accumulate=accumulate,
            checkpoint_activations=checkpoint_activations,
            shard=shard,
        )
        if leaves_out_stored:
            from ltbench.cli.remaining import keep_remaining

            configs = keep_remaining(
                configs,
                options,
                jobs=jobs,
                elsewhere=launching.elsewhere,
                retry=retry is not None,
                dry_run=dry_run,
            )
        if dry_run or not configs:
            return
        if launching.elsewhere:
            from ltbench.cli.launch import launch_runs

            name = Path(suite).stem if suite is not None else "runs"
            launch_runs(configs, options, launching, methods_dir, name=name)
            return
        gpus = launching.gpus()
        all_done = run_all(configs, options, len(gpus) or parallel, gpus)
    if not all_done:
        raise typer.Exit(1)


def described_runs(
    config: Path | None, suite: str | None, flags: "Mapping[str, Any]", *, once: bool
) -> "tuple[list[RunConfig], dict[str, Any] | None]":
    """The runs that files and flags describe.

    Args:
        config: file with settings of runs.
        suite: name or file of a suite, instead.
        flags: settings from the command line, which beat those of a file.
        once: whether a run that is described twice is carried out once.

    Returns:
        The runs, and the search that chose their settings, if one did.

    Raises:
        LtbenchError: for what cannot be run, before anything is imported that takes long.
    """
    from ltbench.runs.resolve import resolve
    from ltbench.runs.run_list import expand, read_runs
    from ltbench.runs.suite import distinct, suite_file

    file = suite_file(suite) if suite is not None else config
    described, tuning = read_runs(file) if file else ([{}], None)
    configs = expand(described, flags, where=file)
    if once:
        configs = distinct(configs)
    for one in configs:
        resolve(one)
    return configs, tuning


def check_group(group: "Group", launching: LaunchOptions, parallel: int) -> None:
    """Refuse several runs at once by several processes that carry out one together.

    Raises:
        LtbenchError: naming the option.
    """
    if group.size > 1 and (parallel > 1 or launching.launch == "gpus"):
        raise LtbenchError(
            "processes that carry out one run together cannot carry out several at once",
            where="--parallel" if parallel > 1 else "--launch gpus",
            hint="leave it out",
        )


def announce(configs: "Sequence[RunConfig]", out: Path) -> None:
    """Say what begins, where no bars will show it; one of several processes does."""
    if sys.stderr.isatty() or os.environ.get("RANK", "0") != "0":
        return
    methods, datasets = (
        [*dict.fromkeys(names)] for names in zip(*((c.method, c.dataset) for c in configs), strict=True)
    )
    count = "1 run" if len(configs) == 1 else f"{len(configs)} runs"
    shown = ", ".join(methods) if len(methods) <= 6 else f"{len(methods)} methods"
    echo_stderr(f"{count}: {shown} on {', '.join(datasets)}; results in {printable_name(str(out))}")


def run_all(
    configs: "Sequence[RunConfig]", options: "RunOptions", parallel: int = 1, gpus: "Sequence[str]" = ()
) -> bool:
    """Carry out runs behind a progress bar each, print a line for each result, and last the next command.

    Args:
        configs: of the runs.
        options: of all of them.
        parallel: number of concurrent runs.
        gpus: the devices among which these are shared out; none: each sees all.

    Returns:
        Whether all runs are done.
    """
    with getting_ready("run"):
        from ltbench.cli import console, result_line
        from ltbench.cli.progress_bars import RunProgress
        from ltbench.results.store import Store
        from ltbench.runs import sweep

    if not options.group.is_main:
        with warnings.catch_warnings(action="ignore", category=LtbenchWarning):
            return all(result.status == "done" for result in sweep.run_all(configs, options, lambda *_: None))
    with RunProgress(len(configs), lambda position: _name(configs[position])) as progress:

        def print_result(result: "Result", recalled: bool) -> None:
            path = Store(options.out).path(result.config, result.run_id)
            progress.print_result(result_line.result_line(result, path, recalled, console.terminal_width()))

        results = sweep.run_all(configs, replace(options, listener=progress.listener), print_result, parallel, gpus)
    done = [result for result in results if result.status == "done"]
    if done:
        folder = [] if options.out == DEFAULT_RESULTS else ["--results", str(options.out)]
        words = ["show", done[0].run_id] if len(done) == 1 else ["report"]
        echo(f"next: {shlex.join(['ltbench', *words, *folder])}")
        if any(result.config.dataset == "folder-lt" for result in done):
            run_id = done[0].run_id if len(done) == 1 else "RUN"
            command = shlex.join(["ltbench", "export", run_id, "--format", "safetensors", *folder])
            echo(f"the trained weights lie in the cache only; to keep those of a run: {command}")
    return len(done) == len(results)


def _name(config: "RunConfig") -> str:
    return f"{config.method} seed {config.seed}"
