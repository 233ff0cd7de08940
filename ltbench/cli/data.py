"""ltbench data prepare, verify, order and export."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ltbench.cli.options import (
    ClassOrder,
    DataDir,
    DataSeed,
    ImageSize,
    Imbalance,
    KeepClassesWithoutTestImages,
    LabelColumns,
    LabelTable,
    Ratio,
    data_folder,
    given,
)
from ltbench.cli.output import echo, getting_ready, write_output
from ltbench.errors import LtbenchError, LtbenchWarning
from ltbench.printable import printable_name

if TYPE_CHECKING:
    from ltbench.config import RunConfig
    from ltbench.data.datasets.base import Source
    from ltbench.data.verify.files import Verification
    from ltbench.progress import ProgressListener

DataSet = Annotated[str, typer.Argument(help="Data set; ltbench list datasets names them")]


def prepare(name: DataSet, data_dir: DataDir = None) -> None:
    """Download, check and unpack a data set.

    Interrupted downloads resume, but for those of CIFAR and torchvision, which begin again. What must be downloaded by
    hand, e.g. with an account, is said step by step.
    """
    from ltbench import registry
    from ltbench.cli.progress_bars import file_bars
    from ltbench.data.datasets.base import explain_permission_errors
    from ltbench.data.datasets.listed import ListedSource

    folder = data_folder(data_dir)
    with file_bars() as listener:
        source = registry.dataset(name, where="NAME")
        with explain_permission_errors(folder):
            done = source.prepare(folder, listener) if isinstance(source, ListedSource) else source.prepare(folder)
    echo(done)


def verify(
    name: DataSet,
    data_dir: DataDir = None,
    labels: LabelTable = None,
    label_columns: LabelColumns = None,
    imbalance_ratio: Ratio = None,
    imbalance: Imbalance = None,
    class_order: ClassOrder = None,
    data_seed: DataSeed = None,
    decode: Annotated[
        bool, typer.Option("--decode", help="Decode every image file, to find truncated files and files of other kinds")
    ] = False,
    keep_classes_without_test_images: KeepClassesWithoutTestImages = None,
) -> None:
    """Check the lists and files of a data set.

    It prints sizes and fingerprints. For an image folder it prints, class by class, the images of each part,
    duplicates, sizes, and the files that are not used, with the reason.
    """
    from ltbench import registry
    from ltbench.cli.progress_bars import file_bars

    folder = data_folder(data_dir)
    chosen = given(
        labels=labels,
        label_columns=label_columns,
        imbalance_ratio=imbalance_ratio,
        imbalance=imbalance,
        class_order=class_order,
        data_seed=data_seed,
        keep_classes_without_test_images=keep_classes_without_test_images,
    )
    with file_bars() as listener:
        source = registry.dataset(name, where="NAME")
        config = _settings(source, name, chosen)
        found = _verify_files(source, config, folder, decode, listener)
    _print_lines(found.lines)
    if found.rows:
        _print_table(found.columns, found.rows)
    if found.faults:
        raise LtbenchError(
            f"{name} is not as it should be:\n" + "\n".join(f"    {fault}" for fault in found.faults),
            where=folder.absolute(),
            hint=found.remedy,
        )
    _print_lines(_describe(source, config, folder))


def order(
    name: DataSet,
    part: Annotated[
        Literal["test", "train", "validation"],
        typer.Option(
            help="Images to list: test; train, the long-tailed ones; or validation, those that --validation holds out"
        ),
    ] = "test",
    data_dir: DataDir = None,
    labels: LabelTable = None,
    label_columns: LabelColumns = None,
    imbalance_ratio: Ratio = None,
    imbalance: Imbalance = None,
    class_order: ClassOrder = None,
    data_seed: DataSeed = None,
    image_size: ImageSize = None,
    keep_classes_without_test_images: KeepClassesWithoutTestImages = None,
    output: Annotated[Path | None, typer.Option(help="File to write  [default: standard output]")] = None,
) -> None:
    """List images in the order of ltbench score.

    A line has label, class and image, as CSV.
    """
    drawn = given(imbalance_ratio=imbalance_ratio, imbalance=imbalance, class_order=class_order, data_seed=data_seed)
    if part == "test" and drawn:
        raise LtbenchError(
            "the test images do not depend on the imbalance of the training images",
            where=", ".join(f"--{name.replace('_', '-')}" for name in drawn),
            hint="leave them out, or add --part train",
        )
    from ltbench import registry

    registry.check_dataset(name, where="NAME")
    with getting_ready("data order"):
        from ltbench.external.image_order import image_order

    found = image_order(
        name,
        data_folder(data_dir),
        image_size,
        part,
        drawn
        | given(
            labels=labels,
            label_columns=label_columns,
            keep_classes_without_test_images=keep_classes_without_test_images,
        ),
    )
    write_output(found.to_csv(index=False, lineterminator="\n"), output)


def export(
    name: DataSet,
    output: Annotated[Path, typer.Option(help="Folder to write; it must be new")],
    style: Annotated[
        Literal["folder", "parquet"],
        typer.Option("--format", help="folder: a folder for each part and class; parquet: a file for each part"),
    ] = "folder",
    data_dir: DataDir = None,
    labels: LabelTable = None,
    label_columns: LabelColumns = None,
    imbalance_ratio: Ratio = None,
    imbalance: Imbalance = None,
    class_order: ClassOrder = None,
    data_seed: DataSeed = None,
    keep_classes_without_test_images: KeepClassesWithoutTestImages = None,
) -> None:
    """Write a long-tailed draw for others to use.

    With --data-dir at the folder that is written, the same data set has the same images and fingerprints. Other
    programs read class folders and a table, or parquet as Hugging Face's datasets has it.
    """
    from ltbench import registry
    from ltbench.cli.progress_bars import file_bars

    registry.check_dataset(name, where="NAME")
    chosen = given(
        labels=labels,
        label_columns=label_columns,
        imbalance_ratio=imbalance_ratio,
        imbalance=imbalance,
        class_order=class_order,
        data_seed=data_seed,
        keep_classes_without_test_images=keep_classes_without_test_images,
    )
    with getting_ready("data export"):
        from ltbench.data.export import export as write_export

    with file_bars() as listener:
        source = registry.dataset(name, where="NAME")
        config = _settings(source, name, chosen)
        made = write_export(source, config, data_folder(data_dir), output, style, listener)
    images = ", ".join(f"{count:,} {part}" for part, count in made.images.items())
    _print_lines(
        [
            ("data set", name),
            ("draw", made.draw),
            ("images", f"{images}, as {'PNG' if made.stored == 'pixels' else 'the files that they are'}"),
            *((f"fingerprint of {part}", value) for part, value in made.fingerprints.items()),
            ("folder", str(output.absolute())),
        ]
    )


def _print_lines(lines: Sequence[tuple[str, str]]) -> None:
    for title, about in lines:
        echo(printable_name(f"{title:<26}{about}"))


def _print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table: words in the first column, numbers in the others, totals in the last row."""
    from rich.table import Table
    from rich.text import Text

    from ltbench.cli.console import console

    table = Table(box=None, padding=(0, 2, 0, 0))
    for position, head in enumerate(columns):
        table.add_column(head, justify="right" if position else "left", overflow="fold")
    for position, row in enumerate(rows):
        cells = (Text(printable_name(cell)) for cell in row)
        table.add_row(*cells, style="bold" if position == len(rows) - 1 else None)
    console.print(table)


