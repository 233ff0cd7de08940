"""Randomness as a function of (seed, stream, epoch, step), never of a generator carried along.

A run that is resumed, or that reads its data with other workers, draws the same numbers. numpy's and torch's
global generators are left as they were found.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def key(seed: int, *path: str | int) -> int:
    """A 63-bit number that depends on every part of ``(seed, *path)``.

    numpy's generators take all of it, torch's on the CPU the lower 32 bits.
    """
    text = json.dumps([seed, *path])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def numpy_generator(seed: int, *path: str | int) -> np.random.Generator:
    """A private numpy generator for one stream, e.g. ``("mixup", epoch, step)``."""
    return np.random.Generator(np.random.Philox(key(seed, *path)))


def uniform(shape: tuple[int, ...], seed: int, *path: str | int) -> "torch.Tensor":
    """Uniform float32 numbers in [0, 1) of the given shape, on the CPU."""
    import torch  # not above: reports use the other functions and do without

    generator = torch.Generator().manual_seed(key(seed, *path))
    return torch.rand(shape, generator=generator)


@contextmanager
def global_stream(seed: int, *path: str | int) -> Iterator[None]:
    """Let code that only knows torch's global generator (initialisers, dropout) draw from one stream.

    The global state is restored afterwards.
    """
    import torch

    with restored():
        torch.manual_seed(key(seed, *path))
        yield


@contextmanager
def restored() -> Iterator[None]:
    """Leave torch's global generators as they were: that of the CPU, and of the GPU in use if there is one."""
    import torch

    in_use = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    devices = [torch.cuda.current_device()] if in_use else []
    with torch.random.fork_rng(devices=devices):
        yield
