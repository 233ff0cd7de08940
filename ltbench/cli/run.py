"""ltbench run."""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ltbench.cli.options import (
    Accumulate,
    Backbone,
    BatchNormImages,
    BatchSize,
    CacheResized,
    CheckpointActivations,
    Compiled,
    DataDir,
    DataSeed,
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
from ltbench.errors import LtbenchError, LtbenchWarning

if TYPE_CHECKING:
    from ltbench.config import RunConfig
    from ltbench.results.schema import Result
    from ltbench.runs.options import RunOptions


def run(
    method: Methods = None,
    dataset: Annotated[str | None, typer.Option(help="Data set  [default: digits-lt]")] = None,
    backbone: Backbone = None,
    imbalance_ratio: Ratio = None,
    seeds: Annotated[str | None, typer.Option(help="Seeds, e.g. 0-4 or 0,2  [default: 0]")] = None,
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
        typer.Option(help="TOML file with the settings of a run or of a list of runs; or a stored result to repeat"),
    ] = None,
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
        typer.Option("--validation", help="Hold out 20 % of each training class, e.g. to fit a temperature"),
    ] = None,
    out: Out = Path("results"),
    rerun: Annotated[bool, typer.Option("--rerun", help="Repeat finished runs instead of skipping them")] = False,
    checkpoint_every: Annotated[float, typer.Option(help="Seconds of training between checkpoints")] = 30.0,
    compiled: Compiled = None,
    workers: Workers = None,
    accumulate: Accumulate = 1,
    checkpoint_activations: CheckpointActivations = False,
    shard: Shard = False,
    batch_norm_images: BatchNormImages = None,
    parallel: Parallel = 1,
    tensorboard: TensorBoard = None,
    methods_dir: MethodsDir = None,
) -> None:
    """Train and evaluate methods. Finished runs are skipped; interrupted runs resume.

    Without options it trains BalPoE on digits-lt. For one run on several GPUs:
    torchrun --standalone --nproc-per-node 8 -m ltbench run ...
    """
    check_parallel(parallel)
    add_methods(methods_dir, method)
    from ltbench.runs import sweep
    from ltbench.training.distributed.process_group import process_group

    described, tuning = sweep.read_runs(config) if config else ([{}], None)
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
    configs = sweep.expand(described, flags, where=config)
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
        all_done = run_all(configs, options, parallel)
    if not all_done:
        raise typer.Exit(1)


def run_all(configs: "Sequence[RunConfig]", options: "RunOptions", parallel: int = 1) -> bool:
    """Carry out runs behind a progress bar each, and print a line for each result.

    Args:
        configs: of the runs.
        options: of all of them.
        parallel: number of concurrent runs.

    Returns:
        Whether all runs are done.

    Raises:
        LtbenchError: for a run that cannot be carried out, before the first one starts.
    """
    from ltbench.cli import progress_bars, result_line
    from ltbench.results.store import Store
    from ltbench.runs import sweep
    from ltbench.runs.resolve import resolve

    for config in configs:
        resolve(config)
    if not options.group.is_main:
        with warnings.catch_warnings(action="ignore", category=LtbenchWarning):
            return all(result.status == "done" for result in sweep.run_all(configs, options, lambda *_: None))
    with progress_bars.progress_bars() as bars:

        def print_result(result: "Result", recalled: bool) -> None:
            path = Store(options.out).path(result.config, result.run_id)
            progress_bars.print_above(bars, result_line.result_line(result, path, recalled))

        def name(position: int) -> str:
            return f"{configs[position].method}, seed {configs[position].seed}"

        options = replace(options, listener=progress_bars.run_bars(bars, name))
        results = sweep.run_all(configs, options, print_result, parallel)
    return all(result.status == "done" for result in results)
