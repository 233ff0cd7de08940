"""ltbench predict, export and import-checkpoint: trained networks, ours and others'."""

import io
import sys
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ltbench.cli.options import (
    DataDir,
    DataSeed,
    Device,
    ImageSize,
    KeepUntested,
    MethodsDir,
    Ratio,
    ResultFolders,
    add_methods,
    data_folder,
    emit,
    given,
    say,
    tell,
)

if TYPE_CHECKING:
    from ltbench.deploy.predictor import Predictor

Run = Annotated[str, typer.Argument(help="A run id, the first digits of one, or a result file")]
DeclaredRecipe = Annotated[
    str, typer.Option(help="Recipe or TOML file that it was trained under, to stand beside rows of that recipe")
]
LogitPrior = Annotated[
    float | None,
    typer.Option(
        help="Exponent of the training prior left in the logits, 1 for cross entropy, 0 balanced; "
        "without it no figures with a corrected prior"
    ),
]


def predict(
    run: Run,
    images: Annotated[list[Path], typer.Argument(help="Image files, or folders with images in them or below")],
    output: Annotated[Path | None, typer.Option(help="CSV file to write  [default: standard output]")] = None,
    top: Annotated[int | None, typer.Option(min=1, help="Write the K most probable classes  [default: all]")] = None,
    device: Device = "auto",
    results: ResultFolders = None,
    data_dir: DataDir = None,
    methods_dir: MethodsDir = None,
) -> None:
    """Label new images with a finished run: a CSV line an image, with label and probabilities.

    Needs the run's weights, which are in the cache. Images are scaled and cut as for training. Exit code 1 if some
    files could not be read; they are named, and have no line.
    """
    from ltbench.deploy import images as labelling

    add_methods(methods_dir)
    files, others = labelling.image_files(images)
    predictor = _restored(run, results, data_dir, device)
    gone = [file for file in others if not file.exists()]
    for kind, left in (("a link that leads nowhere", gone), ("not named like an image", set(others) - set(gone))):
        if left:
            say(f"ltbench: note: left out, {kind}: {min(left)}" + _and_more(left))
    if several := labelling.with_several_frames(files):
        say(f"ltbench: note: of several frames the first is labelled: {several[0]}" + _and_more(several))
    reasons: dict[Path, str] = {}
    found = labelling.logits_of(predictor, files, reasons.__setitem__)
    if output is None and not sys.stdout.isatty():
        damaged = labelling.write_csv(sys.stdout, predictor.card.classes, found, top)
    else:
        text = io.StringIO()
        damaged = labelling.write_csv(text, predictor.card.classes, found, top)
        emit(text.getvalue(), output)
    for file in damaged:
        say(f"left out: {file}: {reasons[file]}")
    say(f"{len(files) - len(damaged)} of {len(files)} images labelled" + (f": {output}" if output else ""))
    if damaged:
        raise typer.Exit(1)


def _and_more(files: Collection[Path]) -> str:
    return f" and {len(files) - 1} more" if len(files) > 1 else ""


def _restored(run: str, results: list[Path] | None, data_dir: Path | None, device: str) -> "Predictor":
    """A stored run with its weights."""
    from ltbench.cli import console
    from ltbench.deploy.predictor import describe, restore
    from ltbench.report.find import find_run
    from ltbench.results import external
    from ltbench.training.device import choose_device

    result, path = find_run(run, results or [Path("results")])
    card = describe(result, data_folder(data_dir))
    return restore(card, choose_device(device), remake=external.command(result) or console.command(result.config, path))


def export(
    run: Run,
    style: Annotated[Literal["torchscript", "onnx", "safetensors"], typer.Option("--format", help="Of the file")],
    output: Annotated[Path | None, typer.Option(help="File to write  [default: METHOD-RUN in this folder]")] = None,
    results: ResultFolders = None,
    data_dir: DataDir = None,
    methods_dir: MethodsDir = None,
) -> None:
    """Write a finished run as a file that predicts by itself: float32 images (N, channels, H, W) in [0, 1] to logits.

    The images are normalised inside; the file's metadata (key "ltbench", JSON) has the classes, mean and deviation,
    run id, input size, the exponent of the training prior that is left in the logits, and ltbench's version.
    torchscript: torch.jit.load(FILE). onnx: needs ltbench[onnx]; input "images", output "logits". safetensors:
    the weights, for ltbench.load_predictor(FILE). The file is loaded and compared with the run before it is kept.
    """
    from ltbench.deploy import export as exporting

    add_methods(methods_dir)
    exporting.check_packages(style)
    predictor = _restored(run, results, data_dir, "cpu")
    card = predictor.card
    path = output or Path(f"{card.config.method}-{card.run_id}{exporting.FORMATS[style].suffix}")
    difference = exporting.export(predictor, style, path)
    size = ", ".join(map(str, card.input))
    tell(
        f"{path}: (N, {size}) float32 pixels in [0, 1] -> (N, {len(card.classes)}) logits\n"
        f"  loaded and compared with the run: largest difference {difference:.1e}"
    )


def import_checkpoint(
    file: Annotated[Path, typer.Argument(help="State dictionary of a CIFAR ResNet (.pth, .pt, .tar, .safetensors)")],
    name: Annotated[str, typer.Option(help="Of the row; no method of ltbench")],
    dataset: Annotated[str, typer.Option(help="Data set")],
    imbalance_ratio: Ratio = None,
    data_dir: DataDir = None,
    data_seed: DataSeed = None,
    image_size: ImageSize = None,
    keep_classes_without_test_images: KeepUntested = None,
    recipe: DeclaredRecipe = "external",
    seed: Annotated[int, typer.Option(help="Of the training run, to tell its repetitions apart")] = 0,
    logit_prior: LogitPrior = None,
    device: Device = "auto",
    out: Annotated[Path, typer.Option(help="Folder of results")] = Path("results"),
) -> None:
    """Evaluate a published checkpoint as it is: a row, and weights for predict and export.

    Takes the CIFAR ResNets (20 to 56) of LDAM's, RIDE's, SADE's and BalPoE's code, with one expert or several, at full
    or three quarters of the width, with a linear or a cosine classifier; which it is, its entries tell.
    """
    from ltbench.cli import console
    from ltbench.config import RunConfig, validated
    from ltbench.external.checkpoint import import_checkpoint as imported

    settings = given(
        imbalance_ratio=imbalance_ratio, data_seed=data_seed, image_size=image_size,
        keep_classes_without_test_images=keep_classes_without_test_images,
    )  # fmt: skip
    config = validated(RunConfig, {**settings, "method": name, "dataset": dataset, "recipe": recipe, "seed": seed})
    result, path, network = imported(
        file, config, data_dir=data_folder(data_dir), logit_prior=logit_prior, device=device, out=out
    )
    say(f"{file}: {network}")
    console.out.print(console.line(result, path))
