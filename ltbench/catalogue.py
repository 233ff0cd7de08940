"""What there is: methods, data sets, backbones, recipes, and the state of the installation."""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pandas as pd
import torch

from ltbench import places, provenance, recipes, registry
from ltbench.config import RunConfig, validated
from ltbench.data import dataset, resized, verification
from ltbench.data.download import Watch, in_gb, silent
from ltbench.data.folder import Folder
from ltbench.data.folder_check import verify_folder
from ltbench.data.listed import Listed
from ltbench.data.source import ImageFiles, Images, Source, named, reading
from ltbench.data.verification import Verification
from ltbench.errors import LtbenchWarning

Lines = list[tuple[str, str]]
ARGUMENT = "NAME"
"""Where the command line has a data set's name, for errors."""


def entries(kind: str) -> Lines:
    """Name and a few words for everything of a kind: methods, datasets, backbones or recipes."""
    if kind == "methods":
        methods = registry.loadable(registry.method_names(), registry.method)
        return [(name, _first_line(cls.__doc__)) for name, cls in methods.items()]
    if kind == "datasets":
        sources = registry.loadable(registry.dataset_names(), registry.dataset)
        return [(name, source.summary) for name, source in sources.items()]
    if kind == "backbones":
        return [(name, "") for name in registry.backbone_names()]
    shared = [(name, "for " + ", ".join(recipes.tables(name))) for name in recipes.names()]
    return [*shared, (recipes.PAPER, "each method's own, where its authors have one")]


def health(folder: Path) -> Lines:
    """Versions, device, folders, and which data sets are there."""
    lines = [(name, str(found or "not installed")) for name, found in provenance.versions().items()]
    name = "cuda" if torch.cuda.is_available() else "cpu"
    machine = provenance.hardware(torch.device(name))
    lines.append(("device", f"{name}: {machine.get('accelerator') or machine['processor']}"))
    lines.append(("cores, threads", f"{machine['cores']}, {machine['threads']}"))
    lines.append(("cache folder", f"{places.cache_dir()} (set $LTBENCH_CACHE to move it)"))
    try:
        for side, files, size in resized.held():
            lines.append((f"images scaled to {side}", f"{files:,}, {in_gb(size)}, in {resized.folder() / side}"))
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
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # of another package's data set, which may call sys.exit
            lines.append((known, f"faulty: {type(error).__name__}: {error}"))
    return lines


def prepare(name: str, folder: Path, watch: Watch = silent) -> str:
    """Download or set up a data set; returns what was done.

    Raises:
        LtbenchError: if something fails, or steps are left to the user (which).
    """
    source = registry.dataset(name, where=ARGUMENT)
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
    source = registry.dataset(name, where=ARGUMENT)
    with reading(folder):
        if isinstance(source, Listed):
            return verification.verify(source, folder, decode=decode, watch=watch)
        if isinstance(source, Folder):
            return verify_folder(
                folder, source.image_size, keep_untested=keep_untested, decode=decode, watch=watch
            )  # fmt: skip
        if decode:
            return verification.decode_all(source.load(folder, source.image_size), watch)
    return Verification()


def verify(name: str, folder: Path, imbalance_ratio: float | None = None, *, keep_untested: bool = False) -> Lines:
    """Load a data set as a run would and describe it.

    Raises:
        LtbenchError: if it is missing or damaged.
    """
    source = registry.dataset(name, where=ARGUMENT)
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


Part = Literal["train", "validation", "test"]


def image_order(
    name: str,
    folder: Path,
    image_size: int | None = None,
    part: Part = "test",
    imbalance_ratio: float | None = None,
    data_seed: int = 0,
    *,
    keep_untested: bool = False,
) -> pd.DataFrame:
    """The images of a part of a data set in the order in which ltbench has them.

    Args:
        name: of the data set.
        folder: --data-dir.
        image_size: side in pixels; None: the data set's own.
        part: test; train: the long-tailed training images, before any are held out; validation: those that a run with
            --validation holds out of them, or the official validation set.
        imbalance_ratio: of the training images; None: the data set's own.
        data_seed: draws the training images.
        keep_untested: whether classes may lack test images.

    Returns:
        One row an image: ``label``, ``class`` and ``image``, which is its file, or its position in the official data.

    Raises:
        LtbenchError: if the data is missing or damaged.
    """
    source = registry.dataset(name, where=ARGUMENT)
    ratio = source.imbalance_ratio if imbalance_ratio is None else imbalance_ratio
    settings = {"dataset": name, "imbalance_ratio": ratio, "data_seed": data_seed, "validation": part == "validation"}
    config = validated(RunConfig, settings)
    read = source.load_keeping_untested if keep_untested else source.load
    with reading(folder):
        raw = read(folder, image_size or source.image_size)
    parts: dict[str, Images | None] = {"test": named(raw.test, raw.test_names)}
    if part != "test":  # names take the place of the images
        official = None if raw.validation is None else named(raw.validation, raw.validation_names)
        whole = replace(raw, train=named(raw.train, raw.train_names), validation=official)
        parts["train"], parts["validation"], _ = dataset.divide(source, whole, config)
    found = parts[part]
    assert isinstance(found, ImageFiles)
    classes = [raw.classes[label] for label in found.labels]
    return pd.DataFrame({"label": found.labels, "class": classes, "image": found.names})


def _first_line(doc: str | None) -> str:
    return (doc or "").strip().partition("\n")[0]
