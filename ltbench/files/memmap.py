"""Large tables of numbers: in memory, or memory-mapped from a file."""

import math
import os
import tempfile

import numpy as np
import torch
from torch import Tensor

from ltbench.errors import LtbenchError
from ltbench.files.paths import cache_dir

IN_MEMORY = 2**28
"""Largest size in bytes of a table in memory; a larger one is memory-mapped."""


def empty_or_memmap(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    """An uninitialised tensor; a large one is memory-mapped.

    Its temporary file in the cache folder has no name: the operating system keeps as much of it in memory as there is
    to spare, and deletes it with the tensor.

    Raises:
        LtbenchError: if the disk has no room for it.
    """
    size = math.prod(shape) * dtype.itemsize
    if size <= IN_MEMORY:
        return torch.empty(shape, dtype=dtype)
    folder = cache_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            if hasattr(os, "posix_fallocate"):  # else a full disk kills the process when it writes to the table
                os.posix_fallocate(file.fileno(), 0, size)
            kind = torch.empty(0, dtype=dtype).numpy().dtype
            return torch.from_numpy(np.memmap(file, kind, "w+", shape=shape))
    except OSError as error:
        raise LtbenchError(
            f"no room for {size / 1e9:.1f} GB of predictions: {error.strerror}",
            where=folder,
            hint="free some disk space, or set $LTBENCH_CACHE to another folder",
        ) from None
