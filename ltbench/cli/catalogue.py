"""The state of the installation and of data sets: what doctor, data prepare and data verify do."""

import warnings
from pathlib import Path

import torch

from ltbench import paths, registry
from ltbench.config import RunConfig, validated
from ltbench.data import dataset
from ltbench.data.datasets.base import Source, reading
from ltbench.data.datasets.image_folder import Folder
from ltbench.data.datasets.listed import Listed
from ltbench.data.loading import resize_cache
from ltbench.data.prepare.download import Watch, in_gb, silent
from ltbench.data.verify import files
from ltbench.data.verify.files import Verification
from ltbench.data.verify.folder import verify_folder
from ltbench.errors import LtbenchWarning
from ltbench.results import provenance

Lines = list[tuple[str, str]]


def health(folder: Path) -> Lines:
    """Versions, device, folders, and which data sets are there."""
    lines = [(name, str(found or "not installed")) for name, found in provenance.versions().items()]
    name = "cuda" if torch.cuda.is_available() else "cpu"
    machine = provenance.hardware(torch.device(name))
    lines.append(("device", f"{name}: {machine.get('accelerator') or machine['processor']}"))
    lines.append(("cores, threads", f"{machine['cores']}, {machine['threads']}"))
    lines.append(("cache folder", f"{paths.cache_dir()} (set $LTBENCH_CACHE to move it)"))
    try:
        for side, files, size in resize_cache.held():
            lines.append((f"images scaled to {side}", f"{files:,}, {in_gb(size)}, in {resize_cache.folder() / side}"))
    except PermissionError as error:
        lines.append(("images scaled", f"not readable: {error.filename}"))
    lines.append(("data folder", str(folder.absolute())))
    registry.loadable(registry.method_names(), registry.method)  # warns of those that do not load
    for known, source in registry.loadable(registry.dataset_names(), registry.dataset).items():
        comes = type(source).prepare is not Source.prepare
        missing = f"ltbench data prepare {known}" if comes else "give its folder with --data-dir"
        try:
            lines.append((known, "ready" if source.available(folder) else f"not there; {missing}"))
        except OSError as error:
            lines.append((known, f"not readable: {error.filename}"))
        except Exception as error:  # of another package's data set
            lines.append((known, f"faulty: {type(error).__name__}: {error}"))
    return lines


def prepare(name: str, folder: Path, watch: Watch = silent) -> str:
    """Download or set up a data set; returns what was done.

    Raises:
        LtbenchError: if something fails, or steps are left to the user (which).
    """
    source = registry.dataset(name, where="NAME")
    with reading(folder):
        return source.prepare(folder, watch) if isinstance(source, Listed) else source.prepare(folder)


def verify_files(
    name: str, folder: Path, *, decode: bool = False, keep_untested: bool = False, watch: Watch = silent
) -> Verification:
    """Check the lists of a data set and the files that they name, or what lies in a user's folder.

    Files of a data set that has no lists and is no such folder are checked only with ``decode``.

    Raises:
        LtbenchError: if it may not be read; for a data set without lists if it is missing or damaged.
    """
    source = registry.dataset(name, where="NAME")
    with reading(folder):
        if isinstance(source, Listed):
            return files.verify(source, folder, decode=decode, watch=watch)
        if isinstance(source, Folder):
            return verify_folder(
                folder, source.image_size, keep_untested=keep_untested, decode=decode, watch=watch
            )  # fmt: skip
        if decode:
            return files.decode_all(source.load(folder, source.image_size), watch)
    return Verification()


def verify(name: str, folder: Path, imbalance_ratio: float | None = None, *, keep_untested: bool = False) -> Lines:
    """Load a data set as a run would and describe it.

    Raises:
        LtbenchError: if it is missing or damaged.
    """
    source = registry.dataset(name, where="NAME")
    ratio = source.imbalance_ratio if imbalance_ratio is None else imbalance_ratio
    settings = {"dataset": name, "imbalance_ratio": ratio, "image_size": source.image_size}
    config = validated(RunConfig, {**settings, "keep_classes_without_test_images": keep_untested})
    with warnings.catch_warnings():
        if isinstance(source, Folder):  # verify_files has told them
            warnings.simplefilter("ignore", LtbenchWarning)
        data = dataset.load(source, config, folder)
    groups = {group: len(members) for group, members in data.shots.groups(data.counts).items()}
    return [
        ("classes", str(len(data.classes))),
        ("training images", f"{len(data.train)}, {data.counts.max()} to {data.counts.min()} a class"),
        ("test images", str(len(data.test))),
        ("many/medium/few classes", "/".join(str(size) for size in groups.values())),
        *((f"fingerprint of {part}", print_) for part, print_ in data.fingerprints.items()),
    ]
