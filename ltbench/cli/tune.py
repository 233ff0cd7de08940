"""ltbench tune."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ltbench.cli import completion
from ltbench.cli.options import (
    DATA,
    MACHINE,
    METHODS,
    RESULTS,
    Backbone,
    BatchSize,
    CacheResized,
    ClassOrder,
    Compiled,
    DataDir,
    DecodeOnGpu,
    Device,
    Epochs,
    FeatureViews,
    ImageSize,
    Imbalance,
    KeepClassesWithoutTestImages,
    LabelColumns,
    LabelTable,
    MethodsDir,
    Parallel,
    Precision,
    Pretrained,
    Rate,
    Ratio,
    RecipeName,
    Settings,
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
from ltbench.cli.output import echo_stderr, getting_ready
from ltbench.errors import LtbenchError, SaveError
from ltbench.files.paths import dataset_folder
from ltbench.runs.search_settings import USUAL, Pruner, Sampler, SearchSettings

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from ltbench.config import RunConfig
    from ltbench.method.search_space import Choice, Range
    from ltbench.runs.conclusion import SearchResult
    from ltbench.runs.options import RunOptions


def tune(
    method: Annotated[
        str,
        typer.Option(
            help="Method, or a comma-separated list: each gets a search of its own with the same budget",
            rich_help_panel=METHODS,
            autocompletion=completion.methods,
        ),
    ] = "balpoe",
    dataset: Annotated[
        str, typer.Option(help="Data set", rich_help_panel=DATA, autocompletion=completion.datasets)
    ] = "digits-lt",
    trials: Annotated[
        int,
        typer.Option(help="Total number of trials of a method; an interrupted search resumes", rich_help_panel=METHODS),
    ] = 20,
    epochs: Epochs = None,
    backbone: Backbone = None,
    imbalance_ratio: Ratio = None,
    imbalance: Imbalance = None,
    class_order: ClassOrder = None,
    recipe: RecipeName = None,
    lr: Rate = None,
    batch_size: BatchSize = None,
    image_size: ImageSize = None,
    cache_resized: CacheResized = None,
    decode_on_gpu: DecodeOnGpu = None,
    settings: Settings = None,
    search: Annotated[
        str | None,
        typer.Option(help="Further hyper-parameters to search (off by default), e.g. sam", rich_help_panel=METHODS),
    ] = None,
    space: Annotated[
        Path | None,
        typer.Option(
            help="TOML file with ranges and choices in place of the method's own: a table for each hyper-parameter",
            rich_help_panel=METHODS,
        ),
    ] = None,
    objectives: Annotated[
        str,
        typer.Option(
            help="Metrics to optimise on validation, e.g. macro,ece for a Pareto front",
            rich_help_panel=METHODS,
        ),
    ] = "macro",
    sampler: Annotated[
        Sampler,
        typer.Option(
            help="Sampler of the trials; cmaes takes ltbench[cmaes] and ranges alone", rich_help_panel=METHODS
        ),
    ] = "tpe",
    pruner: Annotated[
        Pruner,
        typer.Option(
            help="Pruner, which ends trials early that do worse on validation images", rich_help_panel=METHODS
        ),
    ] = "none",
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of all trials  [default: 1000]", rich_help_panel=METHODS)
    ] = None,
    data_dir: DataDir = None,
    labels: LabelTable = None,
    label_columns: LabelColumns = None,
    keep_classes_without_test_images: KeepClassesWithoutTestImages = None,
    device: Device = "auto",
    precision: Precision = None,
    pretrained: Pretrained = None,
    weights: Weights = None,
    train: Train = None,
    feature_views: FeatureViews = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the search; of several methods, FOLDER/METHOD  [default: tune/DATASET-METHOD]",
            rich_help_panel=RESULTS,
        ),
    ] = None,
    compiled: Compiled = None,
    workers: Workers = None,
    storage: Annotated[
        str | None,
        typer.Option(
            help="Share the search with other workers, each started by this command: postgresql://... or "
            "grpc://HOST:PORT  [default: a file in the folder, for one host]",
            rich_help_panel=MACHINE,
        ),
    ] = None,
    parallel: Parallel = 1,
    tensorboard: TensorBoard = None,
    methods_dir: MethodsDir = None,
) -> None:
    """Search the hyper-parameters of methods.

    The objective is macro accuracy, or --objectives, on a validation part of train, never on the test set.
    """
    with getting_ready("tune"):
        check_parallel(parallel)
        if storage is not None and parallel > 1:
            hint = "start the command once for each worker, on any number of hosts"
            raise LtbenchError("with --storage each command is one worker", where="--parallel", hint=hint)
        if trials < 1:
            raise LtbenchError(f"{trials} trials are too few", where="--trials", hint="ask for at least one")
        add_methods(methods_dir, method)
        from ltbench.runs.run_list import TUNING_SEED

        flags = given(
            method=method,
            dataset=dataset,
            backbone=backbone,
            imbalance_ratio=imbalance_ratio,
            labels=labels,
            label_columns=label_columns,
            imbalance=imbalance,
            class_order=class_order,
            epochs=epochs,
            recipe=recipe,
            lr=lr,
            batch_size=batch_size,
            image_size=image_size,
            precision=precision,
            pretrained=pretrained,
            weights=weights,
            train=train,
            feature_views=feature_views,
            cache_resized=cache_resized,
            decode="gpu" if decode_on_gpu else None,
            keep_classes_without_test_images=keep_classes_without_test_images,
            hyperparameters=hyperparameters(settings),
            seed=TUNING_SEED if seed is None else seed,
        )
        names = [name for word in objectives.split(",") if (name := word.strip())]
        search_settings = SearchSettings(tuple(names), sampler, pruner)
        searches = planned_searches(flags, search, space, search_settings)
        check_data_is_there([base for base, _ in searches], data_dir)
        if not sys.stderr.isatty():
            echo_stderr(f"{trials} trials of {', '.join(base.method for base, _ in searches)} on {dataset}")
        import ltbench.runs.tune  # noqa: F401  (takes seconds)

    refused = 0
    for base, chosen in searches:
        folder = out or Path("tune") / f"{dataset_folder(dataset)}-{base.method}"
        if out is not None and len(searches) > 1:
            folder = out / base.method
        options = run_options(
            data_dir, device=device, out=folder / "runs", compiled=compiled, workers=workers, tensorboard=tensorboard
        )
        try:
            carry_out(base, trials, folder, options, search_settings, chosen, parallel, storage)
        except LtbenchError as error:  # the other methods keep their budget
            if len(searches) == 1 or isinstance(error, SaveError):
                raise
            echo_stderr(f"ltbench: {base.method}: {error}")
            refused += 1
    if refused:
        raise typer.Exit(1)


def planned_searches(
    flags: "Mapping[str, Any]", search: str | None, space: Path | None, settings: SearchSettings
) -> "list[tuple[RunConfig, dict[str, Range | Choice]]]":
    """The searches that flags ask for, one a method: what their trials share, and what they choose.

    Args:
        flags: settings from the command line.
        search: names of further hyper-parameters to search, by commas.
        space: TOML file with options in place of those that methods declare.
        settings: what the searches optimise, and how.

    Raises:
        LtbenchError: for what cannot be searched, before anything is imported that takes long.
    """
    from ltbench.runs.resolve import check_search, search_space
    from ltbench.runs.run_list import expand
    from ltbench.runs.space_file import read_space

    bases = expand([{}], flags)
    further = [*filter(None, map(str.strip, (search or "").split(",")))]
    own = read_space(space, [base.method for base in bases]) if space is not None else {}
    searches = [(base, search_space(base, further, own.get(base.method))) for base in bases]
    for base, chosen in searches:
        settings.check(chosen)
        check_search(base, chosen)
    return searches


def carry_out(
    base: "RunConfig",
    trials: int,
    folder: Path,
    options: "RunOptions",
    settings: SearchSettings,
    space: "Mapping[str, Range | Choice]",
    parallel: int,
    storage: str | None,
) -> None:
    """Search behind a progress bar for each trial, and print the best trial with the command that runs it.

    Args:
        base: settings of all trials.
        trials: total number of trials.
        folder: of the search.
        options: of all trials.
        settings: what the search optimises, and how.
        space: what it chooses.
        parallel: number of concurrent trials.
        storage: URL of what other workers share the search in; None: there are none.
    """
    from ltbench.cli import reproduce
    from ltbench.cli.progress_bars import RunProgress
    from ltbench.runs import tune as tuning

    earlier: list[FrozenTrial] = []

    with RunProgress(trials, lambda position: base.method, "trial") as progress:

        def begin(finished: "Sequence[FrozenTrial]") -> None:
            earlier.extend(finished)
            progress.skip(len(finished))
            progress.best = _best(earlier, settings)

        def print_trial(trial: "FrozenTrial") -> None:
            earlier.append(trial)
            progress.best = _best(earlier, settings)
            progress.print_result(trial_line(trial, settings))

        options = replace(options, listener=progress.listener)
        if storage is not None:
            from ltbench.runs.shared_search import tune_shared

            found = tune_shared(base, trials, folder, storage, options, print_trial, begin, settings, space)
        else:
            found = tuning.tune(base, trials, folder, options, print_trial, parallel, begin, settings, space)
    print_found(found, reproduce.folder_options(base, options.data_dir), settings)


def print_found(found: "SearchResult", folders: "Sequence[str]", settings: SearchSettings) -> None:
    """Print the best trial or the Pareto front, and the command that runs the best on other seeds.

    Args:
        found: by the search.
        folders: the options of that command for its folders.
        settings: what the search has optimised.
    """
    from ltbench.cli.console import console, escaped

    run_words = ["ltbench", "run", "--config", str(found.best_file), "--seeds", "0-4", *folders]
    pruned = f", {found.pruned} pruned" if settings.pruner != "none" else ""
    counts = f"{found.trials} trials ({found.failed} failed{pruned})"
    if found.front:
        console.print(f"Pareto front: {len(found.front)} of {counts}, best {settings.objectives[0]} first:")
        for path, trial in found.front.items():
            console.print(f"  {escaped(str(path))}: {_what(trial, settings)}")
        files = f"{found.best_file}: the first of them"
    else:
        files = str(found.best_file)
        console.print(f"best of {counts}: validation {settings.named(found.values)}")
    console.print(f"  {escaped(files)}\nnext: {escaped(shlex.join(run_words))}")


def _best(trials: "Sequence[FrozenTrial]", settings: SearchSettings) -> str:
    """The best trial so far, in a few words; nothing before one has ended well."""
    from ltbench.runs.conclusion import best_trials

    best = best_trials(trials, settings)
    return f"best {settings.named(best[0].values)} (trial {best[0].number + 1})" if best else ""


def trial_line(trial: "FrozenTrial", settings: SearchSettings = USUAL) -> str:
    """One trial as rich's markup: number, hyper-parameters, and what it reached or why it ended."""
    return f"trial {trial.number + 1}: {_what(trial, settings)}"


def _what(trial: "FrozenTrial", settings: SearchSettings) -> str:
    from optuna.trial import TrialState

    from ltbench.cli.console import escaped
    from ltbench.config.format_settings import format_settings
    from ltbench.runs.conclusion import figures

    if trial.state == TrialState.PRUNED:
        found = f"pruned after {trial.last_step} epochs at {settings.named([trial.value])}"
    elif trial.state == TrialState.COMPLETE:
        reached = figures(trial, settings).items()
        found = "  ".join(f"{name.upper() if name in _CAPITALS else name} {value:.2f}" for name, value in reached)
    else:
        found = trial.user_attrs["reason"]
    return escaped(f"{format_settings(trial.user_attrs['hyperparameters'])}: {found}")


_CAPITALS = ("ece", "mce", "nll")
"""Metrics that are abbreviations."""
