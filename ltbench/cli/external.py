"""ltbench score and import-checkpoint: rows of models that ltbench has not trained."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ltbench.cli.options import (
    ClassOrder,
    DataDir,
    DataSeed,
    Device,
    ImageSize,
    Imbalance,
    KeepClassesWithoutTestImages,
    LabelColumns,
    LabelTable,
    Out,
    Ratio,
    data_folder,
    given,
)
from ltbench.cli.output import echo_stderr, getting_ready
from ltbench.errors import LtbenchError
from ltbench.files.paths import DEFAULT_RESULTS

if TYPE_CHECKING:
    from ltbench.config import RunConfig

RowName = Annotated[str, typer.Option(help="Name of the row; none of ltbench's methods")]
DeclaredRecipe = Annotated[
    str,
    typer.Option(help="Recipe or TOML file that the model was trained under; it joins the leaderboard of that recipe"),
]
DeclaredSeed = Annotated[int, typer.Option(help="Seed of the training run; tells repetitions apart")]
LogitPrior = Annotated[
    float | None,
    typer.Option(
        help="Exponent of the training prior left in the logits: 1 for cross entropy, 0 for balanced ones; without it "
        "there are no metrics with a corrected prior"
    ),
]


def score(
    file: Annotated[
        Path,
        typer.Argument(
            help="NumPy archive (.npz) with logits or probabilities (N, C); optionally labels (N,), experts (M, N, C), "
            "and names by which columns and rows are put in order: classes (C,) and files (N,)"
        ),
    ],
    name: RowName,
    dataset: Annotated[str, typer.Option(help="Data set; one that is unknown to ltbench needs --train-counts")],
    imbalance_ratio: Ratio = None,
    imbalance: Imbalance = None,
    class_order: ClassOrder = None,
    data_dir: DataDir = None,
    labels: LabelTable = None,
    label_columns: LabelColumns = None,
    data_seed: DataSeed = None,
    image_size: ImageSize = None,
    keep_classes_without_test_images: KeepClassesWithoutTestImages = None,
    train_counts: Annotated[
        Path | None,
        typer.Option(help="File of class counts of the training set: one line or JSON entry per class, in label order"),
    ] = None,
    recipe: DeclaredRecipe = "external",
    seed: DeclaredSeed = 0,
    logit_prior: LogitPrior = None,
    transductive: Annotated[
        bool, typer.Option("--transductive", help="The model has seen the test images without their labels")
    ] = False,
    out: Out = DEFAULT_RESULTS,
) -> None:
    """Evaluate predictions of a model trained elsewhere.

    They become one row of a leaderboard. ltbench data order lists the images in the order that the file must have.
    """
    from ltbench.cli.console import print_text, terminal_width
    from ltbench.cli.result_line import result_line
    from ltbench.config import RunConfig, validated

    settings = given(
        imbalance_ratio=imbalance_ratio,
        labels=labels,
        label_columns=label_columns,
        imbalance=imbalance,
        class_order=class_order,
        data_seed=data_seed,
        image_size=image_size,
        keep_classes_without_test_images=keep_classes_without_test_images,
    )
    config = validated(RunConfig, {**settings, "method": name, "dataset": dataset, "recipe": recipe, "seed": seed})
    from ltbench.external.rows import OR_COUNTS

    _check(
        file,
        config,
        logit_prior,
        None if train_counts else OR_COUNTS,
        missing="cannot read the predictions: No such file",
    )
    with getting_ready("score"):
        from ltbench.external.score import score as measured

    result, path = measured(
        file,
        config,
        data_dir=data_folder(data_dir),
        train_counts=train_counts,
        logit_prior=logit_prior,
        transductive=transductive,
        out=out,
    )
    about = result.provenance["scored"]
    if about["labels"] == "not given" and "images" not in about:
        echo_stderr("ltbench: note: the file has neither labels nor names of images: their order could not be checked")
    print_text(result_line(result, path, width=terminal_width()))


def import_checkpoint(
    file: Annotated[Path, typer.Argument(help="State dictionary of a CIFAR ResNet (.pth, .pt, .tar, .safetensors)")],
    name: RowName,
    dataset: Annotated[str, typer.Option(help="Data set")],
    imbalance_ratio: Ratio = None,
    imbalance: Imbalance = None,
    class_order: ClassOrder = None,
    data_dir: DataDir = None,
    labels: LabelTable = None,
    label_columns: LabelColumns = None,
    data_seed: DataSeed = None,
    image_size: ImageSize = None,
    keep_classes_without_test_images: KeepClassesWithoutTestImages = None,
    recipe: DeclaredRecipe = "external",
    seed: DeclaredSeed = 0,
    logit_prior: LogitPrior = None,
    device: Device = "auto",
    out: Out = DEFAULT_RESULTS,
) -> None:
    """Evaluate a published checkpoint.

    It becomes one row of a leaderboard, and weights for predict and export. The command reads the CIFAR ResNets (20 to
    56) of the code of LDAM, RIDE, SADE and BalPoE: one expert or several, full or three quarters of the width, linear
    or cosine classifier. Which of these it is, is read from the checkpoint.
    """
    from ltbench.cli.console import print_text, terminal_width
    from ltbench.cli.result_line import result_line
    from ltbench.config import RunConfig, validated

    settings = given(
        imbalance_ratio=imbalance_ratio,
        labels=labels,
        label_columns=label_columns,
        imbalance=imbalance,
        class_order=class_order,
        data_seed=data_seed,
        image_size=image_size,
        keep_classes_without_test_images=keep_classes_without_test_images,
    )
    config = validated(RunConfig, {**settings, "method": name, "dataset": dataset, "recipe": recipe, "seed": seed})
    _check(file, config, logit_prior, missing="the file is not there")
    with getting_ready("import-checkpoint"):
        from ltbench.external.checkpoint import import_checkpoint as imported

    result, path, network = imported(
        file, config, data_dir=data_folder(data_dir), logit_prior=logit_prior, device=device, out=out
    )
    echo_stderr(f"{file}: {network}")
    print_text(result_line(result, path, width=terminal_width()))


def _check(
    file: Path, config: "RunConfig", logit_prior: float | None, dataset_from: str | None = "--dataset", *, missing: str
) -> None:
    """Refuse at once what is seen without the data.

    Args:
        file: to evaluate.
        config: settings of the row.
        logit_prior: as given.
        missing: what to say of a file that is not there.
        dataset_from: where the data set was given; None: ltbench need not know it.

    Raises:
        LtbenchError: for a row's name that is none, an unknown data set, or a file that is not there.
    """
    from ltbench import registry
    from ltbench.external.rows import check_row

    check_row(config.method, logit_prior)
    if dataset_from is not None:
        registry.check_dataset(config.dataset, where=dataset_from)
    if not file.exists():
        raise LtbenchError(missing, where=file.absolute(), hint="check its name and folder")
