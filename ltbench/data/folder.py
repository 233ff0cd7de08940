"""folder-lt: the user's own images, <class>/* or train/<class>/* and test/<class>/*."""

import csv
import hashlib
import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from ltbench import draws
from ltbench.atomic import remove_abandoned, write_bytes, write_text
from ltbench.data.decoding import UNREADABLE, as_rgb, is_cut_off
from ltbench.data.source import ImageFiles, Images, LabelledImages, RawData, Source
from ltbench.errors import LtbenchError
from ltbench.places import cache_dir

SPLIT_FILE = "ltbench-split.csv"
TEST_SHARE = 0.2
STREAMED_ABOVE = 2**31
"""Bytes of all decoded images; a folder with more stays files, which are streamed (``ltbench.data.streaming``)."""


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

    def available(self, folder: Path) -> bool:
        """Whether there is at least one folder in it."""
        return folder.is_dir() and bool(_subfolders(folder))


def read(folder: Path, image_size: int, *, needs_test: bool = False) -> RawData:
    """Read an image folder.

    Args:
        folder: has train/ and test/, or one folder a class; then a stratified fifth of the images becomes the
            test set, and the choice is stored beside them in ``ltbench-split.csv``.
        image_size: shorter sides are scaled to it, then the centre is cut out. Images that would take more than
            `STREAMED_ABOVE` bytes so stay files.
        needs_test: refuse a folder without test/.

    Raises:
        LtbenchError: for a missing folder, classes that disagree, or a file that is no readable image.
    """
    if not folder.is_dir():
        raise LtbenchError(
            "the data folder is not there",
            where=folder.absolute(),
            hint="give the folder that has one folder of images for each class: --data-dir DIR",
        )
    if (folder / "train").is_dir():
        return _read_parts(folder, image_size, needs_test)
    files, labels, classes = _listing(folder)
    tests = _stored_split(folder, files, labels)
    whole = _images(folder, files, labels, image_size)
    return RawData(whole.take(~tests), whole.take(tests), classes, _names(files, folder, tests))


def _read_parts(folder: Path, image_size: int, needs_test: bool) -> RawData:
    files, labels, classes = _listing(folder / "train")
    if not (folder / "test").is_dir():
        if needs_test:
            raise LtbenchError("there is train/ but no test/", where=folder.absolute(), hint="unpack test/ too")
        tests = _stored_split(folder, files, labels)
        whole = _images(folder, files, labels, image_size)
        return RawData(whole.take(~tests), whole.take(tests), classes, _names(files, folder, tests))
    test_files, test_labels, test_classes = _listing(folder / "test")
    if classes != test_classes:
        odd = sorted(set(classes) ^ set(test_classes))
        raise LtbenchError(
            f"class folders disagree between train/ and test/: {', '.join(odd[:5])}",
            where=folder.absolute(),
            hint="give both the same class folders, with at least one image each",
        )
    together = len(files) + len(test_files)
    train = _images(folder, files, labels, image_size, together)
    test = _images(folder, test_files, test_labels, image_size, together)
    return RawData(train, test, classes, _names(test_files, folder))


def _images(
    folder: Path, files: list[Path], labels: NDArray[np.int64], image_size: int, together: int | None = None
) -> Images:
    """Decoded, or as files where so many images together, both parts, would take too much memory."""
    if (together or len(files)) * 3 * image_size**2 > STREAMED_ABOVE:
        return ImageFiles(folder, np.array(_names(files, folder)), labels)
    return LabelledImages(decode(files, image_size), labels)


def decode(files: list[Path], image_size: int) -> NDArray[np.uint8]:
    """Decode images to (N, 3, size, size), keeping the result in the cache for the next time.

    Raises:
        LtbenchError: naming the files that are truncated or no images.
    """
    stamp = hashlib.blake2b(str(image_size).encode(), digest_size=16)
    for file in files:
        status = file.stat()
        about = f"{file.absolute()}\0{status.st_size}\0{status.st_mtime_ns}\n"
        stamp.update(about.encode(errors="surrogateescape"))  # the data folder may be called anything
    cached = cache_dir() / "decoded" / f"{stamp.hexdigest()}.npy"
    if cached.exists():
        stored: NDArray[np.uint8] = np.load(cached, mmap_mode="r", allow_pickle=False)
        return stored
    with ThreadPoolExecutor() as pool:
        decoded = list(pool.map(lambda file: decode_one(file, image_size), files))
    damaged = [str(file) for file, image in zip(files, decoded, strict=True) if image is None]
    if damaged:
        raise LtbenchError(
            f"{len(damaged)} of {len(files)} files are truncated or are no images",
            where=", ".join(damaged[:5]),
            hint="replace or remove them",
        )
    images = np.stack([image for image in decoded if image is not None])
    remove_abandoned(cached.parent)
    write_bytes(cached, lambda stream: np.save(stream, images, allow_pickle=False))
    return images


