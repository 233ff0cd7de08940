"""ltbench list, doctor, bench and check."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from ltbench.cli.options import DataDir, Device, MethodsDir, add_methods, data_folder
from ltbench.cli.output import echo, echo_stderr
from ltbench.errors import LtbenchError
from ltbench.printable import printable_name


def list_names(
    what: Annotated[Literal["methods", "datasets", "backbones", "recipes"], typer.Argument(help="Kind of names")],
    style: Annotated[
        Literal["text", "md"], typer.Option("--format", help="Output format; md: a page about all methods")
    ] = "text",
    results: Annotated[
        list[Path] | None, typer.Option(help="Folder of results that the page takes costs from; may be repeated")
    ] = None,
    methods_dir: MethodsDir = None,
) -> None:
    """List methods, data sets, backbones or recipes by name."""
    from ltbench.cli import catalogue

    add_methods(methods_dir)
    if style == "md":
        if what != "methods":
            raise LtbenchError(
                f"there is no page about {what}", where="--format md", hint="use ltbench list methods --format md"
            )
        from ltbench.cli import methods_page

        sys.stdout.write(methods_page.render(results or []))
        return
    for name, about in catalogue.entries(what):
        echo(printable_name(f"{name:<26}{about}" if about else name))


def doctor(data_dir: DataDir = None) -> None:
    """Print versions, the device, folders, and which data sets are available."""
    from ltbench.cli import catalogue

    for name, about in catalogue.health(data_folder(data_dir)):
        echo(printable_name(f"{name:<26}{about}"))


def bench(
    only: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated list of step, epoch, run, evaluation, augmentation, loading, metrics  "
            "[default: all but run]"
        ),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Number of interleaved repetitions; the shortest time counts")] = 5,
    device: Device = "auto",
) -> None:
    """Compare ltbench's speed with a typical research training loop: shortest times and their ratios."""
    from ltbench.errors import unknown
    from ltbench.training.device import choose_device
    from ltbench_speed.contests import KINDS, carry_out, contests, render

    kinds = only.split(",") if only else [kind for kind in KINDS if kind != "run"]
    for kind in kinds:
        if kind not in KINDS:
            raise unknown("benchmark", kind, KINDS, where="--only")
    chosen = choose_device(device)
    measured = []
    for contest in contests(kinds, chosen):
        echo_stderr(f"{contest.name} ...")
        measured.append(carry_out(contest, rounds))
    sys.stdout.write(render(measured, rounds, chosen))


def check(file: Annotated[Path, typer.Argument(help="Method file, e.g. my_method.py")]) -> None:
    """Run the conformance suite on a method file: determinism, resuming, gradients, shapes."""
    from ltbench import conformance, registry

    method = registry.method(registry.add_method_file(file))
    failures = 0
    for outcome in conformance.run(method):
        failures += not outcome.passed
        echo(f"{'ok  ' if outcome.passed else 'FAIL'} {outcome.name}{outcome.message and ': ' + outcome.message}")
    if failures:
        raise typer.Exit(1)
