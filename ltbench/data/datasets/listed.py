"""Data sets of many large images whose parts are given by official lists: the images stay files."""

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ltbench.data.datasets import split_lists
from ltbench.data.datasets.base import Source
from ltbench.data.datasets.split_lists import SplitList
from ltbench.data.images import ImageFiles, RawData
from ltbench.data.prepare.download import in_gb
from ltbench.errors import LtbenchError, LtbenchWarning
from ltbench.progress import ProgressListener, silent

SHOWN = 5
"""How many of many faults of one kind are named."""
PROBES = 9
"""Images that are looked for to see in which layout they lie."""


@dataclass(frozen=True)
class Part:
    """What is published about one part of a data set."""

    lists: tuple[str, ...]
    """File names of its list; any one will do."""
    images: str
    """The set of images that its paths are about unless they say otherwise."""
    size: int
    per_class: int | None = None
    """Images of every class where that is one number."""
    blob: str | None = None
    """Git's name for the content of the list."""


@dataclass(frozen=True, kw_only=True)
class Archive:
    """A published file that images or a list are unpacked from."""

    file: str
    size: int
    """Bytes, about."""
    md5: str
    page: str
    """Where a person finds it."""
    url: str | None = None
    """None where it takes an account."""
    images: str | None = None
    """The set of images that is in it."""
    part: str | None = None
    """The part whose list is in it."""
    into: str = "."
    """Folder for its contents, in the data folder."""
    nested: bool = False
    """It holds an archive for each class."""


