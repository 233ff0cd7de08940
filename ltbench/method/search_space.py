"""What a search may choose from."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Range:
    """A search range of numbers, both ends included."""

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True)
class Choice:
    """A search range of listed values."""

    options: tuple[Any, ...]
