"""The content of a user's folder of images: parts, classes, image files, and unused files with the reasons."""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ltbench.data.datasets.image_names import is_image, is_litter
from ltbench.errors import LtbenchError

PART_NAMES = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
"""Names of the folder of each part, in upper or lower case."""
_PART = {name: part for part, names in PART_NAMES.items() for name in names}
LITTER = "hidden, or left by an operating system"
BESIDE = "files beside the folders"
SPLIT = "ltbench-split"
"""Beginning of the name of a file that stores a split."""
SHOWN = 3
"""Number of names that are shown."""


@dataclass(frozen=True)
class ClassFiles:
    """The image files of one part, sorted by class, then by path."""

    files: list[Path]
    labels: NDArray[np.int64]
    """(N,)."""


@dataclass
class Listing:
    """The content of a folder."""

    root: Path
    """The folder that has the parts or the classes: the given one, or the one folder in it."""
    classes: tuple[str, ...] = ()
    parts: dict[str, ClassFiles] = field(default_factory=dict)
    """train, and as far as they are there validation and test."""
    skipped: list[tuple[Path, str]] = field(default_factory=list)
    """Files and folders that are not used, each with the reason in a few words."""
    notes: list[str] = field(default_factory=list)
    """Decisions that the user may not expect, a sentence each."""
    table: str = ""
    """What the table is called that tells the labels, without its ending; empty where class folders do."""
    folders: dict[Path, str] = field(default_factory=dict)
    """The name of each class folder of each part, also of one without images."""

    def class_of(self, path: Path) -> str | None:
        """The name of the class folder that a path lies in; None if it lies in none."""
        return next((self.folders[folder] for folder in path.parents if folder in self.folders), None)

    def name(self, path: Path) -> str:
        """A path as it is below the root."""
        return path.relative_to(self.root).as_posix()

    def shown(self, path: Path) -> str:
        """The same for a terminal: control characters as escapes."""
        name = self.name(path)
        return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in name)

    def skipped_words(self) -> str:
        """Numbers of unused files by reason, with the first names; "" if there are none.

        Litter is left out, as are the notes of whoever made the data set that lie beside the folders.
        """
        counts = Counter(reason for _, reason in self.skipped if reason not in (LITTER, BESIDE))
        words = []
        for reason, count in counts.items():
            own = [self.shown(path) for path, why in self.skipped if why == reason]
            words.append(f"{count} {reason} ({_few(own)})")
        return "; ".join(words)


