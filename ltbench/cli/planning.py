"""ltbench estimate: how long will it take?"""

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
    MethodsDir,
    Precision,
    Ratio,
    RecipeName,
    Settings,
    add_methods,
    given,
    hyperparameters,
    surroundings,
)
from ltbench.errors import LtbenchError


def estimate(
    method: Annotated[str | None, typer.Option(help="Method, or several by commas  [default: balpoe]")] = None,
    dataset: Annotated[str | None, typer.Option(help="Data set; a large one need not be there")] = None,
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
    processes: Annotated[str, typer.Option(help="Numbers of processes (GPUs) that would share a run")] = "1",
    rounds: Annotated[int, typer.Option(min=1, help="How often steps are timed")] = 3,
    methods_dir: MethodsDir = None,
) -> None:
    """Time some steps of a run on this machine and tell how long all of them will take."""
    add_methods(methods_dir, method)
    from ltbench.cli import console
    from ltbench.runs import sweep
    from ltbench.runs.estimate import estimate

    try:
        counts = [int(number) for number in processes.split(",")]
    except ValueError:
        hint = "write numbers, e.g. --processes 1,8"
        raise LtbenchError(f"'{processes}' are no numbers of processes", where="--processes", hint=hint) from None
    flags = given(
        method=method, dataset=dataset, backbone=backbone, imbalance_ratio=imbalance_ratio, epochs=epochs,
        recipe=recipe, batch_size=batch_size, image_size=image_size, precision=precision,
        keep_classes_without_test_images=keep_classes_without_test_images,
        hyperparameters=hyperparameters(settings),
    )  # fmt: skip
    options = surroundings(
        data_dir,
        device=device,
        accumulate=accumulate,
        checkpoint_activations=checkpoint_activations,
        compiled=compiled,
    )
    for config in sweep.expand([{}], flags):
        console.show_estimate(estimate(config, options, processes=counts, rounds=rounds))
