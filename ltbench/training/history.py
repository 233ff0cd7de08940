"""What training did and what it took."""

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class EpochRecord:
    """One point of the training curve."""

    stage: str
    epoch: int
    lr: float
    loss: float
    """Mean over the epoch's images, as trained: augmented and mixed."""
    images_per_second: float | None = None
    """Of this process: a run that went on in the middle of the epoch counts from there."""


@dataclass
class Division:
    """How batches were divided."""

    processes: int
    accumulate: int
    """Parts of a process's share whose gradients were added up."""
    batch_norm_images: int | None
    """Images of a full batch, at least, that shared batch-norm statistics; None where the network has none."""


@dataclass
class History:
    """What training did and what it took."""

    curve: list[EpochRecord] = field(default_factory=list)
    seconds: float = 0.0
    images: int = 0
    """Training images seen, repeats counted."""
    steps: dict[str, str] = field(default_factory=dict)
    """How the steps of each stage were carried out, and why not faster."""
    selected: dict[str, float] = field(default_factory=dict)
    """What the method chose on the validation images."""
    divisions: list[Division] = field(default_factory=list)
    """How batches were divided; more than one where training was stopped and went on with other processes."""

    @property
    def how(self) -> str | None:
        """The different ways of the stages, in a few words; None where nothing was trained."""
        return " / ".join(dict.fromkeys(self.steps.values())) or None


Watch = Callable[[float, str, History], None]
"""Called after every step with the share of training that is done, a few words, and the history so far, to be read."""
