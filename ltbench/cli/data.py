"""ltbench data prepare, verify and order."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from ltbench.cli.options import DataDir, DataSeed, ImageSize, KeepUntested, Ratio, data_folder
from ltbench.cli.output import echo, write_output
from ltbench.errors import LtbenchError
from ltbench.printable import printable_name

DataSet = Annotated[str, typer.Argument(help="Data set; ltbench list datasets names them")]


def prepare(name: DataSet, data_dir: DataDir = None) -> None:
    """Download, check and unpack a data set.

    Interrupted downloads resume. What must be downloaded by hand, e.g. with an account, is said step by step.
    """
    from ltbench.cli import catalogue, progress_bars

    with progress_bars.file_bars() as listener:
        done = catalogue.prepare(name, data_folder(data_dir), listener)
    echo(done)


def verify(
    name: DataSet,
    data_dir: DataDir = None,
    imbalance_ratio: Ratio = None,
    decode: Annotated[
        bool, typer.Option("--decode", help="Decode every image file, to find truncated files and files of other kinds")
    ] = False,
    keep_classes_without_test_images: KeepUntested = None,
) -> None:
    """Check the lists and files of a data set, and print its sizes and fingerprints.

    For an image folder it prints, class by class, the images of each part, duplicates, sizes, and the files that are
    not used, with the reason.
    """
    from ltbench.cli import catalogue, progress_bars

    folder, keep = data_folder(data_dir), bool(keep_classes_without_test_images)
    with progress_bars.file_bars() as listener:
        found = catalogue.verify_files(name, folder, decode=decode, keep_untested=keep, watch=listener)
    _print_lines(found.lines)
    if found.rows:
        _print_table(found.columns, found.rows)
    if found.faults:
        raise LtbenchError(
            f"{name} is not as it should be:\n" + "\n".join(f"    {fault}" for fault in found.faults),
            where=folder.absolute(),
            hint=found.remedy,
        )
    _print_lines(catalogue.verify(name, folder, imbalance_ratio, keep_untested=keep))


def order(
    name: DataSet,
    part: Annotated[
        Literal["test", "train", "validation"],
        typer.Option(
            help="Images to list: test; train, the long-tailed ones; or validation, those that --validation holds out"
        ),
    ] = "test",
    data_dir: DataDir = None,
    imbalance_ratio: Ratio = None,
    data_seed: DataSeed = None,
    image_size: ImageSize = None,
    keep_classes_without_test_images: KeepUntested = None,
    output: Annotated[Path | None, typer.Option(help="File to write  [default: standard output]")] = None,
) -> None:
    """List the images of a data set in the order that ltbench score expects: label, class, image, as CSV."""
    from ltbench.external.image_order import image_order

    if part == "test" and (imbalance_ratio is not None or data_seed is not None):
        raise LtbenchError(
            "the test images do not depend on the imbalance of the training images",
            where="--imbalance-ratio, --data-seed",
            hint="leave them out, or add --part train",
        )
    found = image_order(
        name,
        data_folder(data_dir),
        image_size,
        part,
        imbalance_ratio,
        data_seed or 0,
        keep_untested=bool(keep_classes_without_test_images),
    )
    write_output(found.to_csv(index=False, lineterminator="\n"), output)


def _print_lines(lines: Sequence[tuple[str, str]]) -> None:
    for title, about in lines:
        echo(printable_name(f"{title:<26}{about}"))


def _print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table: words in the first column, numbers in the others, totals in the last row."""
    from rich.markup import escape
    from rich.table import Table

    from ltbench.cli.console import console

    table = Table(box=None, padding=(0, 2, 0, 0))
    for position, head in enumerate(columns):
        table.add_column(head, justify="right" if position else "left", overflow="fold")
    for position, row in enumerate(rows):
        table.add_row(*map(escape, row), style="bold" if position == len(rows) - 1 else None)
    console.print(table)
