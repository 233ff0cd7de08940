"""A trained run on image files: which class, and how probable."""

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import TextIO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ltbench.data.datasets.folder_listing import LITTER, SPLIT, files_below
from ltbench.data.datasets.image_folder import decode_one
from ltbench.data.datasets.image_names import is_image
from ltbench.data.images import LabelledImages
from ltbench.data.loading.decode import UnreadableImageError, read_rgb, several_frames
from ltbench.data.loading.from_files import centre
from ltbench.data.loading.in_memory import InMemoryLoader
from ltbench.data.loading.resize_cache import as_resized
from ltbench.deploy.predictor import Predictor
from ltbench.errors import LtbenchError
from ltbench.evaluation.predict import Predictions, predict
from ltbench.files import spreadsheet

AT_A_TIME = 1024
"""Files that are in memory at once."""


def image_files(paths: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """The image files among some paths, and what in folders is no image, or a link that leads nowhere.

    Args:
        paths: files, which are taken whatever they are, and folders, which are searched to the bottom as for training;
            what begins with a dot is left out.

    Raises:
        LtbenchError: if a path is not there, a folder cannot be read, or there is no image.
    """
    files: list[Path] = []
    others: list[Path] = []

    def skip(file: Path, reason: str) -> None:
        if reason != LITTER:
            others.append(file)

    for path in paths:
        if not path.exists():
            raise LtbenchError("there is no such file or folder", where=path.absolute(), hint="give images to classify")
        try:
            below = sorted(files_below(path, skip)) if path.is_dir() else [path]
        except OSError as error:
            raise LtbenchError(
                f"a folder cannot be read: {error.strerror}",
                where=Path(error.filename or path).absolute(),
                hint="make it readable, or give the images and folders that are",
            ) from None
        for file in below:
            if file == path or is_image(file):
                files.append(file)
            elif not file.name.startswith(SPLIT):  # our own, beside the images
                others.append(file)
    if not files:
        raise LtbenchError(
            "no image files found" + (f", only {len(others)} other files" if others else ""),
            where=", ".join(str(path.absolute()) for path in paths),
            hint="give image files, or a folder that contains some",
        )
    return list(dict.fromkeys(files)), others


def with_several_frames(files: Sequence[Path]) -> list[Path]:
    """The files that have several frames or pages, of which the first is labelled."""
    with ThreadPoolExecutor() as pool:
        return [file for file, several in zip(files, pool.map(several_frames, files), strict=True) if several]


def _untold(file: Path, reason: str) -> None:
    """Tell nobody."""


def logits_of(
    predictor: Predictor, files: Sequence[Path], left_out: Callable[[Path, str], None] = _untold
) -> Iterator[tuple[Path, Tensor | None]]:
    """Every file with its logits (C,), in order; None where it cannot be read as an image.

    The same steps as in evaluation: an image of the test set gets the logits that it got there.

    Args:
        predictor: on the device to predict on.
        files: of images of any size; scaled and cut as the run's test images.
        left_out: told about each file that cannot be used, and why.

    Raises:
        LtbenchError: if the run takes images that are neither grey nor of three colours, or its logits are not finite.
    """
    card = predictor.card
    channels, side, _ = card.input
    if channels not in (1, 3):
        raise LtbenchError(f"run {card.run_id} takes images of {channels} channels, which image files cannot give")
    for start in range(0, len(files), AT_A_TIME):
        some = files[start : start + AT_A_TIME]
        with ThreadPoolExecutor() as pool:
            decode = partial(_streamed, copied=card.config.cache_resized) if card.streamed else decode_one
            decoded = list(pool.map(partial(_decoded_or_reason, decode), some, repeat(side)))
        images = [image for image in decoded if not isinstance(image, str)]
        if channels == 1:
            images = [_grey(image) for image in images]
        predictions = _predicted(predictor, np.stack(images)) if images else None
        wrong = predictions.fault() if predictions else None
        if wrong is not None:
            named = f"{some[0]}" + (f" to {some[-1]}" if len(some) > 1 else "")
            raise LtbenchError(f"run {card.run_id}: {wrong}", where=named, hint="its numbers overflow: train it again")
        found = iter(predictions.logits if predictions else ())
        for file, image in zip(some, decoded, strict=True):
            if isinstance(image, str):
                left_out(file, image)
            yield file, None if isinstance(image, str) else next(found)


def _decoded_or_reason(
    decode: Callable[[Path, int], NDArray[np.uint8]], file: Path, side: int
) -> NDArray[np.uint8] | str:
    """The pixels, or in words why there are none."""
    try:
        return decode(file, side)
    except UnreadableImageError as error:
        return error.reason
    except LtbenchError as error:
        return str(error).partition("\n")[0]


def _streamed(file: Path, side: int, copied: int | None) -> NDArray[np.uint8]:
    """An image as evaluation sees it in a data set that stays files, perhaps through the resize cache."""
    image = read_rgb(file)
    return centre(as_resized(image, copied) if copied else image, side).numpy()


def _grey(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(image.transpose(1, 2, 0)).convert("L"))[None]


def _predicted(predictor: Predictor, images: NDArray[np.uint8]) -> Predictions:
    card = predictor.card
    data = LabelledImages(images, np.zeros(len(images), dtype=np.int64))
    loader = InMemoryLoader(data, card.mean, card.std, predictor.mean.device, labelled=False)
    return predict(predictor.method, loader, card.config.precision)


def write_csv(
    stream: TextIO, classes: Sequence[str], found: Iterable[tuple[Path, Tensor | None]], top: int | None = None
) -> list[Path]:
    """Write a line an image: file, label, probability, and the probabilities of further classes.

    Args:
        stream: to write to.
        classes: names.
        found: files and their logits, as from ``logits_of``.
        top: write the classes with the K highest probabilities (label_2, probability_2 and so on); None: write the
            probability of every class, in a column ``p(<class>)``.

    Returns:
        The files that could not be read, which have no line.
    """
    rows, damaged = csv.writer(stream, lineterminator="\n"), []
    best = range(2, min(top or 1, len(classes)) + 1)
    more = [f"p({name})" for name in classes] if top is None else []
    rows.writerow(
        ["file", "label", "probability", *more, *(f"{kind}_{k}" for k in best for kind in ("label", "probability"))]
    )
    for file, logits in found:
        if logits is None:
            damaged.append(file)
            continue
        probabilities = logits.softmax(0)
        order = torch.sort(logits, descending=True, stable=True).indices[: top or 1].tolist()
        first = [cell for c in order for cell in (spreadsheet.cell(classes[c]), _number(probabilities[c]))]
        rest = map(_number, probabilities) if top is None else ()
        rows.writerow([spreadsheet.cell(str(file)), *first, *rest])
    return damaged


def _number(probability: Tensor) -> str:
    return f"{float(probability):.6g}"
