"""What training did and what it took."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from ltbench.results.records import BatchSplit


@dataclass
class EpochRecord:
    """One point of the training curve."""

    stage: str
    epoch: int
    lr: float
    loss: float
    """Mean over the epoch's images, as trained: augmented and mixed."""
    images_per_second: float | None = None
    """Speed of this process; an epoch that was resumed in its middle counts from there."""
    validation: float | None = None
    """The ``validation_metric`` of held-out images after the epoch; None where it was not measured."""


@dataclass
class History:
    """What training did and what it took."""

    curve: list[EpochRecord] = field(default_factory=list)
    seconds: float = 0.0
    images: int = 0
    """Training images seen, repeats counted."""
    steps: dict[str, str] = field(default_factory=dict)
    """How the steps of each stage were executed, and why not faster."""
    selected: dict[str, float] = field(default_factory=dict)
    """Parameters that the method chose on the validation images."""
    divisions: list[BatchSplit] = field(default_factory=list)
    """How batches were divided; more than one where training was resumed with another number of processes."""

    validation_metric: str | None = None
    """What the validation curve shows; None where nothing was measured, and of a checkpoint of earlier versions."""
    ended_early: bool = False
    """Whether the validation curve has ended training; a checkpoint does not say so, and training may go on from it."""

    @property
    def execution(self) -> str | None:
        """How steps were executed, e.g. "compiled, CUDA graph", stage by stage; None where nothing was trained."""
        return " / ".join(dict.fromkeys(self.steps.values())) or None

    @property
    def validation_curve(self) -> dict[int, float]:
        """What was measured while the method trained, by number of epochs trained."""
        return {number: one.validation for number, one in enumerate(self.curve, 1) if one.validation is not None}

    def to_dict(self) -> dict[str, Any]:
        """The history as a checkpoint keeps it: dictionaries, lists, text and numbers."""
        content = {**asdict(self), "divisions": [one.model_dump() for one in self.divisions]}
        del content["ended_early"]
        if content["validation_metric"] is None:  # which earlier versions do not know
            del content["validation_metric"]
        for point in content["curve"]:
            if point["validation"] is None:  # which earlier versions do not know
                del point["validation"]
        return content

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Self:
        """The history of a checkpoint; what is selected after training is not in it.

        Raises:
            KeyError, TypeError, ValueError: if it is no such dictionary.
        """
        return cls(
            curve=[EpochRecord(**point) for point in stored["curve"]],
            seconds=stored["seconds"],
            images=stored["images"],
            steps=stored["steps"],
            divisions=[BatchSplit(**one) for one in stored.get("divisions", ())],
            validation_metric=stored.get("validation_metric"),
        )

    def measured_by(self, metric: str) -> None:
        """Say what the validation curve shows from now on; another search's figures of another metric are dropped."""
        if self.validation_metric != metric:
            for point in self.curve:
                point.validation = None
        self.validation_metric = metric
