"""Command-line options that several commands share, and the values that they stand for."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ltbench.cli import completion
from ltbench.errors import LtbenchError

if TYPE_CHECKING:
    from ltbench.config import RunConfig
    from ltbench.runs.options import RunOptions

METHODS, DATA, RECIPE, MACHINE, LAUNCHER, RESULTS = "Method", "Data", "Recipe", "Machine", "Launcher", "Results"
"""Groups of options in ``--help``."""

Methods = Annotated[
    str | None,
    typer.Option(
        help="Method, a comma-separated list, or all  [default: balpoe]",
        rich_help_panel=METHODS,
        autocompletion=completion.methods,
    ),
]
Dataset = Annotated[
    str | None,
    typer.Option(help="Data set  [default: digits-lt]", rich_help_panel=DATA, autocompletion=completion.datasets),
]
DataDir = Annotated[
    Path | None,
    typer.Option(help="Folder that holds the data set  [default: $LTBENCH_DATA or ./data]", rich_help_panel=DATA),
]
Device = Annotated[str, typer.Option(help="Device: auto, cpu or cuda", rich_help_panel=MACHINE)]
MethodsDir = Annotated[Path | None, typer.Option(help="Folder of your own method files", rich_help_panel=METHODS)]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="Hyper-parameter, e.g. --set taus=0,1,2 --set mixup=0.4", rich_help_panel=METHODS),
]
Ratio = Annotated[
    float | None,
    typer.Option(
        help="Imbalance ratio: largest over smallest class count  [default: the data set's, e.g. 100 for CIFAR; "
        "folders and official lists are used as they are]",
        rich_help_panel=DATA,
    ),
]
Imbalance = Annotated[
    Literal["exp", "step"] | None,
    typer.Option(
        help="Class counts of the long-tailed subset: exp falls exponentially, step is full for half of the classes "
        "and small for the others  [default: exp]",
        rich_help_panel=DATA,
    ),
]
ClassOrder = Annotated[
    Literal["label", "drawn"] | None,
    typer.Option(
        help="Largest classes of the long-tailed subset: the first labels, or drawn by the data seed  [default: label]",
        rich_help_panel=DATA,
    ),
]
Precision = Annotated[
    Literal["fp32", "bf16"] | None,
    typer.Option(help="Number format of the network's arithmetic  [default: fp32]", rich_help_panel=RECIPE),
]
Epochs = Annotated[
    int | None, typer.Option(help="Number of training epochs; the schedule scales with them", rich_help_panel=RECIPE)
]
RecipeName = Annotated[
    str | None,
    typer.Option(
        help="Training recipe: standard, long, finetune (for weights), paper (each method's own) or a TOML file  "
        "[default: standard]",
        rich_help_panel=RECIPE,
        autocompletion=completion.recipes,
    ),
]
Rate = Annotated[float | None, typer.Option(help="Learning rate", rich_help_panel=RECIPE)]
BatchSize = Annotated[int | None, typer.Option(help="Global batch size, over all processes", rich_help_panel=RECIPE)]
CacheResized = Annotated[
    int | None,
    typer.Option(
        min=4,
        max=4096,
        help="Read images from the resize cache: JPEG copies of this shorter side; faster, pixel values differ "
        "slightly  [default: original files]",
        rich_help_panel=DATA,
    ),
]
DecodeOnGpu = Annotated[
    bool | None,
    typer.Option(
        "--decode-on-gpu",
        help="JPEGs are decoded on the GPU (nvJPEG); pixel values differ slightly",
        rich_help_panel=DATA,
    ),
]
KeepClassesWithoutTestImages = Annotated[
    bool | None,
    typer.Option(
        "--keep-classes-without-test-images",
        help="Train on classes of an image folder that have no test images, instead of refusing them; their accuracy "
        "is n/a",
        rich_help_panel=DATA,
    ),
]
LabelTable = Annotated[
    str | None,
    typer.Option(
        "--labels",
        help="Table of the labels of a folder's images (CSV, JSON lines, parquet), in --data-dir or elsewhere: path, "
        "label and perhaps split  [default: class folders, or a table in the folder]",
        rich_help_panel=DATA,
    ),
]
LabelColumns = Annotated[
    str | None,
    typer.Option(
        help="Columns of the table: path=COLUMN,label=COLUMN,split=COLUMN  [default: by their names]",
        rich_help_panel=DATA,
    ),
]
ImageSize = Annotated[int | None, typer.Option(help="Side of the images in pixels", rich_help_panel=DATA)]
Backbone = Annotated[
    str | None,
    typer.Option(
        help="Any timm model, or cifar_resnet8, 20, 32, 44, 56, cifar_resnet32_wide",
        rich_help_panel=METHODS,
        autocompletion=completion.backbones,
    ),
]
Pretrained = Annotated[
    bool | None, typer.Option("--pretrained", help="Start from timm's pretrained weights", rich_help_panel=METHODS)
]
Weights = Annotated[
    str | None,
    typer.Option(
        help="Pre-trained weights: a file (.safetensors, .pth), a folder, hf-hub:OWNER/MODEL, or timm",
        rich_help_panel=METHODS,
    ),
]
Train = Annotated[
    Literal["all", "head"] | None,
    typer.Option(
        help="Train all, or the head alone on frozen features (linear probing)  [default: all]",
        rich_help_panel=METHODS,
    ),
]
FeatureViews = Annotated[
    int | None,
    typer.Option(
        help="With --train head: augmented views of an image that are encoded  [default: 4]", rich_help_panel=METHODS
    ),
]
Suite = Annotated[
    str | None,
    typer.Option(
        help="Suite: one of ltbench list suites, or a TOML file",
        rich_help_panel=METHODS,
        autocompletion=completion.suites,
    ),
]
Parallel = Annotated[
    int,
    typer.Option(
        help="Number of concurrent runs, one process each; the cores are divided among them, and another number of "
        "threads may change the last digits of a result",
        rich_help_panel=MACHINE,
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=1000,
        help="Number of threads that decode image files not kept in memory  [default: number of cores]",
        rich_help_panel=MACHINE,
    ),
]
Compiled = Annotated[
    bool | None,
    typer.Option(
        "--compile/--no-compile",
        help="Compile training steps (torch.compile)  [default: long runs on a GPU]",
        rich_help_panel=MACHINE,
    ),
]
TensorBoard = Annotated[
    Path | None,
    typer.Option("--tensorboard", help="Folder for TensorBoard event files  [default: none]", rich_help_panel=RESULTS),
]
Accumulate = Annotated[
    int,
    typer.Option(
        min=1,
        help="Gradient-accumulation steps per batch: less memory, same global batch size",
        rich_help_panel=MACHINE,
    ),
]
CheckpointActivations = Annotated[
    bool,
    typer.Option(
        "--checkpoint-activations",
        help="Recompute activations in the backward pass: less memory, more time",
        rich_help_panel=MACHINE,
    ),
]
Shard = Annotated[
    bool,
    typer.Option(
        "--shard",
        help="Shard parameters, gradients and momentum over the processes of torchrun (FSDP): less memory",
        rich_help_panel=MACHINE,
    ),
]
BatchNormImages = Annotated[
    int | None,
    typer.Option(
        help="Images per SyncBatchNorm group, e.g. the global batch size  [default: the micro-batch of a process]",
        rich_help_panel=RECIPE,
    ),
]
ResultFolders = Annotated[
    list[Path] | None, typer.Option("--results", help="Folder of results; may be repeated  [default: runs]")
]
DataSeed = Annotated[
    int | None,
    typer.Option(help="Seed that draws the images of the long-tailed subset  [default: 0]", rich_help_panel=DATA),
]
Jobs = Annotated[
    Path, typer.Option(help="Folder of job folders, on a file system that all machines share", rich_help_panel=LAUNCHER)
]
Out = Annotated[Path, typer.Option(help="Folder of results", rich_help_panel=RESULTS)]
StoredRun = Annotated[
    str, typer.Argument(help="Run id, its first digits, or a result file", autocompletion=completion.runs)
]


def given(**options: Any) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value is not None}


MOST_AT_ONCE = 1000


def check_parallel(count: int) -> None:
    """Refuse fewer than one concurrent run, and more than a machine has room for.

    Raises:
        LtbenchError: if so.
    """
    if count < 1:
        raise LtbenchError(f"{count} concurrent runs are too few", where="--parallel", hint="give a number from 1")
    if count > MOST_AT_ONCE:
        hint = f"give a number up to {MOST_AT_ONCE}; each run is a process"
        raise LtbenchError("too many concurrent runs", where="--parallel", hint=hint)


def hyperparameters(settings: list[str] | None) -> dict[str, Any]:
    """The values of ``--set``, by name.

    Raises:
        LtbenchError: for text that sets nothing, or a value that is too large to parse.
    """
    found: dict[str, Any] = {}
    for setting in settings or []:
        name, equals, text = setting.partition("=")
        if not equals:
            raise LtbenchError(f"'{setting}' has no '='", where="--set", hint="write --set NAME=VALUE")
        try:
            found[name.strip()] = _value(text.strip())
        except (ValueError, RecursionError):
            raise LtbenchError(
                f"the value of '{name.strip()}' has thousands of digits, or is nested thousands deep",
                where="--set",
                hint="give a number, true or false, a comma-separated list, or JSON",
            ) from None
    return found


def _value(text: str) -> Any:
    """A number, true or false, a comma-separated list or JSON, else text."""
    for candidate in (text, f"[{text}]"):
        try:
            return json.loads(candidate)
        except json.JSONDecodeError:
            continue
    return text


def data_folder(given: Path | None) -> Path:
    """The folder of data sets: the one given, else the default."""
    from ltbench.files.paths import data_dir

    return given or data_dir()


def check_data_is_there(configs: "Sequence[RunConfig]", data_dir: Path | None) -> None:
    """Refuse runs whose data set is not there, before what takes long to import.

    A process of several goes on: it has to tell the others, which wait for it, and they see other folders.

    Raises:
        LtbenchError: that of the data set.
    """
    if os.environ.get("WORLD_SIZE", "1") != "1":
        return
    from ltbench.runs import data_folder as of_runs

    of_runs.check_data_is_there(configs, data_folder(data_dir))


def run_options(data_dir: Path | None, **options: Any) -> "RunOptions":
    """Where and how runs are carried out."""
    from ltbench.runs.options import RunOptions

    return RunOptions(data_dir=data_folder(data_dir), **options)


def add_methods(folder: Path | None, named: str | None = None) -> None:
    """Make the methods of a folder known, and refuse unknown names at once, before what takes long to import.

    Args:
        folder: of method files; None: there is none.
        named: names of methods that must be known, by commas, or "all".
    """
    from ltbench import registry

    if folder is not None:
        registry.add_methods_dir(folder)
    if named != "all":
        for name in filter(None, map(str.strip, (named or "").split(","))):
            registry.check_method(name)
