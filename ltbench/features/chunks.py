"""The features of one augmentation in the cache: computed in chunks, which processes divide among themselves."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ltbench.errors import HeldError, SaveError
from ltbench.files.atomic import remove_abandoned_of, write_bytes
from ltbench.files.lock import exclusive

_WORK = "computing the features of these images"


class FeatureChunk(NamedTuple):
    """Some images of one augmented view."""

    view: int
    images: slice


def chunks_of(views: int, images: int, together: int) -> list[FeatureChunk]:
    """All images of all views, cut into chunks of so many images."""
    starts = range(0, max(images, 1), together)
    return [
        FeatureChunk(view, slice(first, min(first + together, images))) for view in range(views) for first in starts
    ]


def load_or_compute(file: Path, chunks: Sequence[FeatureChunk], compute: Callable[[FeatureChunk], Tensor]) -> Tensor:
    """The features that a file of the cache has, or will have when this returns.

    Each chunk is computed by one process and saved whole, so several processes share the work, and what is interrupted
    goes on. One of them puts the chunks together.

    Args:
        file: of the cache.
        chunks: what is to be computed, in order, view after view.
        compute: gives the (N, D) features of a chunk.

    Returns:
        (views, N, D) float32 on the CPU.
    """
    folder = file.with_suffix(".parts")
    if not file.exists():
        for wait in (False, True):  # first what nobody else computes, then what others have not finished
            for chunk in chunks:
                _compute_once(folder / f"{chunk.view}-{chunk.images.start}.npy", chunk, compute, file, wait)
        with exclusive(file.with_suffix(".lock"), _WORK):
            if not file.exists():
                remove_abandoned_of(file)
                _save(_joined(folder, chunks), file)
        shutil.rmtree(folder, ignore_errors=True)
    return _loaded(file)


def _compute_once(
    path: Path, chunk: FeatureChunk, compute: Callable[[FeatureChunk], Tensor], file: Path, wait: bool
) -> None:
    """Save the features of a chunk, unless they are there, alone or with all others in the file.

    Args:
        path: of the features of the chunk.
        chunk: what to compute.
        compute: gives its features.
        file: of all chunks.
        wait: whether to wait for a process that computes it, and to do so itself if that ends without it.
    """
    if path.exists() or file.exists():
        return
    try:
        with exclusive(path.with_suffix(".lock"), _WORK, wait=wait, message_after=None if wait else 0.0):
            if not path.exists() and not file.exists():
                _save(compute(chunk), path)
    except HeldError:  # who holds it computes it
        pass
    except (FileNotFoundError, SaveError):  # the folder is gone if another process has put the chunks together
        if not file.exists():
            raise


def _joined(folder: Path, chunks: Sequence[FeatureChunk]) -> Tensor:
    """(views, N, D)."""
    by_view: dict[int, list[Tensor]] = {}
    for chunk in chunks:
        by_view.setdefault(chunk.view, []).append(_loaded(folder / f"{chunk.view}-{chunk.images.start}.npy"))
    return torch.stack([torch.cat(some) for some in by_view.values()])


def _save(features: Tensor, file: Path) -> None:
    write_bytes(file, lambda stream: np.save(stream, features.numpy(), allow_pickle=False))


def _loaded(file: Path) -> Tensor:
    kept: Tensor = torch.from_numpy(np.load(file, allow_pickle=False))
    return kept
