"""ltbench run."""

import os
import shlex
import sys
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ltbench.cli.options import (
    DATA,
    METHODS,
    RESULTS,
    Accumulate,
    Backbone,
    BatchNormImages,
    BatchSize,
    CacheResized,
    CheckpointActivations,
    Compiled,
    DataDir,
    DataSeed,
    Dataset,
    DecodeOnGpu,
    Device,
    Epochs,
    FeatureViews,
    ImageSize,
    KeepUntested,
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
    check_parallel,
    given,
    hyperparameters,
    run_options,
)
from ltbench.cli.output import echo, echo_stderr, getting_ready
from ltbench.errors import LtbenchError, LtbenchWarning
from ltbench.printable import printable_name

if TYPE_CHECKING:
    from ltbench.config import RunConfig
    from ltbench.results.schema import Result
    from ltbench.runs.options import RunOptions


def run(
    method: Methods = None,
    dataset: Dataset = None,
    backbone: Backbone = None,
    imbalance_ratio: Ratio = None,
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
    data_seed: DataSeed = None,
    keep_classes_without_test_images: KeepUntested = None,
    device: Device = "auto",
    precision: Precision = None,
    pretrained: Pretrained = None,
    weights: Weights = None,
    train: Train = None,
    feature_views: FeatureViews = None,
    validation: Annotated[
        bool | None,
        typer.Option(
            "--validation", help="Hold out 20 % of each training class, e.g. to fit a temperature", rich_help_panel=DATA
        ),
    ] = None,
    out: Out = Path("results"),
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
        from ltbench.runs.resolve import resolve
        from ltbench.runs.run_list import expand, read_runs
        from ltbench.runs.suite import distinct, suite_file

        if suite is not None and config is not None:
            raise LtbenchError("a suite is a file of settings, too", where="--config", hint="give one of the two")
        config = suite_file(suite) if suite is not None else config
        described, tuning = read_runs(config) if config else ([{}], None)
        flags = given(
            method=method,
            dataset=dataset,
            backbone=backbone,
            imbalance_ratio=imbalance_ratio,
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
        configs = expand(described, flags, where=config)
        if suite is not None or dry_run:
            configs = distinct(configs)
        for one in configs:
            resolve(one)
        if suite is None and not dry_run:
            announce(configs, out)
        from ltbench.training.distributed.process_group import process_group

    with process_group(device) as group:
        if group.size > 1 and parallel > 1:
            raise LtbenchError(
                "processes that carry out one run together cannot carry out several at once",
                where="--parallel",
                hint="leave --parallel out",
            )
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
        if suite is not None or dry_run:
            from ltbench.cli.remaining import keep_remaining

            configs = keep_remaining(configs, options, dry_run=dry_run)
        all_done = dry_run or not configs or run_all(configs, options, parallel)
    if not all_done:
        raise typer.Exit(1)


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


def run_all(configs: "Sequence[RunConfig]", options: "RunOptions", parallel: int = 1) -> bool:
    """Carry out runs behind a progress bar each, print a line for each result, and last the next command.

    Args:
        configs: of the runs.
        options: of all of them.
        parallel: number of concurrent runs.

    Returns:
        Whether all runs are done.
    """
    with getting_ready("run"):
        from ltbench.cli import result_line
        from ltbench.cli.progress_bars import RunProgress
        from ltbench.results.store import Store
        from ltbench.runs import sweep

    if not options.group.is_main:
        with warnings.catch_warnings(action="ignore", category=LtbenchWarning):
            return all(result.status == "done" for result in sweep.run_all(configs, options, lambda *_: None))
    with RunProgress(len(configs), lambda position: _name(configs[position])) as progress:

        def print_result(result: "Result", recalled: bool) -> None:
            path = Store(options.out).path(result.config, result.run_id)
            progress.print_result(result_line.result_line(result, path, recalled))

        results = sweep.run_all(configs, replace(options, listener=progress.listener), print_result, parallel)
    done = [result for result in results if result.status == "done"]
    if done:
        folder = [] if options.out == Path("results") else ["--results", str(options.out)]
        words = ["show", done[0].run_id] if len(done) == 1 else ["report"]
        echo(f"next: {shlex.join(['ltbench', *words, *folder])}")
    return len(done) == len(results)


def _name(config: "RunConfig") -> str:
    return f"{config.method} seed {config.seed}"
