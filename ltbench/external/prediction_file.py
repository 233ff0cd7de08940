"""Files of predictions that were made elsewhere, and of training counts: read, and checked before anything is done."""

import csv
import json
import lzma
import math
import os
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ltbench.data.long_tail import IntArray
from ltbench.errors import LtbenchError, LtbenchWarning
from ltbench.evaluation.predict import LARGEST
from ltbench.files.reading import read_text

Array = NDArray[Any]
Floats = NDArray[np.float32]
LARGEST_FILE = 2**33
"""Bytes of all arrays together. Three experts on iNaturalist 2018 take 3.2 GB in float32."""
MOST_EXPERTS, MOST_ENTRIES = 100, 100
TRANSPOSED = "if rows and columns are exchanged, store the transpose: logits.T; a row is an image, a column a class"
"""What to do where the shape of an array fits its transpose."""
SUM_TOLERANCE = 4e-3
"""Largest difference of a sum of probabilities from one; that of bfloat16 is at most 2**-8."""


@dataclass(frozen=True)
class Given:
    """Predictions as a file has them."""

    file: Path
    logits: Floats
    """(N, C); of probabilities the logarithm."""
    experts: Floats
    """(M, N, C); the combined prediction where the file has no experts."""
    labels: IntArray | None
    """(N,) column of the true class."""
    classes: list[str] | None = None
    """(C,) names of the columns' classes."""
    images: list[str] | None = None
    """(N,) names of the rows' images: files, or positions in the official data."""

    def take(self, *, rows: IntArray | None = None, columns: IntArray | None = None) -> "Given":
        """The same predictions in another order.

        Args:
            rows: (N,) those of the new rows in the old order; None: as they are.
            columns: (C,) likewise; labels are renumbered with them.
        """
        row = slice(None) if rows is None else rows
        column = slice(None) if columns is None else columns
        labels = self.labels
        if labels is not None:
            labels = (labels if columns is None else np.argsort(columns)[labels])[row]
        return replace(
            self,
            logits=np.ascontiguousarray(self.logits[row][:, column]),
            experts=np.ascontiguousarray(self.experts[:, row][:, :, column]),
            labels=labels,
            classes=None if self.classes is None else np.array(self.classes)[column].tolist(),
            images=None if self.images is None else np.array(self.images)[row].tolist(),
        )


