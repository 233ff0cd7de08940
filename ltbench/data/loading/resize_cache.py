"""The resize cache: copies of image files, scaled once, which training decodes in place of the originals.

An image whose shorter side is larger than asked for is decoded, put upright, scaled so that its shorter side is that
(antialiased, torchvision's), and written as JPEG of quality 95. Colour keeps its full resolution: most photographs
have it halved, which scaling has made up for, and halving it again brings the copy further from the scaled image (39.7
instead of 43.1 dB on our photographs of 500 x 375) for 22 % fewer bytes and some 6 % of the time of a batch. Smaller
images stay as they are: a link leads to the original.

The name of a copy is a hash of the original's path, size and time. A copy that exists is therefore up to date, and it
was written whole. There is no index. A process makes the copies that it does not find, a few at a time in a random
order, and looks again before each. Any number of processes, of one run or of several, on one machine or on several,
thus share the work without communication, and a process that is killed leaves the copies that it has made.
"""

import hashlib
import io
import os
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from ltbench.data.images import ImageFiles, image_read_error
from ltbench.data.loading.decode import UnreadableImageError, UnreadableImagesError, decode_rgb, read_rgb
from ltbench.data.loading.from_files import cores_per_process, single_threaded_pool
from ltbench.errors import LtbenchError
from ltbench.files.atomic import remove_abandoned, write_bytes
from ltbench.files.paths import cache_dir
from ltbench.progress import ProgressListener, ProgressUpdate, silent

AT_A_TIME = 32
"""Number of files that a thread resizes at a time."""
QUALITY = 95
_VERSION, _VERSION_OF_JPEG = "3", "2"
"""Versions of the resizing; to be raised when pixels change, so that older copies are not used. Pixels of JPEG files,
which large data sets consist of, have changed less often."""


def folder() -> Path:
    """The folder of the resize cache, with a folder for each length of the shorter side."""
    return cache_dir() / "resized"


def resized(files: ImageFiles, side: int, listener: ProgressListener = silent, into: Path | None = None) -> ImageFiles:
    """The same images from the resize cache, which is filled where copies are missing.

    Args:
        files: the originals.
        side: shorter side of a copy, in pixels.
        listener: hears of the progress, in images.
        into: folder of the resize cache; by default `folder`.

    Raises:
        LtbenchError: if a copy cannot be written; or, once all other copies have been made, naming damaged images.
    """
    root = (into or folder()) / str(side)
    names = [_name(file) for file in _paths(files)]
    missing = [i for i, name in enumerate(names) if not _exists(root / name)]
    if missing:
        _make([(files.root / files.names[i], root / names[i]) for i in missing], side, listener)
    return ImageFiles(root, np.array(names), files.labels)


def as_resized(image: Tensor, side: int) -> Tensor:
    """An image with the pixels of its copy in the resize cache: (3, H, W) to (3, h, w), uint8."""
    if min(image.shape[1:]) <= side:
        return image
    stream = io.BytesIO()
    _save(_scaled(image, side), stream)
    return decode_rgb(np.frombuffer(stream.getvalue(), dtype=np.uint8).copy(), Path("a copy in memory"))


def contents() -> Iterator[tuple[str, int, int]]:
    """For each length of the shorter side in the cache: its name, the number of files, and their bytes."""
    for root in sorted(folder().glob("*")):
        sizes = [file.lstat().st_size for file in root.rglob("*.jpg")]
        yield root.name, len(sizes), sum(sizes)


def _paths(files: ImageFiles) -> Iterator[str]:
    root = str(files.root.absolute())
    for name in files.names.tolist():
        yield f"{root}{os.sep}{name}"


def _name(file: str) -> str:
    try:
        status = os.stat(file)  # noqa: PTH116 - a Path for each of half a million files takes seconds
    except OSError as error:
        raise image_read_error(Path(file), error) from None
    version = _VERSION_OF_JPEG if file.lower().endswith((".jpg", ".jpeg")) else _VERSION
    about = f"{version}\0{status.st_size}\0{status.st_mtime_ns}\0".encode() + os.fsencode(file)
    digest = hashlib.blake2b(about, digest_size=16).hexdigest()
    return f"{digest[:2]}/{digest[2:]}.jpg"


def _exists(copy: Path) -> bool:
    """Whether there is a copy; an empty file is what a power failure may leave of one."""
    try:
        return copy.stat().st_size > 0
    except OSError:
        return False


def _make(pairs: list[tuple[Path, Path]], side: int, listener: ProgressListener) -> None:
    """Make copies from pairs of original and copy, many at a time."""
    for parent in {copy.parent for _, copy in pairs}:
        remove_abandoned(parent)
    batches = [pairs[begin : begin + AT_A_TIME] for begin in range(0, len(pairs), AT_A_TIME)]
    # Not by a seed: no result depends on the order, and processes that share the work must differ in it.
    order = np.random.default_rng().permutation(len(batches))
    damaged: list[UnreadableImageError] = []
    done = 0
    pool = single_threaded_pool(cores_per_process(), "ltbench scaling")
    try:
        for batch, bad in pool.map(lambda i: (batches[i], _make_some(batches[i], side)), order.tolist()):
            damaged += bad
            done += len(batch)
            listener(ProgressUpdate(f"scaling images to {side}", done, len(pairs)))
    finally:  # also where it is stopped or fails on the way
        pool.shutdown(cancel_futures=True)
    if damaged:
        raise UnreadableImagesError(
            sorted(damaged, key=lambda fault: fault.file),
            len(pairs),
            hint="replace or remove them; the copies of the others have been made and are kept",
        )


def _make_some(pairs: list[tuple[Path, Path]], side: int) -> list[UnreadableImageError]:
    """Make a few copies; returns the faults of originals that cannot be used."""
    damaged = []
    for original, copy in pairs:
        if _exists(copy):
            continue  # another process has made it
        try:
            image = read_rgb(original)
        except UnreadableImageError as error:
            damaged.append(error)
            continue
        except LtbenchError as error:
            damaged.append(UnreadableImageError(original, str(error).partition("\n")[0]))
            continue
        if min(image.shape[1:]) <= side:
            _link(original, copy)
        else:
            # Not waiting for the disk: what a power failure takes can be made again.
            write_bytes(copy, partial(_save, _scaled(image, side)), lasting=False)
    return damaged


def _link(original: Path, copy: Path) -> None:
    try:
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.symlink_to(original.absolute())
    except OSError:
        if _exists(copy):
            return  # another process has made it
        with original.open("rb") as source:  # no links on this disk, or not for this user
            write_bytes(copy, lambda stream: shutil.copyfileobj(source, stream), lasting=False)


def _scaled(image: Tensor, side: int) -> Tensor:
    scaled: Tensor = transforms.resize(image, [side], antialias=True)
    return scaled


def _save(image: Tensor, stream: IO[bytes]) -> None:
    """Save as JPEG; into a real file without Python's lock, so that threads work side by side."""
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(stream, "JPEG", quality=QUALITY, subsampling="4:4:4")
