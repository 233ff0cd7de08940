"""ltbench predict and export: what finished runs are used for."""

import io
import shutil
import sys
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ltbench.cli.options import DataDir, Device, MethodsDir, ResultFolders, StoredRun, add_methods, data_folder
from ltbench.cli.output import echo, echo_stderr, getting_ready, write_output
from ltbench.files.output import write_bytes
from ltbench.files.paths import DEFAULT_RESULTS

if TYPE_CHECKING:
    from ltbench.deploy.predictor import Predictor
    from ltbench.results.schema import Result


def predict(
    run: StoredRun,
    images: Annotated[list[Path], typer.Argument(help="Image files, or folders that are searched for images")],
    output: Annotated[Path | None, typer.Option(help="CSV file to write  [default: standard output]")] = None,
    top: Annotated[
        int | None, typer.Option(min=1, help="Number of most probable classes to write  [default: all]")
    ] = None,
    device: Device = "auto",
    results: ResultFolders = None,
    data_dir: DataDir = None,
    methods_dir: MethodsDir = None,
) -> None:
    """Classify new images with a finished run.

    Each image has one CSV line, with label and probabilities. The run's weights must be in the cache folder. Images
    are resized and cropped as test images are. Unreadable files are named on standard error and have no line; the exit
    code is then 1.
    """
    add_methods(methods_dir)
    found_run = _found(run, results)
    with getting_ready("predict"):
        from ltbench.deploy import images as classification

    files, others = classification.image_files(images)
    predictor = _restored(*found_run, data_dir, device)
    gone = [file for file in others if not file.exists()]
    for kind, left in (("a broken link", gone), ("no image", set(others) - set(gone))):
        if left:
            echo_stderr(f"ltbench: note: left out, {kind}: {min(left)}" + _and_more(left))
    if several := classification.with_several_frames(files):
        echo_stderr(f"ltbench: note: of several frames the first is classified: {several[0]}" + _and_more(several))
    reasons: dict[Path, str] = {}
    found = classification.logits_of(predictor, files, reasons.__setitem__)
    if output is None and not sys.stdout.isatty():
        damaged = classification.write_csv(sys.stdout, predictor.card.classes, found, top)
    else:
        # In a file: with the probabilities of many classes, lines may be more than memory holds.
        with tempfile.TemporaryFile() as lines:
            text = io.TextIOWrapper(lines, encoding="utf-8", errors="backslashreplace", newline="")
            damaged = classification.write_csv(text, predictor.card.classes, found, top)
            text.detach()
            lines.seek(0)
            if output is None:
                write_output(lines.read().decode(), None)
            else:
                write_bytes(output, lambda stream: shutil.copyfileobj(lines, stream))
    for file in damaged:
        echo_stderr(f"left out: {file}: {reasons[file]}")
    echo_stderr(f"{len(files) - len(damaged)} of {len(files)} images classified" + (f": {output}" if output else ""))
    if damaged:
        raise typer.Exit(1)


def _and_more(files: Collection[Path]) -> str:
    return f" and {len(files) - 1} more" if len(files) > 1 else ""


def _found(run: str, results: list[Path] | None) -> "tuple[Result, Path]":
    from ltbench.report.find import find_run

    return find_run(run, results or [DEFAULT_RESULTS])


def _restored(
    result: "Result", path: Path, data_dir: Path | None, device: str, *, exported: bool = False
) -> "Predictor":
    """The predictor of a stored run, with its weights."""
    from ltbench.cli.reproduce import reproduce_command
    from ltbench.deploy.predictor import describe, restore
    from ltbench.results import external
    from ltbench.training.device import choose_device

    card = describe(result, data_folder(data_dir))
    remake = external.command(result) or reproduce_command(result, path)
    return restore(card, choose_device(device), remake, exported=exported)


def export(
    run: StoredRun,
    style: Annotated[Literal["torchscript", "onnx", "safetensors"], typer.Option("--format", help="File format")],
    output: Annotated[
        Path | None, typer.Option(help="File to write  [default: METHOD-RUN in the current folder]")
    ] = None,
    results: ResultFolders = None,
    data_dir: DataDir = None,
    methods_dir: MethodsDir = None,
) -> None:
    """Export a finished run as a standalone predictor.

    It takes float32 images (N, channels, H, W) in [0, 1] and gives logits (N, C). The predictor normalises images
    itself. Its metadata (key "ltbench", JSON) has the classes, mean, standard deviation, run id, input size, logit
    prior (exponent of the training prior left in the logits) and ltbench's version. torchscript: torch.jit.load(FILE).
    onnx: needs ltbench[onnx]; input "images", output "logits". safetensors: the weights, for
    ltbench.load_predictor(FILE). The file is loaded and compared with the run before it is kept.
    """
    add_methods(methods_dir)
    found_run = _found(run, results)
    with getting_ready("export"):
        from ltbench.deploy import export as exporting

    exporting.check_packages(style)
    predictor = _restored(*found_run, data_dir, "cpu", exported=True)
    card = predictor.card
    path = output or Path(f"{card.config.method}-{card.run_id}{exporting.FORMATS[style].suffix}")
    difference = exporting.export(predictor, style, path)
    about = exporting.write_readme(card, style, path)
    size = ", ".join(map(str, card.input))
    echo(
        f"{path}: (N, {size}) float32 pixels in [0, 1] -> (N, {len(card.classes)}) logits\n"
        f"  loaded and compared with the run: largest difference {difference:.1e}"
    )
    if about is not None:
        echo(f"{about}: how a photograph becomes its input, with lines of Python")
