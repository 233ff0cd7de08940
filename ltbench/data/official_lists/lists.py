"""The official lists of a data set: find them, read them, and compare them with what is published."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ltbench.data.official_lists import split_list
from ltbench.data.official_lists.published import Published
from ltbench.data.official_lists.split_list import SplitList

SHOWN = 5
"""Number of faults of one kind that are named."""


def find_list(published: Published, folder: Path, part: str) -> Path | None:
    """The file with the list of a part, if it is in the data folder."""
    folders = (folder, *(folder / name for name in published.list_folders))
    candidates = (place / name for place in folders for name in published.parts[part].lists)
    return next((file for file in candidates if file.is_file()), None)


def missing_lists(published: Published, folder: Path) -> list[str]:
    """The parts whose lists are not in the data folder."""
    return [part for part in published.parts if find_list(published, folder, part) is None]


def read_list(published: Published, file: Path, part: str) -> SplitList:
    """Read the list of a part.

    Raises:
        LtbenchError: if it is malformed.
    """
    return split_list.read(file, published.layout.roots, published.parts[part].image_set)


def read_lists(published: Published, folder: Path) -> dict[str, SplitList]:
    """The lists that are in the data folder, by part.

    Raises:
        LtbenchError: if one is malformed.
    """
    found = {part: find_list(published, folder, part) for part in published.parts}
    return {part: read_list(published, file, part) for part, file in found.items() if file}


def class_folders(published: Published, train: SplitList) -> list[str]:
    """(C,) the official folder of each class, from its first training image; "" for a class without images."""
    folders = [""] * published.class_count
    for label, written in zip(train.labels.tolist(), train.folders, strict=True):
        if label < published.class_count and not folders[label]:
            folders[label] = published.layout.class_folder(written)
    return folders


def class_counts(one: SplitList, classes: int) -> NDArray[np.int64]:
    """(C,) number of images of each class in a list."""
    return np.bincount(one.labels[one.labels < classes], minlength=classes).astype(np.int64)


def identity(published: Published, part: str, one: SplitList, folders: Sequence[str]) -> tuple[bool, str]:
    """Whether a list is the official one as far as that is known, and how its file differs from it.

    Args:
        published: the data set.
        part: train, validation or test.
        one: its list.
        folders: (C,) official folders of the classes.
    """
    if one.file.suffix == ".json":
        return True, "the annotations of the challenge, of which the lists are made"
    official, layout = published.parts[part].blob, published.layout
    if official is None:
        return True, "one whose official content is not on record"
    content = one.file.read_bytes().replace(b"\r\n", b"\n")
    if (version := published.parts[part].versions.get(split_list.blob_id(content))) is not None:
        return True, f"the official list, {version}"
    return split_list.identity(one, official, layout.paths(one, folders, layout.official()))


def faults(published: Published, lists: Mapping[str, SplitList]) -> dict[str, list[str]]:
    """What is wrong with the lists, by part: wrong numbers of images, images of the wrong class."""
    folders = class_folders(published, lists["train"]) if "train" in lists else []
    return {
        part: [*_count_faults(published, part, one, folders), *_folder_faults(published, part, one, folders)]
        for part, one in lists.items()
    }


def abridged(found: Sequence[str], summary: str) -> list[str]:
    """The first faults of one kind, and a summary if there are more."""
    return [*found[:SHOWN], *([summary] if len(found) > SHOWN else [])]


def _count_faults(published: Published, part: str, one: SplitList, folders: Sequence[str]) -> list[str]:
    name, classes, size = one.file.name, published.class_count, published.parts[part].size
    beyond = sorted(set(one.labels[one.labels >= classes].tolist()))
    if beyond:
        return [f"{name}: label {beyond[0]}, but there are {classes} classes, from 0"]
    found = []
    if len(one) != size:
        found.append(f"{name}: {len(one):,} images, expected {size:,}")
    counts, expected = class_counts(one, classes), published.counts(part)
    if expected is not None:
        wrong = np.flatnonzero(counts != np.array(expected))
        named = {c: f"class {c}" + (f" ({folders[c]})" if folders else "") for c in wrong.tolist()}
        lines = [f"{name}: {counts[c]} images of {words}, expected {expected[c]}" for c, words in named.items()]
        found += abridged(lines, f"{name}: wrong numbers of images of {len(wrong)} classes in all")
    elif not counts.all():
        found.append(f"{name}: no image of class {np.flatnonzero(counts == 0)[0]}")
    return found


def _folder_faults(published: Published, part: str, one: SplitList, folders: Sequence[str]) -> list[str]:
    """Images whose folder belongs to another class than their label."""
    found, name = [], one.file.name
    for label, written, image in zip(one.labels.tolist(), one.folders, one.images, strict=True):
        if label >= len(folders) or not (written or part == "train"):
            continue  # images of all classes lie in one folder
        if not written:
            found.append(f"{name}: the path {image} does not tell the folder of class {label}")
            continue
        own = published.layout.class_folder(written)
        folder_label = published.layout.label_of(own)
        if own != folders[label]:
            found.append(f"{name}: {written}/{image} has label {label}, which is that of {folders[label]}")
        elif folder_label is not None and folder_label != label:
            found.append(f"{name}: {written}/{image} has label {label}, its folder says {folder_label}")
    return abridged(found, f"{name}: {len(found)} images of a wrong class in all")
