"""The command line: parses, calls, prints. Heavy imports wait inside the commands, so that --help is fast."""

import json
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ltbench.errors import LtbenchError, LtbenchWarning

app = typer.Typer(
    help="Compare methods for long-tailed recognition: one interface, one recipe, honest numbers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(help="Download, set up and check data sets.", no_args_is_help=True)
app.add_typer(data_app, name="data")

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
Compiled = Annotated[
    bool | None, typer.Option("--compile/--no-compile", help="Compile training steps  [default: long runs on a GPU]")
]
DataSeed = Annotated[int | None, typer.Option(help="Draws the images of the long-tailed subset  [default: 0]")]


@app.command()
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
    settings: Settings = None,
    config: Annotated[
        Path | None,
        typer.Option(help="TOML file with settings of a run or a list of runs; or a result to repeat"),
    ] = None,
    data_dir: DataDir = None,
    data_seed: DataSeed = None,
    device: Device = "auto",
    precision: Precision = None,
    pretrained: Pretrained = None,
    validation: Annotated[
        bool | None,
        typer.Option("--validation", help="Hold out 20 % of each training class, e.g. for temperature"),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of results")] = Path("results"),
    rerun: Annotated[bool, typer.Option("--rerun", help="Run again what is stored already")] = False,
    checkpoint_every: Annotated[float, typer.Option(help="Seconds of training between checkpoints")] = 30.0,
    compiled: Compiled = None,
    parallel: Parallel = 1,
    methods_dir: MethodsDir = None,
) -> None:
    """Train and evaluate: by default BalPoE on digits-lt. A stored run is not run again; a stopped one goes on."""
    from ltbench import console, sweep

    _check_parallel(parallel)
    _add_methods(methods_dir)
    described, tuning = sweep.read_runs(config) if config else ([{}], None)
    configs = sweep.expand(
        described,
        _given(
            method=method, dataset=dataset, backbone=backbone, imbalance_ratio=imbalance_ratio, seeds=seeds,
            epochs=epochs, recipe=recipe, lr=lr, batch_size=batch_size, image_size=image_size, data_seed=data_seed,
            precision=precision, pretrained=pretrained, validation=validation,
            hyperparameters=_hyperparameters(settings),
        ),
        where=config,
    )  # fmt: skip
    around = _around(
        data_dir, device=device, out=out, rerun=rerun, checkpoint_every=checkpoint_every, compiled=compiled,
        tuning=tuning,
    )  # fmt: skip
    if not console.run_all(configs, around, parallel):
        raise typer.Exit(1)


@app.command()
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
    settings: Settings = None,
    seed: Annotated[int | None, typer.Option(help="Of all trials  [default: 1000]")] = None,
    data_dir: DataDir = None,
    device: Device = "auto",
    precision: Precision = None,
    pretrained: Pretrained = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the search  [default: tune/DATASET-METHOD]")] = None,
    compiled: Compiled = None,
    parallel: Parallel = 1,
    methods_dir: MethodsDir = None,
) -> None:
    """Search a method's hyper-parameters for macro accuracy on a validation part of train, never the test set."""
    from ltbench import console, sweep
    from ltbench.tune import TUNING_SEED

    _check_parallel(parallel)
    _add_methods(methods_dir)
    flags = _given(
        method=method, dataset=dataset, backbone=backbone, imbalance_ratio=imbalance_ratio, epochs=epochs,
        recipe=recipe, lr=lr, batch_size=batch_size, image_size=image_size, precision=precision,
        pretrained=pretrained, hyperparameters=_hyperparameters(settings),
        seed=TUNING_SEED if seed is None else seed,
    )  # fmt: skip
    base, *others = sweep.expand([{}], flags)
    if others:
        raise LtbenchError("one method is tuned at a time", where="--method", hint="call tune for each method")
    folder = out or Path("tune") / f"{dataset}-{method}"
    around = _around(data_dir, device=device, out=folder / "runs", compiled=compiled)
    console.tune(base, trials, folder, around, parallel)


@app.command()
def report(
    results: Annotated[list[Path] | None, typer.Option(help="Folder of results; several may be given")] = None,
    style: Annotated[
        Literal["md", "csv", "json", "latex", "svg"], typer.Option("--format", help="Of the output")
    ] = "md",
    method: Annotated[str | None, typer.Option(help="Method, or several by commas  [default: all]")] = None,
    output: Annotated[Path | None, typer.Option(help="File to write  [default: standard output]")] = None,
) -> None:
    """Print the leaderboard: mean and standard deviation over seeds of accuracy, ECE and MCE."""
    from ltbench.atomic import write_text
    from ltbench.report.frame import load_results, of_methods
    from ltbench.report.picture import render_svg
    from ltbench.report.table import leaderboards, render

    runs = load_results(*(results or [Path("results")]))
    for problem in runs.attrs["problems"]:
        _say(f"left out: {problem}")
    for _, left_out in runs[(runs["status"] != "done")].iterrows() if len(runs) else ():
        _say(f"left out: {left_out['path']}: {left_out['status']}: {left_out['reason']}")
    boards = leaderboards(of_methods(runs, method.split(",") if method else []))
    text = render_svg(boards) if style == "svg" else render(boards, style)
    if output is None:
        sys.stdout.write(text)
    else:
        write_text(output, text)