def _settings(source: "Source", name: str, chosen: Mapping[str, Any]) -> "RunConfig":
    """The settings of a run on a data set, as far as they are about its images."""
    from ltbench.config import RunConfig, validated

    usual = {"dataset": name, "imbalance_ratio": source.imbalance_ratio, "image_size": source.image_size}
    return validated(RunConfig, {**usual, **chosen})


def _verify_files(
    source: "Source", config: "RunConfig", folder: Path, decode: bool, listener: "ProgressListener"
) -> "Verification":
    """Check the lists of a data set and the files that they name, or the content of a user's folder.

    Files of any other data set are checked only with ``decode``.

    Raises:
        LtbenchError: if the folder may not be read; for a data set without lists if it is missing or damaged.
    """
    from dataclasses import replace

    from ltbench.data.datasets import exported
    from ltbench.data.datasets.base import explain_permission_errors
    from ltbench.data.datasets.image_folder import Folder
    from ltbench.data.datasets.label_table import LabelTable
    from ltbench.data.datasets.listed import ListedSource
    from ltbench.data.verify import files
    from ltbench.data.verify.folder import verify_folder

    with explain_permission_errors(folder):
        if config.labels is None and (export := exported.find(folder, source.name)) is not None:
            made = export.manifest
            about = [("export", f"of ltbench {made.ltbench}: {made.draw}, as {made.stored}")]
            if not decode:
                return files.Verification(about)
            found = files.decode_all(export.load(config, config.image_size or made.image_size), listener)
            return replace(found, lines=[*about, *found.lines])
        if isinstance(source, ListedSource):
            return files.verify(source.published, folder, decode=decode, listener=listener)
        if isinstance(source, Folder):
            size = source.image_size
            keep = config.keep_classes_without_test_images
            labels = LabelTable(config.labels, config.label_columns) if config.labels is not None else None
            return verify_folder(folder, size, keep_untested=keep, decode=decode, listener=listener, labels=labels)
        if decode:
            return files.decode_all(source.load(folder, source.image_size), listener)
    return files.Verification()


def _describe(source: "Source", config: "RunConfig", folder: Path) -> list[tuple[str, str]]:
    """Load a data set as a run would and describe it.

    Raises:
        LtbenchError: if it is missing or damaged.
    """
    from ltbench.data import dataset
    from ltbench.data.datasets.image_folder import Folder

    with warnings.catch_warnings():
        if isinstance(source, Folder):  # the check of its files has shown them
            warnings.simplefilter("ignore", LtbenchWarning)
        data = dataset.load(source, config, folder)
    groups = {group: len(members) for group, members in data.shots.groups(data.counts).items()}
    return [
        ("classes", str(len(data.classes))),
        ("training images", f"{len(data.train)}, {data.counts.max()} to {data.counts.min()} a class"),
        ("test images", str(len(data.test)) + (", a fifth of each class" if source.held_out_test else "")),
        ("many/medium/few classes", "/".join(str(size) for size in groups.values())),
        *((f"fingerprint of {part}", fingerprint) for part, fingerprint in data.fingerprints.items()),
    ]
