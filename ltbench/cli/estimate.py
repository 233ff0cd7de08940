"""ltbench estimate."""

import sys
from dataclasses import replace
from typing import Annotated

import typer

from ltbench.cli import completion
from ltbench.cli.options import (
    DATA,
    MACHINE,
    Accumulate,
    Backbone,
    BatchSize,
    CheckpointActivations,
    ClassOrder,
    Compiled,
    DataDir,
    Device,
    Epochs,
    FeatureViews,
    ImageSize,
    Imbalance,
    KeepClassesWithoutTestImages,
    LabelColumns,
    LabelTable,
    Methods,
    MethodsDir,
    Precision,
    Pretrained,
    Ratio,
    RecipeName,
    ResultFolders,
    Settings,
    Train,
    Weights,
    add_methods,
    check_data_is_there,
    given,
    hyperparameters,
    run_options,
)
from ltbench.cli.output import echo_stderr, getting_ready
from ltbench.errors import LtbenchError
from ltbench.files.paths import DEFAULT_RESULTS


def estimate(
    method: Methods = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            help="Data set; imagenet-lt, inaturalist2018 and places-lt need not be downloaded  [default: digits-lt]",
            rich_help_panel=DATA,
            autocompletion=completion.datasets,
        ),
    ] = None,
    backbone: Backbone = None,
    pretrained: Pretrained = None,
    weights: Weights = None,
    train: Train = None,
    feature_views: FeatureViews = None,
    imbalance_ratio: Ratio = None,
    imbalance: Imbalance = None,
    class_order: ClassOrder = None,
    epochs: Epochs = None,
    recipe: RecipeName = None,
    batch_size: BatchSize = None,
    image_size: ImageSize = None,
    settings: Settings = None,
    data_dir: DataDir = None,
    labels: LabelTable = None,
    label_columns: LabelColumns = None,
    keep_classes_without_test_images: KeepClassesWithoutTestImages = None,
    device: Device = "auto",
    precision: Precision = None,
    compiled: Compiled = None,
    accumulate: Accumulate = 1,
    checkpoint_activations: CheckpointActivations = False,
    processes: Annotated[
        str,
        typer.Option(
            help="Numbers of processes (GPUs) that would share a run, comma-separated", rich_help_panel=MACHINE
        ),
    ] = "1",
    rounds: Annotated[
        int, typer.Option(min=1, help="Number of timed rounds; the shortest counts", rich_help_panel=MACHINE)
    ] = 3,
    results: ResultFolders = None,
    methods_dir: MethodsDir = None,
) -> None:
    """Estimate how long a run will take on this machine.

    It times a few training steps on random images, of a small batch where steps are heavy, and writes no file. Where
    a result with these settings was measured on a GPU, it says how long the run takes there.
    """
    with getting_ready("estimate"):
        add_methods(methods_dir, method)
        from ltbench.runs.data_folder import published_sizes
        from ltbench.runs.resolve import resolve
        from ltbench.runs.run_list import expand

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
            pretrained=pretrained,
            weights=weights,
            train=train,
            feature_views=feature_views,
            imbalance_ratio=imbalance_ratio,
            labels=labels,
            label_columns=label_columns,
            imbalance=imbalance,
            class_order=class_order,
            epochs=epochs,
            recipe=recipe,
            batch_size=batch_size,
            image_size=image_size,
            precision=precision,
            keep_classes_without_test_images=keep_classes_without_test_images,
            hyperparameters=hyperparameters(settings),
        )
        configs = expand([{}], flags)
        for one in configs:
            resolve(one)
        if published_sizes(configs[0]) is None:
            check_data_is_there(configs, data_dir)
        if not sys.stderr.isatty():
            echo_stderr(f"timing steps of {', '.join(one.method for one in configs)} on random images")
        from ltbench.cli.estimate_table import show_estimate
        from ltbench.cli.progress_bars import RunProgress
        from ltbench.progress import ProgressUpdate
        from ltbench.report.collection import LONG, collect
        from ltbench.runs.estimate import estimate
        from ltbench.runs.options import for_run

    options = run_options(
        data_dir,
        device=device,
        accumulate=accumulate,
        checkpoint_activations=checkpoint_activations,
        compiled=compiled,
    )
    default = DEFAULT_RESULTS
    stored = collect(results or ([default] if default.is_dir() else []), LONG)
    with RunProgress(len(configs), lambda position: configs[position].method, "estimate") as progress:
        for position, config in enumerate(configs):
            told = for_run(replace(options, listener=progress.listener), position)
            found = estimate(config, told, processes=counts, rounds=rounds)
            progress.listener(ProgressUpdate("", 1.0, run=position))
            with progress.paused():
                show_estimate(found, stored)
