"""ltbench list, doctor, bench, check and data: what is there, and is it well?"""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from ltbench.cli.options import (
    DataDir,
    Device,
    KeepUntested,
    MethodsDir,
    Ratio,
    add_methods,
    data_folder,
    say,
    tell,
)
from ltbench.errors import LtbenchError
from ltbench.printable import printable_name


def list_names(
    what: Annotated[Literal["methods", "datasets", "backbones", "recipes"], typer.Argument()],
    style: Annotated[
        Literal["text", "md"], typer.Option("--format", help="md: a page about all methods, e.g. docs/methods.md")
    ] = "text",
    results: Annotated[list[Path] | None, typer.Option(help="Runs that the page's costs are measured on")] = None,
    methods_dir: MethodsDir = None,
) -> None:
    """List what can be named in a run."""
    from ltbench.cli import names

    add_methods(methods_dir)
    if style == "md":
        if what != "methods":
            raise LtbenchError("there is a page about methods only", where="--format md")
        from ltbench.cli import methods_page

        sys.stdout.write(methods_page.render(results or []))
        return
    for name, about in names.entries(what):
        tell(printable_name(f"{name:<26}{about}" if about else name))


def doctor(data_dir: DataDir = None) -> None:
    """Print versions, the device, folders, and which data sets are there."""
    from ltbench.cli import catalogue

    for name, about in catalogue.health(data_folder(data_dir)):
        tell(printable_name(f"{name:<26}{about}"))


def bench(
    only: Annotated[
        str | None,
        typer.Option(
            help="By commas: step, epoch, run, evaluation, augmentation, loading, metrics  [default: all but run]"
        ),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="How often both sides take turns")] = 5,
    device: Device = "auto",
) -> None:
    """Measure ltbench beside the way research code trains: one table, shortest times and their ratios."""
    from ltbench.errors import unknown
    from ltbench.training.device import choose_device
    from ltbench_speed.contests import KINDS, carry_out, contests, render

    kinds = only.split(",") if only else [kind for kind in KINDS if kind != "run"]
    for kind in kinds:
        if kind not in KINDS:
            raise unknown("kind of measurement", kind, KINDS, where="--only")
    where = choose_device(device)
    outcomes = []
    for contest in contests(kinds, where):
        say(f"{contest.name} ...")
        outcomes.append(carry_out(contest, rounds))
    sys.stdout.write(render(outcomes, rounds, where))


def check(file: Annotated[Path, typer.Argument(help="A method file, e.g. my_method.py")]) -> None:
    """Run the conformance suite over a method file: determinism, resuming, gradients, shapes.

    A TOML file beside it, with what is published about the method, is checked, too.
    """
    from ltbench import conformance, registry
    from ltbench.method.paper import paper_of

    method = registry.method(registry.add_method_file(file))
    for dataset in paper_of(method).defaults:
        registry.check_dataset(dataset, where=f"{file.with_suffix('.toml')}, [defaults.{dataset}]")
    failures = 0
    for outcome in conformance.run(method):
        failures += not outcome.passed
        tell(f"{'ok  ' if outcome.passed else 'FAIL'} {outcome.name}{outcome.message and ': ' + outcome.message}")
    if failures:
        raise typer.Exit(1)


def prepare(name: str, data_dir: DataDir = None) -> None:
    """Download, check and unpack a data set; goes on where it was interrupted, and tells what is left to you."""
    from ltbench.cli import catalogue, console

    with console.file_bars() as watch:
        done = catalogue.prepare(name, data_folder(data_dir), watch)
    tell(done)


def verify(
    name: str,
    data_dir: DataDir = None,
    imbalance_ratio: Ratio = None,
    decode: Annotated[
        bool, typer.Option("--decode", help="Decode every image file, to find those that are cut off or no images")
    ] = False,
    keep_classes_without_test_images: KeepUntested = None,
) -> None:
    """Check a data set whole, lists and files, and print its sizes and fingerprints.

    Of a folder of your own: the images of each class in each part, what is not used and why, copies, sizes.
    """
    from ltbench.cli import catalogue, console

    folder, keep = data_folder(data_dir), bool(keep_classes_without_test_images)
    with console.file_bars() as watch:
        found = catalogue.verify_files(name, folder, decode=decode, keep_untested=keep, watch=watch)
    for title, about in found.lines:
        tell(printable_name(f"{title:<26}{about}"))
    if found.rows:
        console.show_table(found.columns, found.rows)
    if found.faults:
        raise LtbenchError(
            f"{name} is not as it should be:\n" + "\n".join(f"    {fault}" for fault in found.faults),
            where=folder.absolute(),
            hint=found.remedy,
        )
    for title, about in catalogue.verify(name, folder, imbalance_ratio, keep_untested=keep):
        tell(printable_name(f"{title:<26}{about}"))