class Listed(Source):
    """What ImageNet-LT, iNaturalist 2018 and Places-LT have in common."""

    class_count: ClassVar[int]
    groups: ClassVar[tuple[int, int, int]]
    """Many-, medium- and few-shot classes."""
    parts: ClassVar[Mapping[str, Part]]
    """train, test, and validation where there is one."""
    roots: ClassVar[Mapping[str, str]]
    """The first folder of a path in a list -> the set of images that it stands for."""
    layouts: ClassVar[Mapping[str, tuple[str, ...]]]
    """Set of images -> how its paths may look in the data folder, the official way first.

    ``{folder}`` is the folder of the class, ``{flat}`` the same as one name, ``{image}`` the file.
    """
    archives: ClassVar[tuple[Archive, ...]]
    list_folders: ClassVar[tuple[str, ...]]
    """Where lists may lie in the data folder beside that itself."""
    list_archives: ClassVar[tuple[str, ...]] = ()
    """Zip files of lists as their authors hand them out."""
    lists_from: ClassVar[str]
    """Where a person finds the lists."""

    backbone = "resnet50"
    image_size = 224

    def load(self, folder: Path, image_size: int) -> RawData:
        """Read the lists and check them; no image is opened."""
        absent = self.absent(folder)
        if absent:
            raise self.incomplete(folder, absent)
        lists = self.read(folder)
        faults = [fault for one in self.faults(lists).values() for fault in one]
        if faults:
            more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
            raise LtbenchError(
                f"{self.name}: {faults[0]}{more}",
                where=folder.absolute(),
                hint=f"{self.command('verify', folder)} tells all that is wrong",
            )
        folders = self.class_folders(lists["train"])
        layouts = self.layouts_in(folder, lists, folders)
        if len(layouts) < len(self.layouts):
            raise self.incomplete(folder, [self._images(images) for images in self.layouts if images not in layouts])
        for part, one in lists.items():
            same, words = self.identity(part, one, folders)
            if not same:
                warnings.warn(f"{one.file.name} is {words}", LtbenchWarning, stacklevel=2)
        kept = {
            part: ImageFiles(folder, np.array(self.paths(one, folders, layouts)), one.labels)
            for part, one in lists.items()
        }
        test_names = tuple(self.paths(lists["test"], folders, self.official_layouts()))
        return RawData(kept["train"], kept["test"], tuple(folders), test_names, kept.get("validation"))

    def prepare(self, folder: Path, listener: ProgressListener = silent) -> str:
        """Download what may be downloaded and unpack it; goes on where it was interrupted.

        Raises:
            LtbenchError: with the steps that are left to the user, or for what went wrong.
        """
        from ltbench.data.prepare.prepare import prepare

        return prepare(self, folder, listener)

    def available(self, folder: Path) -> bool:
        """Whether the lists are there, and a folder for each set of images."""
        return not self.absent(folder)

    def train_counts(self) -> Sequence[int] | None:
        """The published number of training images of every class; None if only their sum is known."""
        return _counts().get(self.name)

    def class_folder(self, written: str) -> str:
        """The official folder of a class, from how a list may write it."""
        return written

    def flat(self, folder: str) -> str:
        """The folder of a class as a single name."""
        return folder

    def label_of(self, folder: str) -> int | None:
        """The label that the official folder of a class tells, if it does."""
        return None

    def list_file(self, folder: Path, part: str) -> Path | None:
        """The list of a part, if it is there."""
        places = (folder, *(folder / name for name in self.list_folders))
        candidates = (place / name for place in places for name in self.parts[part].lists)
        return next((file for file in candidates if file.is_file()), None)

    def read(self, folder: Path) -> dict[str, SplitList]:
        """The lists that are there, by part.

        Raises:
            LtbenchError: if one is malformed.
        """
        found = {part: self.list_file(folder, part) for part in self.parts}
        return {
            part: split_lists.read(file, self.roots, self.parts[part].images) for part, file in found.items() if file
        }

    def class_folders(self, train: SplitList) -> list[str]:
        """(C,) the official folder of each class, from the first training image of it; "" for a class without."""
        folders = [""] * self.class_count
        for label, written in zip(train.labels.tolist(), train.folders, strict=True):
            if label < self.class_count and not folders[label]:
                folders[label] = self.class_folder(written)
        return folders

    def identity(self, part: str, one: SplitList, folders: Sequence[str]) -> tuple[bool, str]:
        """Whether a list is the official one as far as that is known, and how its file differs from it."""
        official = self.parts[part].blob
        if official is None:
            return True, "one whose official content is not on record"
        return split_lists.identity(one, official, self.paths(one, folders, self.official_layouts()))

    def official_layouts(self) -> dict[str, str]:
        """The layout of each set of images that the official lists use."""
        return {images: known[0] for images, known in self.layouts.items()}

    def paths(self, one: SplitList, folders: Sequence[str], layouts: Mapping[str, str]) -> list[str]:
        """(N,) the paths of a list's images.

        Args:
            one: the list.
            folders: (C,) of the classes, official.
            layouts: of each set of images.
        """
        flat = [self.flat(folder) for folder in folders]
        return [
            layouts[images].format(folder=folders[label], flat=flat[label], image=image)
            for images, label, image in zip(one.sets, one.labels.tolist(), one.images, strict=True)
        ]

    def layouts_in(self, folder: Path, lists: Mapping[str, SplitList], folders: Sequence[str]) -> dict[str, str]:
        """The layout in which each set of images lies; a set of which nothing is found is left out.

        A few images of each set are looked for, spread over its lists: some may be missing.
        """
        chosen = {}
        for images, layouts in self.layouts.items():
            some = [_spread(one, images) for one in lists.values()]
            found = {
                layout: sum(
                    (folder / path).is_file() for few in some for path in self.paths(few, folders, {images: layout})
                )
                for layout in layouts
            }
            best = max(layouts, key=found.__getitem__)
            if found[best]:
                chosen[images] = best
        return chosen

    def layout_words(self, images: str) -> str:
        """Where the images of a set may lie, for a person."""
        return " or ".join(
            layout.format(folder="<class>", flat="<class>", image="<image>") for layout in self.layouts[images]
        )

    def absent(self, folder: Path) -> list[str]:
        """What is not there, in words: lists, and folders of images; a quick look."""
        lists = [part for part in self.parts if self.list_file(folder, part) is None]
        sets = [images for images in self.layouts if not self.has_folder(folder, images)]
        return [
            *(f"the list {' or '.join(self.parts[part].lists)}" for part in lists),
            *(self._images(images) for images in sets),
        ]

    def incomplete(self, folder: Path, missing: Sequence[str]) -> LtbenchError:
        """The error for a data set that is not all there: what is missing, where it was looked for, how to get it."""
        places = ", ".join(str(folder.absolute() / name) for name in ("", *self.list_folders))
        absent = [part for part in self.parts if self.list_file(folder, part) is None]
        return LtbenchError(
            f"{self.name} is not complete; there is no sign of\n" + "\n".join(f"    {one}" for one in missing),
            where=places,
            hint=self.steps(folder, [one for one in self.archives if not self._begun(folder, one)], absent),
        )

    def steps(self, folder: Path, archives: Sequence[Archive], parts: Sequence[str], wrong: Sequence[Path] = ()) -> str:
        """What is left to do, numbered.

        Args:
            folder: --data-dir.
            archives: that are not there.
            parts: whose lists are not there, or wrong.
            wrong: lists that are there, but not as published.
        """
        steps = [f"delete {file}, or make it right" for file in wrong]
        for page in dict.fromkeys(one.page for one in archives if one.url is None):
            files = " and ".join(f"{one.file} ({in_gb(one.size)})" for one in archives if one.page == page)
            steps.append(f"fetch {files} from {page}; put them in {folder}")
        by_hand = [part for part in parts if part not in {one.part for one in self.archives}]
        if by_hand:
            names = ", ".join(" or ".join(self.parts[part].lists) for part in by_hand)
            steps.append(f"fetch {names} from {self.lists_from}; put them in {folder}")
        loaded = ", ".join(f"{one.file} ({in_gb(one.size)})" for one in archives if one.url)
        command = self.command("prepare", folder)
        steps.append(f"{command}, which downloads {loaded}" if loaded else command)
        return "\n         ".join(f"{number}. {step}" for number, step in enumerate(steps, start=1))

    def faults(self, lists: Mapping[str, SplitList]) -> dict[str, list[str]]:
        """What is wrong with the lists, by part."""
        folders = self.class_folders(lists["train"]) if "train" in lists else []
        return {
            part: [*self._counting_faults(part, one, folders), *self._folder_faults(part, one, folders)]
            for part, one in lists.items()
        }

    def expected(self, part: str) -> Sequence[int] | None:
        """(C,) the published number of images of every class; None if only their sum is known."""
        if part == "train":
            return self.train_counts()
        each = self.parts[part].per_class
        return [each] * self.class_count if each else None

    def _counting_faults(self, part: str, one: SplitList, folders: Sequence[str]) -> list[str]:
        name, published = one.file.name, self.parts[part]
        beyond = sorted(set(one.labels[one.labels >= self.class_count].tolist()))
        if beyond:
            return [f"{name}: label {beyond[0]}, but there are {self.class_count} classes, from 0"]
        faults = []
        if len(one) != published.size:
            faults.append(f"{name}: {len(one):,} images, expected {published.size:,}")
        counts, expected = class_sizes(one, self.class_count), self.expected(part)
        if expected is not None:
            wrong = np.flatnonzero(counts != np.array(expected))
            named = {c: f"class {c}" + (f" ({folders[c]})" if folders else "") for c in wrong[:SHOWN]}
            faults += [f"{name}: {counts[c]} images of {words}, expected {expected[c]}" for c, words in named.items()]
            if len(wrong) > SHOWN:
                faults.append(f"{name}: wrong numbers of images of {len(wrong)} classes in all")
        elif not counts.all():
            faults.append(f"{name}: no image of class {np.flatnonzero(counts == 0)[0]}")
        return faults

    def _folder_faults(self, part: str, one: SplitList, folders: Sequence[str]) -> list[str]:
        """Images whose folder belongs to another class than their label."""
        faults = []
        for label, written, image in zip(one.labels.tolist(), one.folders, one.images, strict=True):
            if label >= len(folders) or not (written or part == "train"):
                continue  # images of all classes lie in one folder
            if not written:
                faults.append(f"{one.file.name}: the path {image} does not tell the folder of class {label}")
                continue
            own = self.class_folder(written)
            told = self.label_of(own)
            if own != folders[label]:
                faults.append(
                    f"{one.file.name}: {written}/{image} has label {label}, which is that of {folders[label]}"
                )
            elif told is not None and told != label:
                faults.append(f"{one.file.name}: {written}/{image} has label {label}, its folder says {told}")
        more = f"{one.file.name}: {len(faults)} images of a wrong class in all"
        return [*faults[:SHOWN], *([more] if len(faults) > SHOWN else [])]

    def _begun(self, folder: Path, archive: Archive) -> bool:
        """Whether an archive is there, or some of what it gives."""
        if archive.part is not None and self.list_file(folder, archive.part):
            return True
        unpacked = archive.images is not None and self.has_folder(folder, archive.images)
        return unpacked or (folder / archive.file).is_file()

    def has_folder(self, folder: Path, images: str) -> bool:
        """Whether a folder is there that holds a set of images in one of its layouts, and is not empty."""
        places = (folder / layout.partition("{")[0] for layout in self.layouts[images])
        return any(place.is_dir() and any(place.iterdir()) for place in places)

    def _images(self, images: str) -> str:
        return f"the {images} images, {self.layout_words(images)}"


def _spread(one: SplitList, images: str) -> SplitList:
    """Some of the images of a list that belong to a set, from its beginning to its end."""
    own = np.flatnonzero(np.array(one.sets) == images)
    return one.take(own[np.linspace(0, len(own) - 1, PROBES).astype(int)] if len(own) else own)


def class_sizes(one: SplitList, classes: int) -> NDArray[np.int64]:
    """(C,) how many images of each class a list names."""
    return np.bincount(one.labels[one.labels < classes], minlength=classes).astype(np.int64)


@cache
def _counts() -> dict[str, list[int]]:
    stored: dict[str, list[int]] = json.loads((files("ltbench.data.datasets") / "class_counts.json").read_text())
    return stored
