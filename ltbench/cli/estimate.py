"""ltbench estimate."""

from typing import Annotated

import typer

from ltbench.cli.options import (
    Accumulate,
    Backbone,
    BatchSize,
    CheckpointActivations,
    Compiled,
    DataDir,
    Device,
    Epochs,
    ImageSize,
    KeepUntested,
    Methods,
    MethodsDir,
    Precision,
    Ratio,
    RecipeName,
    Settings,
    add_methods,
    given,
    hyperparameters,
    run_options,
)
from ltbench.errors import LtbenchError


def estimate(
    method: Methods = None,
    dataset: Annotated[
        str | None, typer.Option(help="Data set; a large one need not be downloaded  [default: digits-lt]")
    ] = None,
    backbone: Backbone = None,
    imbalance_ratio: Ratio = None,
    epochs: Epochs = None,
    recipe: RecipeName = None,
    batch_size: BatchSize = None,
    image_size: ImageSize = None,
    settings: Settings = None,
    data_dir: DataDir = None,
    keep_classes_without_test_images: KeepUntested = None,
    device: Device = "auto",
    precision: Precision = None,
    compiled: Compiled = None,
    accumulate: Accumulate = 1,
    checkpoint_activations: CheckpointActivations = False,
    processes: Annotated[
        str, typer.Option(help="Numbers of processes (GPUs) that would share a run, comma-separated")
    ] = "1",
    rounds: Annotated[int, typer.Option(min=1, help="Number of timed rounds; the shortest counts")] = 3,
    methods_dir: MethodsDir = None,
) -> None:
    """Estimate how long a run will take on this machine.

    It times a few training steps on small batches of random images.
    """
    add_methods(methods_dir, method)
    from ltbench.cli.estimate_table import show_estimate
    from ltbench.runs import sweep
    from ltbench.runs.estimate import estimate

    try:
        counts = [int(number) for number in processes.split(",")]
    except ValueError:
        raise LtbenchError(
            f"'{processes}' is no list of numbers of processes",
            where="--processes",
            hint="write numbers, e.g. --processes 1,8",
        ) from None
    flags = given(
        method=method,
        dataset=dataset,
        backbone=backbone,
        imbalance_ratio=imbalance_ratio,
        epochs=epochs,
        recipe=recipe,
        batch_size=batch_size,
        image_size=image_size,
        precision=precision,
        keep_classes_without_test_images=keep_classes_without_test_images,
        hyperparameters=hyperparameters(settings),
    )
    options = run_options(
        data_dir,
        device=device,
        accumulate=accumulate,
        checkpoint_activations=checkpoint_activations,
        compiled=compiled,
    )
    for config in sweep.expand([{}], flags):
        show_estimate(estimate(config, options, processes=counts, rounds=rounds))
