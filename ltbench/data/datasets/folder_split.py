"""The test set of a folder that has none: a stratified fifth, drawn once and stored."""

import csv
import errno
import hashlib
import io
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ltbench import rng
from ltbench.data.datasets.folder_listing import SPLIT, ClassFiles, Listing, has_class_folders
from ltbench.data.long_tail import TEST_FRACTION, take_whole
from ltbench.errors import LtbenchError, LtbenchNotice, LtbenchWarning
from ltbench.files.atomic import write_text
from ltbench.files.paths import cache_dir

SPLIT_FILE = f"{SPLIT}.csv"
_stores: ContextVar[bool] = ContextVar("stores", default=True)
_READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)


@contextmanager
def split_not_stored() -> Iterator[None]:
    """Draw splits without storing them, for a command that only asks for sizes."""
    before = _stores.set(False)
    try:
        yield
    finally:
        _stores.reset(before)


def split_file(found: Listing) -> Path:
    """Where the split of a folder is stored: in it, or where it cannot be written, in the cache.

    Labels that a table tells have a split of their own, since a fifth of each of their classes is another one. One of
    an older version, which has the name of that of class folders, stays theirs where there are no class folders.

    Args:
        found: the content of the folder.
    """
    own = found.root / (f"{SPLIT}-{found.table}.csv" if found.table else SPLIT_FILE)
    older = found.root / SPLIT_FILE
    if found.table and not own.exists() and older.exists() and not has_class_folders(found.root):
        return older
    return elsewhere if (elsewhere := _in_cache(own)).exists() and not own.exists() else own


def test_images(
    found: Listing, duplicates: NDArray[np.int64] | None, *, keep_untested: bool = False
) -> NDArray[np.bool_]:
    """Which training images are the test set instead: as stored, or drawn and stored now.

    Images added later, which the stored split does not name, are for training; a class added later is drawn anew.
    Copies of one image are drawn together, in whatever classes they stand.

    Args:
        found: a folder without test images.
        duplicates: (N,) for every image the first one that has the same bytes; None: nobody looked.
        keep_untested: whether a class that is too small for both stays in training.

    Raises:
        LtbenchError: if the stored split cannot be read or names images that are gone, or a class is too small.
    """
    whole = found.parts["train"]
    stored = split_file(found)
    names = np.array([found.name(file) for file in whole.files])
    chosen = _read(stored) if stored.exists() else set()
    missing = sorted(chosen - set(names.tolist()))
    if missing:
        raise LtbenchError(
            f"{len(missing)} test images of the stored split are gone, the first is {missing[0]}",
            where=stored,
            hint="put them back, or delete the split file for a new split",
        )
    tests = np.isin(names, sorted(chosen))
    without = sorted(set(whole.labels.tolist()) - set(whole.labels[tests].tolist()))
    for label in without:
        _draw(found, whole, label, tests, ~np.isin(whole.labels, [one for one in without if one >= label]), duplicates)
        if not keep_untested:
            _refuse_untested(found, whole, label, tests, duplicates)
    if set(names[tests].tolist()) != chosen and _stores.get():
        rows = io.StringIO()
        rows_of = [["test_image"], *([name] for name in sorted(names[tests].tolist()))]
        csv.writer(rows, lineterminator="\n").writerows(rows_of)
        stored = _write(found.root, stored, rows.getvalue())
        message = f"{tests.sum()} of {len(tests)} images, a fifth of each class, are the test set; {stored} names them"
        warnings.warn(message, LtbenchNotice, stacklevel=2)
    if stored.exists() and stored.parent != found.root:
        warnings.warn(
            f"the split into training and test images is kept in {stored}, since {found.root.absolute()} could not be "
            "written",
            LtbenchWarning,
            stacklevel=2,
        )
    return tests


def _draw(
    found: Listing,
    whole: ClassFiles,
    label: int,
    tests: NDArray[np.bool_],
    decided: NDArray[np.bool_],
    duplicates: NDArray[np.int64] | None,
) -> None:
    """Draw a fifth of one class into ``tests``.

    Args:
        found: what lies in the folder.
        whole: its images.
        label: of the class.
        tests: (N,) the test images so far.
        decided: (N,) images of classes that have been drawn, on whose side their copies in this class belong.
        duplicates: (N,) or None.
    """
    members = np.flatnonzero(whole.labels == label)
    if len(members) < 2:
        return
    size = max(1, round(TEST_FRACTION * len(members)))
    order = members[rng.numpy_generator(0, "test split", label).permutation(len(members))]
    if duplicates is not None:
        forced = np.isin(duplicates[members], duplicates[decided & tests])
        tests[members[forced]] = True
        size -= int(forced.sum())
        order = order[~np.isin(duplicates[order], duplicates[decided])]
    if size > 0:
        tests[take_whole(order, size, duplicates)] = True


def _refuse_untested(
    found: Listing,
    whole: ClassFiles,
    label: int,
    tests: NDArray[np.bool_],
    duplicates: NDArray[np.int64] | None,
) -> None:
    members = np.flatnonzero(whole.labels == label)
    own = int(tests[members].sum())
    if 0 < own < len(members):
        return
    why = "a class with one image cannot be in both train and test"
    if len(members) > 1:
        why = "a class of which all images are copies of one, or of images of other classes, has none to test on"
    raise LtbenchError(
        why,
        where=whole.files[members[0]],
        hint="add images of this class, make train/ and test/ folders yourself, or train on it without testing it: "
        "--keep-classes-without-test-images",
    )


def _read(stored: Path) -> set[str]:
    try:
        with stored.open(encoding="utf-8", newline="") as stream:
            return {row["test_image"] for row in csv.DictReader(stream)}
    except (OSError, KeyError, UnicodeDecodeError, csv.Error):
        raise LtbenchError(
            "the stored split cannot be read", where=stored, hint="restore the file, or delete it for a new split"
        ) from None


def _write(root: Path, stored: Path, text: str) -> Path:
    """Store a split where it is, or in the cache where the folder refuses it; where it is now."""
    try:
        write_text(stored, text)
    except LtbenchError as error:
        refused = isinstance(error.__cause__, OSError) and error.__cause__.errno in _READ_ONLY
        if stored.parent != root or not refused:
            raise
        stored = _in_cache(stored)
        write_text(stored, text)
    return stored


def _in_cache(own: Path) -> Path:
    """The file in the cache that stands for one in a folder that cannot be written."""
    place = own.parent.resolve() if own.name == SPLIT_FILE else own.parent.resolve() / own.name
    digest = hashlib.blake2b(os.fsencode(place), digest_size=16).hexdigest()
    return cache_dir() / "splits" / f"{digest}.csv"
