"""folder-lt: the user's own images, <class>/* or train/<class>/*, val/<class>/* and test/<class>/*."""

import json
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from ltbench.data.datasets.base import Source
from ltbench.data.datasets.duplicates import find_duplicates, stamp
from ltbench.data.datasets.folder_listing import ClassFiles, Listing, find, has_class_folders, subfolders
from ltbench.data.datasets.folder_split import SPLIT_FILE, split_file, test_images
from ltbench.data.datasets.label_table import LabelTable, find_labelled, tables_in
from ltbench.data.images import ImageFiles, Images, LabelledImages, RawData
from ltbench.data.loading.decode import (
    TRUNCATED,
    UnreadableImageError,
    UnreadableImagesError,
    is_cut_off,
    open_image,
    read_bytes,
    several_frames,
    upright_rgb,
)
from ltbench.errors import LtbenchError, LtbenchWarning
from ltbench.files import paths
from ltbench.files.atomic import remove_abandoned, write_bytes, write_text
from ltbench.files.paths import cache_dir

__all__ = ["SPLIT_FILE", "Folder", "decode", "decode_one", "read"]

STREAMED_ABOVE = 2**31
"""Bytes of all decoded images; a folder with more stays files, which are streamed: see
``ltbench.data.loading.from_files``."""
SHOWN = 5
"""Number of names that are shown."""
_VERSION = "3"
"""Version of the decoding; to be raised when pixels change, so that older cached images are not used."""


_kept: ContextVar[bool] = ContextVar("kept", default=False)


@contextmanager
def files_kept() -> Iterator[None]:
    """Keep images as files, however few they are, for a command that is about the files."""
    before = _kept.set(True)
    try:
        yield
    finally:
        _kept.reset(before)


class Folder(Source):
    """Any folder of images with a folder for each class."""

    name = "folder-lt"
    summary = "your own images: <class>/* or train/<class>/*, test/<class>/* in --data-dir"
    recipe_table = "folder"
    backbone = "cifar_resnet32"
    image_size = 64

    def load(self, folder: Path, image_size: int) -> RawData:
        """Decode every image once, and read the decoded copy from the cache later; images of over 2 GiB stay files."""
        return read(folder, image_size)

    def load_keeping_untested(self, folder: Path, image_size: int) -> RawData:
        """The same, where classes may lack test images."""
        return read(folder, image_size, keep_untested=True)

    def load_labelled(self, folder: Path, image_size: int, labels: LabelTable, *, keep_untested: bool) -> RawData:
        """The same, where a table has the labels."""
        return read(folder, image_size, keep_untested=keep_untested, labels=labels)

    def folder_name(self, folder: Path) -> str | None:
        """The last part of its path."""
        return paths.storable_name(folder.resolve().name) or None

    def available(self, folder: Path) -> bool:
        """Whether there is at least one folder in it, or a table of labels."""
        return folder.is_dir() and bool(subfolders(folder) or tables_in(folder))


@dataclass(frozen=True)
class FolderParts:
    """The images of a folder, divided into the parts of a data set."""

    listing: Listing
    parts: dict[str, ClassFiles]
    """train, test, and validation where the user made one."""
    duplicates: dict[str, NDArray[np.int64]]
    """A number for every image of a part; byte-identical images of all parts have the same. Empty: nobody looked."""

    @property
    def files(self) -> list[Path]:
        """All image files, one part after the other."""
        return [file for part in self.parts.values() for file in part.files]

    def is_streamed(self, image_size: int) -> bool:
        """Whether images of this size stay files, since all of them would take more than `STREAMED_ABOVE`."""
        return _kept.get() or len(self.files) * 3 * image_size**2 > STREAMED_ABOVE

    def notes(self) -> list[str]:
        """Notes for the user, a sentence each."""
        notes = list(self.listing.notes)
        if skipped := self.listing.skipped_words():
            notes.append(f"not used: {skipped}; ltbench data verify folder-lt lists them")
        return [*notes, *self.duplicate_notes(), *self.untested_notes()]

    def untested_notes(self) -> list[str]:
        """Classes without test images."""
        sizes = np.bincount(self.parts["test"].labels, minlength=len(self.listing.classes))
        names = [self.listing.classes[label] for label in np.flatnonzero(sizes == 0)]
        if not names:
            return []
        shown = ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
        of = f"{len(names)} of {len(self.listing.classes)} classes"
        return [f"no test images of {of}, which are trained on and whose accuracy is n/a: {shown}"]

    def duplicate_notes(self) -> list[str]:
        """Copies of one image in two parts, or in two classes."""
        notes = []
        for kind, other in (("training", "test"), ("training", "validation"), ("validation", "test")):
            own, its = {"training": "train"}.get(kind, kind), other
            if own not in self.parts or its not in self.parts:
                continue
            shared = np.isin(self.duplicates[own], self.duplicates[its])
            if shared.any():
                one = self._name(own, int(np.flatnonzero(shared)[0]))
                same = self.duplicates[own][np.flatnonzero(shared)[0]]
                two = self._name(its, int(np.flatnonzero(self.duplicates[its] == same)[0]))
                notes.append(f"{kind} images that are copies of {other} images: {shared.sum()}, e.g. {one} of {two}")
        return [*notes, *self._in_two_classes()]

    def _in_two_classes(self) -> list[str]:
        labels = np.concatenate([part.labels for part in self.parts.values()])
        groups = np.concatenate([self.duplicates[part] for part in self.parts])
        order = np.lexsort((labels, groups))
        odd = np.flatnonzero((np.diff(groups[order]) == 0) & (np.diff(labels[order]) != 0))
        if not len(odd):
            return []
        one, two = (self.listing.shown(self.files[order[odd[0] + i]]) for i in (0, 1))
        return [f"images that stand in more than one class: {len(odd)}, e.g. {one} and {two}, with the same bytes"]

    def repeated(self, part: str) -> NDArray[np.bool_]:
        """(N,) whether an image of a part is a copy of one before it in the same class and part."""
        pairs = np.stack([self.duplicates[part], self.parts[part].labels], axis=1)
        first = np.unique(pairs, axis=0, return_index=True)[1]
        return ~np.isin(np.arange(len(pairs)), first)

    def _name(self, part: str, position: int) -> str:
        return self.listing.shown(self.parts[part].files[position])


