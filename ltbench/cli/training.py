"""ltbench run and tune."""

from pathlib import Path
from typing import Annotated

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
    ImageSize,
    KeepUntested,
    MethodsDir,
    Parallel,
    Precision,
    Pretrained,
    Rate,
    Ratio,
    RecipeName,
    Settings,
    Shard,
    TensorBoard,
    Workers,
    add_methods,
    check_parallel,
    given,
    hyperparameters,
    surroundings,
)
from ltbench.errors import LtbenchError


def run(
    method: Annotated[str | None, typer.Option(help="Method, or several by commas, or all  [default: balpoe]")] = None,
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
        typer.Option(help="TOML file with settings of a run or a list of runs; or a result to repeat"),
    ] = None,
    data_dir: DataDir = None,
    data_seed: DataSeed = None,
    keep_classes_without_test_images: KeepUntested = None,
    device: Device = "auto",
    precision: Precision = None,
    pretrained: Pretrained = None,
    validation: Annotated[
        bool | None,
        typer.Option("--validation", help="Hold out 20 % of each training class, e.g. for a temperature"),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of results")] = Path("results"),
    rerun: Annotated[bool, typer.Option("--rerun", help="Run again what is stored already")] = False,
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
    """Train and evaluate: by default BalPoE on digits-lt. A stored run is not run again; a stopped one goes on.

    Several processes, each with a GPU of its own, do it together: torchrun --nproc-per-node 8 -m ltbench run ...
    """
    check_parallel(parallel)
    add_methods(methods_dir, method)
    from ltbench.cli import console
    from ltbench.runs import sweep
    from ltbench.training.distributed.process_group import process_group

    described, tuning = sweep.read_runs(config) if config else ([{}], None)
    configs = sweep.expand(
        described,
        given(
            method=method, dataset=dataset, backbone=backbone, imbalance_ratio=imbalance_ratio, seeds=seeds,
            epochs=epochs, recipe=recipe, lr=lr, batch_size=batch_size, image_size=image_size, data_seed=data_seed,
            precision=precision, pretrained=pretrained, validation=validation, batch_norm_images=batch_norm_images,
            cache_resized=cache_resized, decode="gpu" if decode_on_gpu else None,
            keep_classes_without_test_images=keep_classes_without_test_images,
            hyperparameters=hyperparameters(settings),
        ),
        where=config,
    )  # fmt: skip
    with process_group(device) as group:
        if group.size > 1 and parallel > 1:
            hint = "leave --parallel out"
            raise LtbenchError("processes that do a run together do one at a time", where="--parallel", hint=hint)
        around = surroundings(
            data_dir, device=device, out=out, rerun=rerun, checkpoint_every=checkpoint_every, compiled=compiled,
            workers=workers, tensorboard=tensorboard, tuning=tuning, group=group, accumulate=accumulate,
            checkpoint_activations=checkpoint_activations, shard=shard,
        )  # fmt: skip
        done = console.run_all(configs, around, parallel)
    if not done:
        raise typer.Exit(1)


def tune(
    method: Annotated[str, typer.Option(help="Method")] = "balpoe",
    dataset: Annotated[str, typer.Option(help="Data set")] = "digits-lt",
    trials: Annotated[int, typer.Option(help="Trials in all; a search that was stopped goes on")] = 20,
    epochs: Epochs = None,
    backbone: Backbone = None,
    imbalance_ratio: Ratio = None,
    recipe: RecipeName = None,
    lr: Rate = None,
    batch_size: BatchSize = None,
    image_size: ImageSize = None,
    cache_resized: CacheResized = None,
    decode_on_gpu: DecodeOnGpu = None,
    settings: Settings = None,
    seed: Annotated[int | None, typer.Option(help="Of all trials  [default: 1000]")] = None,
    data_dir: DataDir = None,
    keep_classes_without_test_images: KeepUntested = None,
    device: Device = "auto",
    precision: Precision = None,
    pretrained: Pretrained = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the search  [default: tune/DATASET-METHOD]")] = None,
    compiled: Compiled = None,
    workers: Workers = None,
    parallel: Parallel = 1,
    tensorboard: TensorBoard = None,
    methods_dir: MethodsDir = None,
) -> None:
    """Search a method's hyper-parameters for macro accuracy on a validation part of train, never the test set."""
    check_parallel(parallel)
    add_methods(methods_dir, method)
    from ltbench.cli import console
    from ltbench.runs import sweep
    from ltbench.runs.tune import TUNING_SEED

    flags = given(
        method=method, dataset=dataset, backbone=backbone, imbalance_ratio=imbalance_ratio, epochs=epochs,
        recipe=recipe, lr=lr, batch_size=batch_size, image_size=image_size, precision=precision,
        pretrained=pretrained, cache_resized=cache_resized, decode="gpu" if decode_on_gpu else None,
        keep_classes_without_test_images=keep_classes_without_test_images,
        hyperparameters=hyperparameters(settings),
        seed=TUNING_SEED if seed is None else seed,
    )  # fmt: skip
    base, *others = sweep.expand([{}], flags)
    if others:
        raise LtbenchError("one method is tuned at a time", where="--method", hint="call tune for each method")
    folder = out or Path("tune") / f"{dataset}-{method}"
    around = surroundings(
        data_dir, device=device, out=folder / "runs", compiled=compiled, workers=workers, tensorboard=tensorboard
    )  # fmt: skip
    console.tune(base, trials, folder, around, parallel)