@dataclass(frozen=True)
class _Header:
    """The header of an array: shape and type."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


@dataclass(frozen=True)
class PredictionFile:
    """A NumPy archive of predictions of which the headers have been read, and no array."""

    file: Path
    kind: str
    """logits or probabilities."""
    headers: dict[str, _Header]

    @property
    def shape(self) -> tuple[int, int]:
        """Images and classes."""
        images, classes = self.headers[self.kind].shape
        return images, classes

    @property
    def unread(self) -> list[str]:
        """Entries that nothing is known about."""
        return sorted(self.headers.keys() - _ENTRIES)

    def read(self) -> Given:
        """Read the arrays.

        Raises:
            LtbenchError: for numbers that are not finite, probabilities that do not sum to one, labels that are no
                classes, and names that are no text.
        """
        wanted = [name for name in self.headers if name in _ENTRIES and name != _ABOUT]
        with _explained(self.file), np.load(self.file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in wanted}
        logits = _scores(arrays[self.kind], self.kind, self.kind, self.file)
        experts = logits[None]
        if "experts" in arrays:
            experts = _scores(arrays["experts"], "experts", self.kind, self.file)
        names = next((arrays[name] for name in _IMAGES if name in arrays), None)
        return Given(
            self.file,
            logits,
            experts,
            _labels(arrays, self.shape, self.file),
            _names(arrays["classes"]) if "classes" in arrays else None,
            None if names is None else _names(names),
        )


_IMAGES = ("files", "images")
_ABOUT = "about"  # of a run's own logits: nothing to be read here
_ENTRIES = {"logits", "probabilities", "experts", "labels", "classes", *_IMAGES, _ABOUT}


def open_predictions(file: Path) -> PredictionFile:
    """Look at a NumPy archive (.npz) of predictions, without unpacking it.

    It has ``logits`` or ``probabilities``, (N, C), and may have ``experts``, (M, N, C), of the same kind, ``labels``,
    (N,) columns of the true classes, ``classes``, (C,) names of the columns, and ``files`` (or ``images``), (N,) names
    of the rows. The logarithm is taken of probabilities, none less than float32's smallest normal number, so that a
    probability of 0 for the true class costs 87 nats.

    Raises:
        LtbenchError: if there is no such file, or for pickled arrays, shapes that do not fit and too much data.
    """
    headers = _headers(file)
    kinds = [kind for kind in ("logits", "probabilities") if kind in headers]
    if len(kinds) != 1:
        raise LtbenchError(
            "both logits and probabilities" if kinds else f"no logits; the file has {', '.join(headers) or 'nothing'}",
            where=file,
            hint="store one of them: np.savez(FILE, logits=..., labels=...)",
        )
    found = PredictionFile(file, kinds[0], headers)
    _check_scores(found, found.kind, ("images", "classes"))
    if "experts" in headers:
        _check_scores(found, "experts", ("experts", "images", "classes"))
        shape = headers["experts"].shape
        if shape[1:] != found.shape:
            raise LtbenchError(f"experts are {shape}, but {found.kind} are {found.shape}", where=file)
        if shape[0] > MOST_EXPERTS:
            raise LtbenchError(f"{shape[0]} experts are more than {MOST_EXPERTS}", where=file)
    if all(name in headers for name in _IMAGES):
        raise LtbenchError(f"both {' and '.join(_IMAGES)}, which mean the same", where=file)
    images, classes = found.shape
    for name, length, kinds_of_type, words in (
        ("labels", images, "iu", "integers"),
        ("classes", classes, "USiu", "text"),
        *((name, images, "USiu", "text") for name in _IMAGES),
    ):
        one = headers.get(name)
        if one is not None and (one.shape != (length,) or one.dtype.kind not in kinds_of_type):
            if one.dtype.hasobject:
                raise LtbenchError(
                    f"{name}: pickled objects are not read",
                    where=file,
                    hint="np.array(..., dtype=str) makes text of names",
                )
            other = classes if length == images else images
            raise LtbenchError(
                f"{name} are {one.dtype} of the shape {one.shape} and not {words} of ({length},)",
                where=file,
                hint=TRANSPOSED if one.shape == (other,) else None,
            )
    return found


def read_counts(file: Path) -> tuple[list[str], IntArray]:
    """Read training images by class: one count a class, in the order of the labels.

    A text or CSV file has a line a class, its last cell the count and its first the name; a first line without a count
    is a header. JSON is a list of counts, or an object from names to counts.

    Returns:
        (C,) class names, by default the labels, and (C,) counts.

    Raises:
        LtbenchError: if it cannot be read, or for counts below one.
    """
    try:
        text = read_text(file)
        cells = _json_cells(text) if file.suffix == ".json" else _csv_cells(text)
        counts = np.array([int(str(count)) for _, count in cells], dtype=np.int64)
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError, csv.Error) as error:
        raise LtbenchError(
            f"not one count per class: {str(error).partition(';')[0]}",
            where=file,
            hint="write one line per class: the count, or name,count",
        ) from None
    if len(counts) < 2 or counts.min() < 1:
        raise LtbenchError("there must be two classes and an image of each at least", where=file)
    names = [name or str(label) for label, (name, _) in enumerate(cells)]
    name, times = Counter(names).most_common(1)[0]
    if times > 1:
        raise LtbenchError(f"a class stands there twice: {name}", where=file)
    for label, name in enumerate(names):
        if all(other.isdecimal() for other in names) and int(name) != label:
            raise LtbenchError(
                f"the count of class {name} stands in place {label}",
                where=file,
                hint="sort them by label, from 0; numbers that are no labels must have a letter before them, e.g. c1",
            )
    return names, counts


def _json_cells(text: str) -> list[tuple[str, Any]]:
    values = json.loads(text)
    return list(values.items()) if isinstance(values, dict) else [("", value) for value in values]


def _csv_cells(text: str) -> list[tuple[str, Any]]:
    rows = [row for row in csv.reader(text.splitlines()) if row]
    if rows and not rows[0][-1].strip().lstrip("+-.")[:1].isdecimal():
        rows = rows[1:]  # a header; 500.0 is none, but a count that is refused
    return [(row[0].strip() if len(row) > 1 else "", row[-1].strip()) for row in rows]


def _headers(file: Path) -> dict[str, _Header]:
    """The headers of an archive's arrays, checked against the sizes that they say the arrays have."""
    found: dict[str, _Header] = {}
    with _explained(file):
        if file.exists() and not file.is_file():
            raise ValueError("it is no file")
        with file.open("rb") as stream:
            if not zipfile.is_zipfile(stream):
                raise ValueError("it is no .npz file")
        with zipfile.ZipFile(file) as archive:
            for member in archive.infolist():
                if not member.filename.endswith(".npy"):
                    continue
                name = member.filename.removesuffix(".npy")
                if len(found) == MOST_ENTRIES:
                    raise ValueError(f"it has more than {MOST_ENTRIES} arrays")
                if name in found:
                    raise ValueError(f"it has {name} twice")
                with archive.open(member) as content:
                    header = _header(content)
                    size = member.file_size - content.tell()
                if name in _ENTRIES and not header.dtype.hasobject:
                    expected = math.prod(header.shape) * header.dtype.itemsize
                    if size != expected:
                        raise ValueError(f"{name} has {size:,} bytes where {header.shape} needs {expected:,}")
                found[name] = header
    size = sum(math.prod(one.shape) * one.dtype.itemsize for name, one in found.items() if name in _ENTRIES)
    if size > LARGEST_FILE:
        raise LtbenchError(
            f"unpacked, the predictions would take {size / 1e9:.1f} GB, over {LARGEST_FILE / 1e9:.1f}",
            where=file,
            hint="store them in float16, or without experts",
        )
    return found