def find_parts(
    folder: Path, *, keep_untested: bool = False, needs_test: bool = False, labels: LabelTable | None = None
) -> FolderParts:
    """Find the images of a folder and their parts, and set a test set aside where there is none.

    Args:
        folder: see `read`.
        keep_untested: whether a class may lack test images.
        needs_test: refuse a folder without test/; its images are taken as they are, without a search for copies.
        labels: table of the labels; None: class folders tell them, or where there are none a table in the folder.

    Raises:
        LtbenchError: see `read`.
    """
    if not folder.is_dir() and labels is None:
        raise LtbenchError(
            "the data folder is not there",
            where=folder.absolute(),
            hint="give a folder with one subfolder of images for each class: --data-dir DIR",
        )
    found = _listing(folder, keep_untested, labels, may_have_table=not needs_test)
    parts = dict(found.parts)
    if needs_test and "test" not in parts:
        raise LtbenchError("there is train/ but no test/", where=folder.absolute(), hint="unpack test/ too")
    files = FolderParts(found, parts, {}).files
    duplicates = np.arange(len(files)) if needs_test else find_duplicates(files)
    groups = dict(
        zip(parts, np.split(duplicates, np.cumsum([len(part.files) for part in parts.values()])[:-1]), strict=True)
    )
    if "test" not in parts:
        whole = parts["train"]
        tests = test_images(found, groups["train"], keep_untested=keep_untested)
        if not tests.any():
            raise LtbenchError(
                "no class has test images", where=folder.absolute(), hint="add images: a class needs at least two"
            )
        for part, own in (("train", ~tests), ("test", tests)):
            parts[part] = ClassFiles([whole.files[i] for i in np.flatnonzero(own)], whole.labels[own])
        groups |= {"test": groups["train"][tests], "train": groups["train"][~tests]}
        _refuse_untrained(found, parts["train"], split_file(found))
    return FolderParts(found, parts, groups)


def _refuse_untrained(found: Listing, train: ClassFiles, split: Path) -> None:
    """Refuse classes all of whose images are test images, since their training images have been removed.

    Raises:
        LtbenchError: naming them and the split.
    """
    counts = np.bincount(train.labels, minlength=len(found.classes))
    if without := [found.classes[label] for label in np.flatnonzero(counts == 0)]:
        raise LtbenchError(
            f"all images left of a class are test images: {', '.join(without[:SHOWN])}",
            where=split.absolute(),
            hint="add images of it, remove the class, or delete the split file for a new split",
        )


def _listing(folder: Path, keep_untested: bool, labels: LabelTable | None, *, may_have_table: bool) -> Listing:
    """The content of a folder by its class folders, or by a table where it is told or there are no such folders."""
    if labels is not None:
        return find_labelled(folder, labels, keep_untested=keep_untested)
    tables = tables_in(folder) if may_have_table else []
    try:
        found = find(folder, keep_untested=keep_untested)
    except LtbenchError as error:
        if not tables:
            raise
        if has_class_folders(folder):
            name = tables[0].relative_to(folder).as_posix()
            raise LtbenchError(f"{error}; or let {name} tell the labels: --labels {name}") from None
        return find_labelled(folder, None, keep_untested=keep_untested)
    if tables:
        name = tables[0].relative_to(folder).as_posix()
        found.notes.append(f"class folders tell the labels, and {name} is not read; --labels {name} reads it")
    return found