def decode_one(file: Path, size: int) -> NDArray[np.uint8] | None:
    """One image as (3, size, size), its shorter side scaled and the centre cut out; None if it cannot be read."""
    try:
        with Image.open(file) as opened:
            image = as_rgb(ImageOps.exif_transpose(opened))
        if is_cut_off(np.fromfile(file, dtype=np.uint8)):
            return None
    except UNREADABLE:
        return None
    if image.size != (size, size):
        image = ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
    return np.asarray(image, dtype=np.uint8).transpose(2, 0, 1)


def _subfolders(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _listing(folder: Path) -> tuple[list[Path], NDArray[np.int64], tuple[str, ...]]:
    """Image files, their labels and the class names, sorted by class, then by file name."""
    files: list[Path] = []
    labels: list[int] = []
    names = _subfolders(folder)
    for label, name in enumerate(names):
        own = sorted(file for file in name.iterdir() if file.is_file() and not file.name.startswith("."))
        if not own:
            raise LtbenchError("a class folder has no images", where=name, hint="add images or remove the folder")
        _refuse_odd_names([name, *own])
        files += own
        labels += [label] * len(own)
    if len(names) < 2:
        raise LtbenchError(
            f"{len(names)} class folders found, at least two are needed",
            where=folder.absolute(),
            hint="put the images of each class into a folder named after the class",
        )
    return files, np.array(labels, dtype=np.int64), tuple(name.name for name in names)


def _refuse_odd_names(paths: list[Path]) -> None:
    """Refuse names that results and lists of images, which are UTF-8, could not hold."""
    for path in paths:
        try:
            path.name.encode()
        except UnicodeEncodeError:
            raise LtbenchError(
                "the name of a file or folder is not UTF-8",
                where=str(path).encode(errors="backslashreplace").decode(),
                hint="rename it; convmv renames many at once",
            ) from None


def _names(files: list[Path], folder: Path, chosen: NDArray[np.bool_] | None = None) -> tuple[str, ...]:
    """Files as they lie below a folder, all or some."""
    kept = files if chosen is None else [file for file, is_chosen in zip(files, chosen, strict=True) if is_chosen]
    return tuple(file.relative_to(folder).as_posix() for file in kept)


def _stored_split(folder: Path, files: list[Path], labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which files are the test set: as stored beside them, or a stratified draw that is stored now.

    Images added later, which the stored split does not name, are for training; a class added later is drawn anew.
    """
    stored = folder / SPLIT_FILE
    names = np.array([file.relative_to(folder).as_posix() for file in files])
    chosen = _read_split(stored) if stored.exists() else set()
    missing = sorted(chosen - set(names.tolist()))
    if missing:
        raise LtbenchError(
            f"{len(missing)} test images of the stored split are gone, the first is {missing[0]}",
            where=stored,
            hint="put them back, or delete the split file for a new split",
        )
    without = set(labels.tolist()) - set(labels[np.isin(names, sorted(chosen))].tolist())
    if without:
        for label in sorted(without):
            chosen |= _draw_split(folder, names[labels == label], label)
        rows = io.StringIO()
        csv.writer(rows, lineterminator="\n").writerows([["test_image"], *([name] for name in sorted(chosen))])
        write_text(stored, rows.getvalue())
    return np.isin(names, sorted(chosen))


def _read_split(stored: Path) -> set[str]:
    try:
        with stored.open(encoding="utf-8", newline="") as stream:
            return {row["test_image"] for row in csv.DictReader(stream)}
    except (OSError, KeyError, UnicodeDecodeError, csv.Error):
        raise LtbenchError(
            "the stored split cannot be read", where=stored, hint="restore the file, or delete it for a new split"
        ) from None


def _draw_split(folder: Path, names: NDArray[np.str_], label: int) -> set[str]:
    """A fifth of the images of one class."""
    if len(names) < 2:
        raise LtbenchError(
            "a class with one image cannot be in both train and test",
            where=folder / names[0],
            hint="add images of this class, or make train/ and test/ folders yourself",
        )
    size = max(1, round(TEST_SHARE * len(names)))
    order = draws.numpy_generator(0, "test split", label).permutation(len(names))
    return set(names[order[:size]].tolist())