@app.command("list")
def list_names(
    what: Annotated[Literal["methods", "datasets", "backbones", "recipes"], typer.Argument()],
    style: Annotated[
        Literal["text", "md"], typer.Option("--format", help="md: a page about all methods, e.g. docs/methods.md")
    ] = "text",
    results: Annotated[list[Path] | None, typer.Option(help="Runs that the page's costs are measured on")] = None,
    methods_dir: MethodsDir = None,
) -> None:
    """List what can be named in a run."""
    from ltbench import catalogue

    _add_methods(methods_dir)
    if style == "md":
        if what != "methods":
            raise LtbenchError("there is a page about methods only", where="--format md")
        from ltbench import methods_page

        sys.stdout.write(methods_page.render(results or []))
        return
    for name, about in catalogue.entries(what):
        typer.echo(f"{name:<26}{about}" if about else name)


@app.command()
def show(
    run: Annotated[str, typer.Argument(help="A run id, the first digits of one, or a result file")],
    results: Annotated[list[Path] | None, typer.Option(help="Folder of results; several may be given")] = None,
) -> None:
    """Show a stored run: settings, figures, costs, and the command that reproduces it."""
    from ltbench import console
    from ltbench.report.find import find_run

    console.show(*find_run(run, results or [Path("results")]))


@app.command()
def doctor(data_dir: DataDir = None) -> None:
    """Print versions, the device, folders, and which data sets are there."""
    from ltbench import catalogue

    for name, about in catalogue.health(_data_dir(data_dir)):
        typer.echo(f"{name:<26}{about}")


@app.command()
def bench(
    only: Annotated[
        str | None,
        typer.Option(help="By commas: step, epoch, run, evaluation, augmentation, metrics  [default: all but run]"),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="How often both sides take turns")] = 5,
    device: Device = "auto",
) -> None:
    """Measure ltbench beside the way research code trains: one table, shortest times and their ratios."""
    from ltbench.errors import unknown
    from ltbench.experiment import choose_device
    from ltbench_speed.contests import KINDS, carry_out, contests, render

    kinds = only.split(",") if only else [kind for kind in KINDS if kind != "run"]
    for kind in kinds:
        if kind not in KINDS:
            raise unknown("kind of measurement", kind, KINDS, where="--only")
    where = choose_device(device)
    outcomes = []
    for contest in contests(kinds, where):
        _say(f"{contest.name} ...")
        outcomes.append(carry_out(contest, rounds))
    sys.stdout.write(render(outcomes, rounds, where))


@app.command()
def check(file: Annotated[Path, typer.Argument(help="A method file, e.g. my_method.py")]) -> None:
    """Run the conformance suite over a method file: determinism, resuming, gradients, shapes."""
    from ltbench import conformance, registry

    method = registry.method(registry.add_method_file(file))
    failures = 0
    for outcome in conformance.run(method):
        failures += not outcome.passed
        typer.echo(f"{'ok  ' if outcome.passed else 'FAIL'} {outcome.name}{outcome.message and ': ' + outcome.message}")
    if failures:
        raise typer.Exit(1)


@data_app.command()
def prepare(name: str, data_dir: DataDir = None) -> None:
    """Download or set up a data set."""
    from ltbench import registry

    typer.echo(registry.dataset(name).prepare(_data_dir(data_dir)))


@data_app.command()
def verify(name: str, data_dir: DataDir = None, imbalance_ratio: Ratio = None) -> None:
    """Read a data set whole and print its sizes and fingerprints."""
    from ltbench import catalogue

    for title, about in catalogue.verify(name, _data_dir(data_dir), imbalance_ratio):
        typer.echo(f"{title:<26}{about}")


def main() -> None:
    """The ``ltbench`` command: errors of the user are one message and exit code 2, never a traceback."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    warnings.showwarning = _show_warning(warnings.showwarning)
    try:
        app()
    except LtbenchError as error:
        _say(f"ltbench: {error}")
        sys.exit(2)
    except SystemExit as ended:
        if ended.code == 130:  # typer's for a KeyboardInterrupt
            _say("ltbench: stopped; the same command goes on from the last checkpoint (without --rerun)")
        raise


def _say(text: str) -> None:
    typer.echo(text, err=True)


def _show_warning(others: Callable[..., None]) -> Callable[..., None]:
    said: set[str] = set()  # by several processes, perhaps

    def show_one(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
        if not issubclass(category, LtbenchWarning):
            others(message, category, *rest, **more)
        elif str(message) not in said:
            said.add(str(message))
            _say(f"ltbench: note: {message}")

    return show_one


def _given(**options: Any) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value is not None}


def _check_parallel(count: int) -> None:
    if count < 1:
        raise LtbenchError(f"{count} runs at once are too few", where="--parallel", hint="give a number from 1")


def _hyperparameters(settings: list[str] | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for setting in settings or []:
        name, equals, text = setting.partition("=")
        if not equals:
            raise LtbenchError(f"'{setting}' sets nothing", where="--set", hint="write --set NAME=VALUE")
        found[name.strip()] = _value(text.strip())
    return found


def _value(text: str) -> Any:
    """A number, true or false, a list by commas or as JSON, else text."""
    for candidate in (text, f"[{text}]"):
        try:
            return json.loads(candidate)
        except json.JSONDecodeError:
            continue
    return text


def _data_dir(given: Path | None) -> Path:
    from ltbench.places import data_dir

    return given or data_dir()


def _around(data_dir: Path | None, **options: Any) -> Any:
    from ltbench.experiment import Surroundings

    return Surroundings(data_dir=_data_dir(data_dir), **options)


def _add_methods(folder: Path | None) -> None:
    if folder is not None:
        from ltbench.registry import add_methods_dir

        add_methods_dir(folder)
