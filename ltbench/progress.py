"""The progress of long work - training, downloads, checks - and who listens to it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ltbench.training.history import History


LOADING = "loading data"
"""What a run does before it trains, as a message."""


@dataclass(frozen=True)
class ProgressUpdate:
    """How far a piece of work is.

    Args:
        message: a few words for people, e.g. the stage and the epoch, or a file's name.
        done: in the units of ``total``.
        total: the whole work: 1 for a fraction, or a number of bytes, images or files.
        run: position of the run among those of a sweep.
        history: losses and rates of the training so far.
        loss: mean of the last epoch of training that has ended.
    """

    message: str
    done: float
    total: float = 1.0
    run: int = 0
    history: "History | None" = None
    loss: float | None = None

    @property
    def fraction(self) -> float:
        """The part that is done, from 0 to 1."""
        return self.done / self.total if self.total else 1.0


ProgressListener = Callable[[ProgressUpdate], None]


def silent(update: ProgressUpdate) -> None:
    """Listen to nothing."""
