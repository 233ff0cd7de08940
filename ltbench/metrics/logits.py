"""Logits as evaluation goes through them: a block of rows after the other.

A table of 24,426 test images, 8,142 classes and three experts takes 2.4 GB, and every probability, correction or
selection made of it whole as much again. In blocks that fit a processor's cache the same takes next to no memory,
and is faster.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

_BLOCK = 2**18
"""Number of entries of a block: 1 MiB of float32."""


class Logits(Protocol):
    """(N, C): a tensor, or rows that are made when they are looked at."""

    @property
    def shape(self) -> Sequence[int]:
        """N and C."""

    @property
    def device(self) -> torch.device:
        """The device that holds the rows."""

    def __getitem__(self, rows: slice, /) -> Tensor:
        """Some of the rows."""


@dataclass(frozen=True)
class SelectedRows:
    """Some rows of a table."""

    table: Tensor
    index: Tensor
    """(N,) which."""

    @property
    def shape(self) -> tuple[int, int]:
        """N and C."""
        return len(self.index), self.table.shape[1]

    @property
    def device(self) -> torch.device:
        """The device that holds the rows."""
        return self.table.device

    def __getitem__(self, rows: slice, /) -> Tensor:
        """Some of the rows."""
        return self.table[self.index[rows]]


@dataclass(frozen=True)
class Changed:
    """Rows of which something else is made, each by itself."""

    table: Logits
    change: Callable[[Tensor], Tensor]

    @property
    def shape(self) -> Sequence[int]:
        """N and C."""
        return self.table.shape

    @property
    def device(self) -> torch.device:
        """The device that holds the rows."""
        return self.table.device

    def __getitem__(self, rows: slice, /) -> Tensor:
        """Some of the rows."""
        return self.change(self.table[rows])


def blocks(logits: Logits, *others: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """A block of rows after the other, of all alike."""
    count, classes = logits.shape
    rows = max(1, _BLOCK // classes)
    for begin in range(0, count, rows):
        now = slice(begin, begin + rows)
        yield logits[now], *(other[now] for other in others)