def read(
    folder: Path,
    image_size: int,
    *,
    needs_test: bool = False,
    keep_untested: bool = False,
    labels: LabelTable | None = None,
) -> RawData:
    """Read an image folder.

    Args:
        folder: has train/ and test/, and val/ perhaps, or one folder a class; without test/ a stratified fifth of the
            images becomes the test set, and the choice is stored beside them in ``ltbench-split.csv`` (of a table, in
            ``ltbench-split-TABLE.csv``), or in the cache where the folder cannot be written. It may lie in a folder
            that holds nothing else.
        image_size: shorter sides are scaled to it, then the centre is cut out. Images that would take more than
            `STREAMED_ABOVE` bytes so stay files.
        needs_test: refuse a folder without test/.
        keep_untested: whether a class may lack test images, if there are too few or the user has set none aside.
        labels: table of the labels; None: class folders tell them, or where there are none a table in the folder.

    Raises:
        LtbenchError: for a missing folder, classes that disagree, a folder that can be read in two ways, or a file
            that is no readable image.
    """
    folder_parts = find_parts(folder, needs_test=needs_test, keep_untested=keep_untested, labels=labels)
    for note in folder_parts.notes():
        warnings.warn(f"{folder}: {note}", LtbenchWarning, stacklevel=2)
    return load(folder_parts, image_size)


def load(folder_parts: FolderParts, image_size: int) -> RawData:
    """The images of a folder whose parts are known: decoded, or as files where they would take too much memory.

    Raises:
        UnreadableImagesError: naming those that are truncated, too large, or no images.
    """
    listing, parts = folder_parts.listing, folder_parts.parts
    images: dict[str, Images]
    if folder_parts.is_streamed(image_size):
        images = {
            part: ImageFiles(listing.root, np.array([listing.name(file) for file in own.files]), own.labels)
            for part, own in parts.items()
        }
    else:
        pixels, ends = decode(folder_parts.files, image_size), np.cumsum([len(own.files) for own in parts.values()])
        images = {
            part: LabelledImages(some, own.labels)
            for (part, own), some in zip(parts.items(), np.split(pixels, ends[:-1]), strict=True)
        }
        if animated := [listing.shown(folder_parts.files[i]) for i in _with_frames(folder_parts.files, image_size)]:
            shown = ", ".join(animated[:SHOWN]) + (", ..." if len(animated) > SHOWN else "")
            message = f"images with several frames, of which the first is used: {len(animated)}, {shown}"
            warnings.warn(message, LtbenchWarning, stacklevel=3)
    names = {part: tuple(listing.name(file) for file in own.files) for part, own in parts.items()}
    return RawData(
        images["train"],
        images["test"],
        listing.classes,
        names["test"],
        images.get("validation"),
        folder_parts.duplicates.get("train"),
        names["train"],
        names.get("validation", ()),
    )


def decode(files: list[Path], image_size: int) -> NDArray[np.uint8]:
    """Decode images to (N, 3, size, size), keeping the result in the cache for the next time.

    Raises:
        UnreadableImagesError: naming the files that are truncated, too large or no images.
    """
    cached = _cache_file(files, image_size, ".npy")
    if cached.exists():
        kept: NDArray[np.uint8] = np.load(cached, mmap_mode="r", allow_pickle=False)
        return kept
    with ThreadPoolExecutor() as pool:
        decoded = list(pool.map(lambda file: _decoded_or_fault(file, image_size), files))
        several = list(pool.map(several_frames, files))
    faults = [one for one in decoded if isinstance(one, UnreadableImageError)]
    if faults:
        raise UnreadableImagesError(faults, len(files))
    images = np.stack([one for one in decoded if isinstance(one, np.ndarray)])
    remove_abandoned(cached.parent)
    write_text(_cache_file(files, image_size, ".frames.json"), json.dumps(np.flatnonzero(several).tolist()))
    write_bytes(cached, lambda stream: np.save(stream, images, allow_pickle=False))
    return images


def decode_one(file: Path, size: int) -> NDArray[np.uint8]:
    """One image as (3, size, size), its shorter side scaled and the centre cut out.

    Raises:
        UnreadableImageError: if it cannot be used, with the reason.
    """
    with open_image(file, file) as opened_image:
        may_be_cut_off = opened_image.format in ("JPEG", "MPO")
        image = upright_rgb(opened_image, file)
        if may_be_cut_off and is_cut_off(read_bytes(file)):
            raise UnreadableImageError(file, TRUNCATED)
        if image.size != (size, size):
            image = ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
        return np.asarray(image, dtype=np.uint8).transpose(2, 0, 1)


def _decoded_or_fault(file: Path, size: int) -> NDArray[np.uint8] | UnreadableImageError:
    try:
        return decode_one(file, size)
    except UnreadableImageError as error:
        return error


def _with_frames(files: list[Path], image_size: int) -> list[int]:
    """The positions of decoded images that have several frames."""
    try:
        found: list[int] = json.loads(_cache_file(files, image_size, ".frames.json").read_bytes())
        return found
    except (OSError, ValueError):  # a missing or damaged cache file does not matter
        return []


def _cache_file(files: list[Path], image_size: int, suffix: str) -> Path:
    """The cache file of the decoded images, or of facts about them."""
    return cache_dir() / "decoded" / f"{stamp(files, _VERSION, ' ', image_size)}{suffix}"