def _header(stream: IO[bytes]) -> _Header:
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"an array has the format {version}, which is not one of plain numbers")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    if min(shape, default=0) < 0:
        raise ValueError(f"an array has the shape {shape}")
    return _Header(shape, dtype)


@contextmanager
def _explained(file: Path) -> Iterator[None]:
    """Turn what may come of a file that is no archive of arrays into the error for it."""
    try:
        yield
    except OSError as error:
        raise LtbenchError(f"cannot read the predictions: {error.strerror or error}", where=file) from None
    except (
        ValueError,
        TypeError,
        EOFError,
        KeyError,
        RuntimeError,
        NotImplementedError,
        OverflowError,
        SyntaxError,
        zipfile.BadZipFile,
        zlib.error,
        lzma.LZMAError,
    ) as error:
        raise LtbenchError(
            f"not a NumPy archive of numbers: {error}",
            where=file,
            hint="store plain arrays: np.savez(FILE, logits=..., labels=...)",
        ) from None


def _check_scores(found: PredictionFile, name: str, axes: tuple[str, ...]) -> None:
    """Refuse what are no logits or probabilities of the shape that ``axes`` say."""
    shape, dtype = found.headers[name].shape, found.headers[name].dtype
    if dtype.hasobject:
        raise LtbenchError(
            f"{name}: pickled objects are not read",
            where=found.file,
            hint="store plain arrays: np.savez(FILE, logits=..., labels=...)",
        )
    if len(shape) != len(axes) or 0 in shape:
        raise LtbenchError(f"{name} have the shape {shape} and not ({', '.join(axes)})", where=found.file)
    if dtype.kind not in "fiu":
        raise LtbenchError(f"{name} are no real numbers, but {dtype}", where=found.file)


def _scores(array: Array, name: str, kind: str, file: Path) -> Floats:
    """Logits in float32, of logits or probabilities."""
    bound = min(LARGEST, float(np.finfo(array.dtype).max)) if array.dtype.kind == "f" else LARGEST
    wrong = ~(np.abs(array) <= bound)
    if wrong.any():
        place = tuple(int(one[0]) for one in np.nonzero(wrong))
        raise LtbenchError(
            f"{name}: {int(wrong.sum())} are NaN, infinite or beyond {LARGEST:g}, the first at {place}",
            where=file,
            hint="store probabilities as probabilities=..., not as logarithms, which 0 does not have"
            if np.isneginf(array[wrong]).all()
            else "predict again, in float32 if the numbers were too large for float16",
        )
    sums = array.sum(-1, dtype=np.float64)
    if kind == "logits":
        for total, words, todo in (
            (1, "one", "store them as probabilities=..., or store np.log of them"),
            (100, "100", "divide them by 100 and store them as probabilities=..."),
        ):
            if array.shape[-1] > 1 and array.min() >= 0 and (np.abs(sums / total - 1) <= SUM_TOLERANCE).all():
                message = f"{name} look like probabilities: no number is negative and every row sums to {words}. "
                message += f"Calibration and likelihood are wrong if they are. To do: {todo}"
                warnings.warn(message, LtbenchWarning, stacklevel=4)
        return np.ascontiguousarray(array, dtype=np.float32)
    wrong = (array.min(-1) < 0) | (np.abs(sums - 1) > SUM_TOLERANCE)
    if wrong.any():
        place = tuple(int(one[0]) for one in np.nonzero(wrong))
        raise LtbenchError(
            f"{name}: {int(wrong.sum())} rows are negative somewhere or do not sum to one; row {place[-1]} sums to "
            f"{sums[place]:.4g}",
            where=file,
            hint="if they are no probabilities, store them as logits; divide percentages by 100",
        )
    return np.log(np.maximum(array.astype(np.float32), np.finfo(np.float32).tiny))


def _labels(arrays: dict[str, Array], shape: tuple[int, int], file: Path) -> IntArray | None:
    if "labels" not in arrays:
        return None
    labels, classes = arrays["labels"], shape[1]
    if labels.min() < 0 or labels.max() >= classes:
        raise LtbenchError(
            f"labels lie from {labels.min()} to {labels.max()} and not from 0 to {classes - 1}", where=file
        )
    return labels.astype(np.int64)


def _names(array: Array) -> list[str]:
    """Names as text, of which numbers and bytes are others ways of writing."""
    if array.dtype.kind == "S":
        return [os.fsdecode(name) for name in array.tolist()]
    return [str(name) for name in array.tolist()]
