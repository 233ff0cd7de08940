"""Options that several commands share, and what their values mean."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ltbench.errors import LtbenchError
from ltbench.printable import printable

if TYPE_CHECKING:
    from ltbench.runs.options import RunOptions

DataDir = Annotated[Path | None, typer.Option(help="Folder of the data set  [default: $LTBENCH_DATA or ./data]")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda")]
MethodsDir = Annotated[Path | None, typer.Option(help="Folder with method files of your own")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="Hyper-parameter, e.g. --set taus=0,1,2 --set mixup=0.4")
]
Ratio = Annotated[float | None, typer.Option(help="Imbalance ratio, head count over tail count")]
Precision = Annotated[Literal["fp32", "bf16"] | None, typer.Option(help="Arithmetic of the network  [default: fp32]")]
Epochs = Annotated[int | None, typer.Option(help="Length of training; milestones move along")]
RecipeName = Annotated[
    str | None, typer.Option(help="standard, long, paper (each method's own) or a TOML file  [default: standard]")
]
Rate = Annotated[float | None, typer.Option(help="Learning rate")]
BatchSize = Annotated[int | None, typer.Option(help="Global batch size")]
CacheResized = Annotated[
    int | None,
    typer.Option(
        min=4,
        max=4096,
        help="Scale image files once, to this shorter side, and decode the copies, which are kept in the cache: "
        "faster, other pixels  [default: the files themselves]",
    ),
]
DecodeOnGpu = Annotated[
    bool | None,
    typer.Option("--decode-on-gpu", help="Decode image files there, a few at a time (nvJPEG, which rounds otherwise)"),
]
KeepUntested = Annotated[
    bool | None,
    typer.Option(
        "--keep-classes-without-test-images",
        help="Train on classes of a folder that have no test images, instead of refusing them; theirs is n/a",
    ),
]
ImageSize = Annotated[int | None, typer.Option(help="Side of the images, pixels")]
Backbone = Annotated[str | None, typer.Option(help="Any timm model, or cifar_resnet20 to 56")]
Pretrained = Annotated[bool | None, typer.Option("--pretrained", help="Start from timm's weights")]
Parallel = Annotated[
    int,
    typer.Option(
        help="Runs at once, each in a process with its share of the cores; "
        "another number of threads may change the last digits of a result"
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=0, max=1000, help="Threads that decode image files that are not kept in memory  [default: one a core]"
    ),
]
Compiled = Annotated[
    bool | None, typer.Option("--compile/--no-compile", help="Compile training steps  [default: long runs on a GPU]")
]
TensorBoard = Annotated[
    Path | None,
    typer.Option("--tensorboard", help="Folder for training curves as TensorBoard reads them  [default: none]"),
]
Accumulate = Annotated[
    int,
    typer.Option(
        min=1, help="Parts of a batch, one after the other, whose gradients are added up: less memory, same batch"
    ),
]
CheckpointActivations = Annotated[
    bool,
    typer.Option(
        "--checkpoint-activations", help="Compute activations again in the backward pass: less memory, more time"
    ),
]
Shard = Annotated[
    bool, typer.Option("--shard", help="Divide the network's parameters over the processes of torchrun: less memory")
]
BatchNormImages = Annotated[
    int | None,
    typer.Option(help="Images that share batch norm's statistics, e.g. the whole batch  [default: of each process]"),
]
ResultFolders = Annotated[
    list[Path] | None, typer.Option("--results", help="Folder of results; several may be given  [default: results]")
]
DataSeed = Annotated[int | None, typer.Option(help="Draws the images of the long-tailed subset  [default: 0]")]


def say(text: str) -> None:
    """Print to standard error, with what acts on a terminal written out."""
    typer.echo(printable(text), err=True)


def tell(text: object) -> None:
    """Print to standard output, with what acts on a terminal written out."""
    typer.echo(printable(str(text)))


def emit(text: str, output: Path | None) -> None:
    """Write what a command makes to a file, or to standard output."""
    if output is not None:
        from ltbench.files.output import write_text

        write_text(output, text)
    else:
        sys.stdout.write(printable(text) if sys.stdout.isatty() else text)


def given(**options: Any) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value is not None}


MOST_AT_ONCE = 1000


def check_parallel(count: int) -> None:
    """Refuse fewer than one run at once, and more than a machine has room for."""
    if count < 1:
        raise LtbenchError(f"{count} runs at once are too few", where="--parallel", hint="give a number from 1")
    if count > MOST_AT_ONCE:
        hint = f"give a number up to {MOST_AT_ONCE}; each run is a process"
        raise LtbenchError("so many runs at once are too many", where="--parallel", hint=hint)


def hyperparameters(settings: list[str] | None) -> dict[str, Any]:
    """The values of --set, by name."""
    found: dict[str, Any] = {}
    for setting in settings or []:
        name, equals, text = setting.partition("=")
        if not equals:
            raise LtbenchError(f"'{setting}' sets nothing", where="--set", hint="write --set NAME=VALUE")
        try:
            found[name.strip()] = _value(text.strip())
        except (ValueError, RecursionError):
            raise LtbenchError(
                f"the value of '{name.strip()}' has thousands of digits, or is nested thousands deep", where="--set"
            ) from None
    return found


def _value(text: str) -> Any:
    """A number, true or false, a list by commas or as JSON, else text."""
    for candidate in (text, f"[{text}]"):
        try:
            return json.loads(candidate)
        except json.JSONDecodeError:
            continue
    return text


def data_folder(given: Path | None) -> Path:
    """Where data sets are looked for."""
    from ltbench.paths import data_dir

    return given or data_dir()


def surroundings(data_dir: Path | None, **options: Any) -> "RunOptions":
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