def find(folder: Path, *, keep_untested: bool = False) -> Listing:
    """Find the images of a folder.

    Classes are the folders that hold images, at the top or in train/, val/ and test/, and an image in a folder of a
    class folder belongs to that class. A folder that holds nothing but one such folder is entered.

    Args:
        folder: the user's.
        keep_untested: whether classes of train/ may be missing in test/.

    Raises:
        LtbenchError: for a folder without images, or one that can be read in two ways; what to do is said.
    """
    found = Listing(_entered(folder))
    if found.root != folder:
        found.notes.append(f"the data set is the one folder in it: {found.root.relative_to(folder).as_posix()}/")
    parts = _parts(found)
    found.classes, found.parts["train"] = _classes(parts.get("train", found.root), found)
    for part in ("validation", "test"):
        if part in parts:
            found.parts[part] = _like_train(parts["train"], parts[part], part, found, keep_untested)
    if "validation" in found.parts and not len(found.parts["validation"].files):
        found.notes.append(f"{parts['validation'].name}/ is empty")
        del found.parts["validation"]
    if "validation" in found.parts and "test" not in found.parts:
        found.notes.append(
            f"there is no test/: a part of {parts['train'].name}/ is the test set, and {parts['validation'].name}/ "
            "the validation set, which --validation uses"
        )
    refuse_twins(found)
    return found


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder that are no litter, sorted."""
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not is_litter(entry))


def has_class_folders(folder: Path) -> bool:
    """Whether two folders or more hold images as those of classes do: beside each other, or in each part.

    Folders of other names in each part are none of classes, but e.g. of patients.
    """
    folders = subfolders(_entered(folder))
    parts = [entry for entry in folders if entry.name.lower() in _PART]
    inner = [{one.name for one in subfolders(part) if _has_images(one)} for part in parts]
    inner = [names for names in inner if names]
    beside = [entry for entry in folders if entry not in parts and _has_images(entry)]
    in_parts = bool(inner) and max(map(len, inner)) > 1 and bool(set.intersection(*inner))
    return len(beside) > 1 or in_parts


def _images_in(folder: Path) -> Iterator[Path]:
    """Image files directly in a folder."""
    return (entry for entry in folder.iterdir() if entry.is_file() and not is_litter(entry) and is_image(entry))


def _has_images(folder: Path) -> bool:
    """Whether there are image files in a folder or below."""
    return any(is_image(file) for file in files_below(folder, lambda path, reason: None))


def files_below(folder: Path, skip: Callable[[Path, str], None]) -> Iterator[Path]:
    """Files in a folder and below, links followed, litter and what is no file left out."""
    seen = set()
    for root, names, files in os.walk(folder, followlinks=True, onerror=_raise):
        here = os.stat(root)  # noqa: PTH116 - of many folders
        if (here.st_dev, here.st_ino) in seen:
            names.clear()
            skip(Path(root), "links to a folder that is read already")
            continue
        seen.add((here.st_dev, here.st_ino))
        for name in [name for name in names if is_litter(Path(root, name))]:
            names.remove(name)
            skip(Path(root, name), LITTER)
        for file in (Path(root, name) for name in files):
            if is_litter(file):
                skip(file, LITTER)
            elif file.is_file():
                yield file
            else:
                skip(file, "devices or pipes" if file.exists() else "links that lead nowhere")


def _raise(error: OSError) -> None:
    raise error


def _entered(folder: Path) -> Path:
    """The folder itself, or the only one in it that holds images, as archives often unpack to."""
    while True:
        filled = list(islice(filter(_has_images, subfolders(folder)), 2))
        if len(filled) != 1 or filled[0].name.lower() in _PART or any(_images_in(folder)):
            return folder
        (inner,) = filled
        if any(_images_in(inner)) or not any(map(_has_images, subfolders(inner))):
            return folder
        folder = inner


def _parts(found: Listing) -> dict[str, Path]:
    """The folders of the parts; none where classes lie at the top, of which one may be called train."""
    folders = subfolders(found.root)
    named = {entry: _PART[entry.name.lower()] for entry in folders if entry.name.lower() in _PART}
    nested = [entry for entry in named if any(map(_has_images, subfolders(entry)))]
    flat = [entry for entry in named if entry not in nested and any(_images_in(entry))]
    others = [entry for entry in folders if entry not in named and _has_images(entry)] if named else []
    if flat and (nested or not others):
        raise LtbenchError(
            f"{_listed(flat)} {'holds' if len(flat) == 1 else 'hold'} images, but no folders of classes"
            + (f", unlike {_listed(nested)}" if nested else ""),
            where=found.root.absolute(),
            hint="sort its images into a folder for each class, or move it elsewhere",
        )
    if flat:
        found.notes.append(
            f"{_listed(flat)} {'is' if len(flat) == 1 else 'are'} taken for a class, by what lies beside"
        )
        return {}
    if not nested and others:
        return {}
    parts: dict[str, Path] = {}
    for entry in nested or named:
        if named[entry] in parts:
            raise LtbenchError(
                f"{parts[named[entry]].name}/ and {entry.name}/ are names of one part",
                where=found.root.absolute(),
                hint="join the two folders, or move one elsewhere",
            )
        parts[named[entry]] = entry
    parts = {part: parts[part] for part in PART_NAMES if part in parts}
    for entry, part in named.items():
        parts.setdefault(part, entry)  # one that is empty, which will be told
    if parts and ("train" not in parts or (others and len(parts) == 1)):
        beside = f" beside {_listed(others)}" if others else ""
        raise LtbenchError(
            f"{_listed(list(parts.values()))} {'looks' if len(parts) == 1 else 'look'} like a part of a data set, "
            f"but {'there is no train/' if 'train' not in parts else 'classes lie'}{beside}",
            where=found.root.absolute(),
            hint="put all class folders into train/, or into train/, val/ and test/; rename a class that is called so",
        )
    if parts:
        _skip_files(found.root, found)
    found.skipped += [(entry, f"folders beside {_listed(list(parts.values()))}") for entry in others if parts]
    return parts


def _classes(
    folder: Path, found: Listing, *, fewest: int = 2, may_be_empty: bool = False
) -> tuple[tuple[str, ...], ClassFiles]:
    """The classes of a part, or of a folder without parts, and their images."""
    outer, folder = folder, _entered(folder)
    if folder != outer:
        found.notes.append(f"the classes of {found.name(outer)}/ lie in its one folder {found.name(folder)}/")
    files: list[Path] = []
    labels: list[int] = []
    nested: list[Path] = []
    _skip_files(folder, found)
    if outer != folder:
        _skip_files(outer, found)
    kept: list[Path] = []
    for name in subfolders(folder):
        images = []
        found.folders[name] = name.name
        for file in sorted(files_below(name, lambda path, reason: found.skipped.append((path, reason)))):
            if is_image(file):
                images.append(file)
            else:
                found.skipped.append((file, "files that are no images"))
        if not images:
            if may_be_empty:
                continue
            raise LtbenchError("a class folder has no images", where=name, hint="add images or remove the folder")
        _refuse_odd_names([name, *images], folder)
        nested += [file for file in images if file.parent != name]
        files += images
        labels += [len(kept)] * len(images)
        kept.append(name)
    if len(kept) < fewest:
        raise LtbenchError(
            f"{len(kept)} class folders found, at least {'two are' if fewest > 1 else 'one is'} needed",
            where=folder.absolute(),
            hint="put the images of each class into a folder named after the class",
        )
    _refuse_parts_in_classes(nested, folder)
    if nested and len(nested) == len(files):
        _refuse_parts_for_classes([name.name for name in kept], folder)
    if nested:
        found.notes.append(
            f"images in folders of class folders, which belong to these classes: {len(nested)}, "
            f"e.g. {found.shown(nested[0])}"
        )
    return tuple(name.name for name in kept), ClassFiles(files, np.array(labels, dtype=np.int64))


def _skip_files(folder: Path, found: Listing) -> None:
    """Note whatever lies directly in a folder of folders and is none, but for the stored split."""
    for entry in sorted(folder.iterdir()):
        if is_litter(entry):
            found.skipped.append((entry, LITTER))
        elif entry.is_dir() or entry.name.startswith(SPLIT):
            continue
        elif not entry.exists():
            found.skipped.append((entry, "links that lead nowhere"))
        elif not entry.is_file():
            found.skipped.append((entry, "devices or pipes"))
        else:
            found.skipped.append((entry, "images in no class folder" if is_image(entry) else BESIDE))


def _like_train(train: Path, folder: Path, part: str, found: Listing, keep_untested: bool) -> ClassFiles:
    """The images of validation or test, with the labels that train gives their classes."""
    classes, own = _classes(folder, found, fewest=0 if part == "validation" else 1, may_be_empty=True)
    more, fewer = sorted(set(classes) - set(found.classes)), sorted(set(found.classes) - set(classes))
    may_lack = part == "validation" or keep_untested
    odd = more if may_lack else sorted({*more, *fewer})
    if odd:
        hint = "give both the same class folders, with at least one image each"
        if not more:
            hint += "; or train on these classes without testing them: --keep-classes-without-test-images"
        shown = ", ".join(_plain(name) for name in odd[:5])
        raise LtbenchError(
            f"class folders disagree between {train.name}/ and {folder.name}/: {shown}",
            where=found.root.absolute(),
            hint=hint,
        )
    label = {name: position for position, name in enumerate(found.classes)}
    translated = np.array([label[name] for name in classes], dtype=np.int64)
    return ClassFiles(own.files, translated[own.labels] if len(classes) else own.labels)


def _refuse_parts_in_classes(nested: Sequence[Path], folder: Path) -> None:
    inside = [file.relative_to(folder).parts[:2] for file in nested]
    inside = [(name, inner) for name, inner in dict.fromkeys(inside) if inner.lower() in _PART]
    if len({_PART[inner.lower()] for _, inner in inside}) > 1:
        raise LtbenchError(
            f"class folders hold parts of the data set: {_few([f'{name}/{inner}/' for name, inner in inside])}",
            where=folder.absolute(),
            hint="turn folders round: train/CLASS/ and test/CLASS/ instead of CLASS/train/ and CLASS/test/",
        )


def _refuse_parts_for_classes(names: Sequence[str], folder: Path) -> None:
    parts = [[_PART[word] for word in re.split(r"[\W_]+", name.lower()) if word in _PART] for name in names]
    if all(parts):
        raise LtbenchError(
            f"folders of class folders look like parts of the data set: {_few([f'{name}/' for name in names])}",
            where=folder.absolute(),
            hint="call them train/, val/ and test/; or, if they are classes, put their images into them directly",
        )


def refuse_twins(found: Listing) -> None:
    """Refuse classes whose names look the same; those that differ in case are noted.

    Raises:
        LtbenchError: with both names.
    """
    looks: dict[str, str] = {}
    folded: dict[str, str] = {}
    for name in found.classes:
        other = looks.setdefault(_look(name), name)
        if other != name:
            raise LtbenchError(
                f"the names of two classes look the same: {other!a} and {name!a}",
                where=found.root.absolute(),
                hint="they differ in spaces or in the form of Unicode; make them one class, or rename one",
            )
        other = folded.setdefault(_look(name).casefold(), name)
        if other != name:
            found.notes.append(f"the classes {other} and {name} differ only in upper and lower case")


def _look(name: str) -> str:
    return " ".join(unicodedata.normalize("NFC", name).split())


def _plain(name: str) -> str:
    """A name; with quotes and code points where it does not look like what it is."""
    return name if _look(name) == name else ascii(name)


def _refuse_odd_names(paths: Sequence[Path], folder: Path) -> None:
    """Refuse names below a folder that results and lists of images, which are UTF-8, could not hold."""
    for path in paths:
        try:
            str(path.relative_to(folder)).encode()
        except UnicodeEncodeError:
            raise LtbenchError(
                "the name of a file or folder is not UTF-8",
                where=str(path).encode(errors="backslashreplace").decode(),
                hint="rename it; convmv renames many at once",
            ) from None


def _listed(folders: Sequence[Path]) -> str:
    names = [f"{folder.name}/" for folder in folders]
    more = [f"{len(names) - 5} more"] if len(names) > 5 else []
    *first, last = [*names[:5], *more]
    return f"{', '.join(first)} and {last}" if first else last


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
