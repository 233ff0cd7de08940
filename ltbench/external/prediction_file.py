"""Files of predictions that were made elsewhere, and of training counts: read, and checked before anything is done."""

import csv
import json
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltbench.data.longtail import Labels
from ltbench.errors import LtbenchError
from ltbench.evaluate.predict import LARGEST

Array = NDArray[Any]
Floats = NDArray[np.float32]
SUM_TOLERANCE = 1e-3
"""By which probabilities may miss one: half precision misses it by less."""


@dataclass(frozen=True)
class Given:
    """Predictions as a file has them."""

    file: Path
    logits: Floats
    """(N, C); of probabilities the logarithm."""
    experts: Floats
    """(M, N, C); the combined prediction where the file has no experts."""
    labels: Labels | None
    """(N,)."""


def read_predictions(file: Path) -> Given:
    """Read a NumPy archive (.npz) of predictions.

    It has ``logits`` or ``probabilities``, (N, C), and may have ``experts``, (M, N, C), of the same kind and
    ``labels``, (N,). The logarithm is taken of probabilities, none less than float32's smallest normal number, so that
    a probability of 0 for the true class costs 87 nats.

    Raises:
        LtbenchError: if there is no such file, or for pickled arrays, wrong shapes, numbers that are not finite,
            probabilities that do not sum to one, and labels that are no classes.
    """
    arrays = _arrays(file)
    kinds = [kind for kind in ("logits", "probabilities") if kind in arrays]
    if len(kinds) != 1:
        raise LtbenchError(
            "both logits and probabilities" if kinds else f"no logits; the file has {', '.join(arrays) or 'nothing'}",
            where=file,
            hint="store one of them: np.savez(FILE, logits=..., labels=...)",
        )
    kind = kinds[0]
    logits = _scores(arrays[kind], kind, kind, file, ("images", "classes"))
    experts = logits[None]
    if "experts" in arrays:
        experts = _scores(arrays["experts"], "experts", kind, file, ("experts", "images", "classes"))
        if experts.shape[1:] != logits.shape:
            raise LtbenchError(f"experts are {experts.shape}, but {kind} are {logits.shape}", where=file)
    return Given(file, logits, experts, _labels(arrays, logits.shape, file))


def read_counts(file: Path) -> tuple[list[str], Labels]:
    """Read training images by class: one count a class, in the order of the labels.

    A text or CSV file has a line a class, its last cell the count and its first the name; a first line without a count
    is a header. JSON is a list of counts, or an object from names to counts.

    Returns:
        (C,) class names, by default the labels, and (C,) counts.

    Raises:
        LtbenchError: if it cannot be read, or for counts below one.
    """
    try:
        text = file.read_text(encoding="utf-8")
        cells = _json_cells(text) if file.suffix == ".json" else _csv_cells(text)
        counts = np.array([int(str(count)) for _, count in cells], dtype=np.int64)
    except OSError as error:
        raise LtbenchError(f"cannot read the counts: {error.strerror}", where=file) from None
    except (ValueError, TypeError, AttributeError, OverflowError, csv.Error) as error:
        raise LtbenchError(
            f"not one count a class: {error}", where=file, hint="write a line a class: the count, or name,count"
        ) from None
    if len(counts) < 2 or counts.min() < 1:
        raise LtbenchError("there must be two classes and an image of each at least", where=file)
    names = [name or str(label) for label, (name, _) in enumerate(cells)]
    for label, name in enumerate(names):
        if all(other.isdecimal() for other in names) and int(name) != label:
            raise LtbenchError(
                f"the count of class {name} stands in place {label}", where=file, hint="sort them by label, from 0"
            )
    return names, counts


def _json_cells(text: str) -> list[tuple[str, Any]]:
    values = json.loads(text)
    return list(values.items()) if isinstance(values, dict) else [("", value) for value in values]


def _csv_cells(text: str) -> list[tuple[str, Any]]:
    rows = [row for row in csv.reader(text.splitlines()) if row]
    if rows and not rows[0][-1].strip().isdecimal():
        rows = rows[1:]
    return [(row[0].strip() if len(row) > 1 else "", row[-1].strip()) for row in rows]


def _arrays(file: Path) -> dict[str, Array]:
    try:
        with file.open("rb") as stream:
            if not zipfile.is_zipfile(stream):
                raise ValueError("it is no .npz file")
        with np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except OSError as error:
        raise LtbenchError(f"cannot read the predictions: {error.strerror or error}", where=file) from None
    except (ValueError, TypeError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        pickled = "allow_pickle" in str(error)
        raise LtbenchError(
            "not a NumPy archive of numbers: " + ("pickled objects are not read" if pickled else str(error)),
            where=file,
            hint="store plain arrays: np.savez(FILE, logits=..., labels=...)",
        ) from None


def _scores(array: Array, name: str, kind: str, file: Path, axes: tuple[str, ...]) -> Floats:
    """Logits in float32, of logits or probabilities of the shape that ``axes`` say."""
    if array.ndim != len(axes) or 0 in array.shape:
        raise LtbenchError(f"{name} have the shape {array.shape} and not ({', '.join(axes)})", where=file)
    if array.dtype.kind not in "fiu":
        raise LtbenchError(f"{name} are no real numbers, but {array.dtype}", where=file)
    wrong = ~(np.abs(array) < LARGEST)
    if wrong.any():
        place = tuple(int(one[0]) for one in np.nonzero(wrong))
        raise LtbenchError(
            f"{name}: {int(wrong.sum())} are NaN, infinite or beyond {LARGEST:g}, the first at {place}", where=file
        )
    if kind == "logits":
        return array.astype(np.float32)
    sums = array.sum(-1, dtype=np.float64)
    wrong = (array.min(-1) < 0) | (np.abs(sums - 1) > SUM_TOLERANCE)
    if wrong.any():
        place = tuple(int(one[0]) for one in np.nonzero(wrong))
        raise LtbenchError(
            f"{name}: {int(wrong.sum())} rows are negative somewhere or do not sum to one; row {place[-1]} sums to "
            f"{sums[place]:.4g}",
            where=file,
            hint="if they are no probabilities, store them as logits",
        )
    return np.log(np.maximum(array.astype(np.float32), np.finfo(np.float32).tiny))


def _labels(arrays: dict[str, Array], shape: tuple[int, ...], file: Path) -> Labels | None:
    if "labels" not in arrays:
        return None
    labels, (images, classes) = arrays["labels"], shape
    if labels.shape != (images,) or labels.dtype.kind not in "iu":
        raise LtbenchError(
            f"labels are {labels.dtype} of the shape {labels.shape} and not integers of ({images},)", where=file
        )
    if labels.min() < 0 or labels.max() >= classes:
        raise LtbenchError(
            f"labels lie from {labels.min()} to {labels.max()} and not from 0 to {classes - 1}", where=file
        )
    return labels.astype(np.int64)
