"""ltbench data prepare and ltbench data verify."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ltbench.cli.options import DataDir, KeepUntested, Ratio, data_folder, tell
from ltbench.errors import LtbenchError, LtbenchWarning
from ltbench.printable import printable_name

if TYPE_CHECKING:
    from ltbench.data.datasets.base import Source
    from ltbench.data.verify.files import Verification
    from ltbench.progress import ProgressListener


def prepare(name: str, data_dir: DataDir = None) -> None:
    """Download, check and unpack a data set; goes on where it was interrupted, and tells what is left to you."""
    from ltbench import registry
    from ltbench.cli import console
    from ltbench.data.datasets.base import explain_permission_errors
    from ltbench.data.datasets.listed import ListedSource

    folder = data_folder(data_dir)
    with console.file_bars() as listener:
        source = registry.dataset(name, where="NAME")
        with explain_permission_errors(folder):
            done = source.prepare(folder, listener) if isinstance(source, ListedSource) else source.prepare(folder)
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
    from ltbench import registry
    from ltbench.cli import console

    folder, keep = data_folder(data_dir), bool(keep_classes_without_test_images)
    with console.file_bars() as listener:
        source = registry.dataset(name, where="NAME")
        found = _verify_files(source, folder, decode, keep, listener)
    _tell_all(found.lines)
    if found.rows:
        console.show_table(found.columns, found.rows)
    if found.faults:
        raise LtbenchError(
            f"{name} is not as it should be:\n" + "\n".join(f"    {fault}" for fault in found.faults),
            where=folder.absolute(),
            hint=found.remedy,
        )
    _tell_all(_describe(source, name, folder, imbalance_ratio, keep))


def _tell_all(lines: list[tuple[str, str]]) -> None:
    for title, about in lines:
        tell(printable_name(f"{title:<26}{about}"))


def _verify_files(
    source: "Source", folder: Path, decode: bool, keep_untested: bool, listener: "ProgressListener"
) -> "Verification":
    """Check the lists of a data set and the files that they name, or the content of a user's folder.

    Files of any other data set are checked only with ``decode``.

    Raises:
        LtbenchError: if the folder may not be read; for a data set without lists if it is missing or damaged.
    """
    from ltbench.data.datasets.base import explain_permission_errors
    from ltbench.data.datasets.image_folder import Folder
    from ltbench.data.datasets.listed import ListedSource
    from ltbench.data.verify import files
    from ltbench.data.verify.folder import verify_folder

    with explain_permission_errors(folder):
        if isinstance(source, ListedSource):
            return files.verify(source.published, folder, decode=decode, listener=listener)
        if isinstance(source, Folder):
            size = source.image_size
            return verify_folder(folder, size, keep_untested=keep_untested, decode=decode, listener=listener)
        if decode:
            return files.decode_all(source.load(folder, source.image_size), listener)
    return files.Verification()


def _describe(
    source: "Source", name: str, folder: Path, imbalance_ratio: float | None, keep_untested: bool
) -> list[tuple[str, str]]:
    """Load a data set as a run would and describe it.

    Raises:
        LtbenchError: if it is missing or damaged.
    """
    from ltbench.config import RunConfig, validated
    from ltbench.data import dataset
    from ltbench.data.datasets.image_folder import Folder

    ratio = source.imbalance_ratio if imbalance_ratio is None else imbalance_ratio
    settings = {"dataset": name, "imbalance_ratio": ratio, "image_size": source.image_size}
    config = validated(RunConfig, {**settings, "keep_classes_without_test_images": keep_untested})
    with warnings.catch_warnings():
        if isinstance(source, Folder):  # the check of its files has shown them
            warnings.simplefilter("ignore", LtbenchWarning)
        data = dataset.load(source, config, folder)
    groups = {group: len(members) for group, members in data.shots.groups(data.counts).items()}
    return [
        ("classes", str(len(data.classes))),
        ("training images", f"{len(data.train)}, {data.counts.max()} to {data.counts.min()} a class"),
        ("test images", str(len(data.test))),
        ("many/medium/few classes", "/".join(str(size) for size in groups.values())),
        *((f"fingerprint of {part}", fingerprint) for part, fingerprint in data.fingerprints.items()),
    ]
