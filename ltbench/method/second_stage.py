"""Shared by methods that start from the finished run of another method."""

from collections.abc import Callable, Mapping
from typing import ClassVar

from torch import Tensor

from ltbench.config import RunConfig
from ltbench.errors import LtbenchError
from ltbench.method.base import Method, base_run
from ltbench.method.batch import Batch
from ltbench.method.stage import Progress
from ltbench.metrics.accuracy import macro_accuracy


class SecondStage(Method):
    """A method that starts from the network of a finished run with the same settings; mixing belongs to that run."""

    first: ClassVar[str]
    """Name of the method of the first stage."""

    @classmethod
    def uses(cls, run: RunConfig) -> dict[str, RunConfig]:
        """The run of the first stage."""
        return {cls.first: base_run(run, cls.first)}

    def start_from(self, runs: Mapping[str, Method]) -> None:
        """Take over the network."""
        self.network.load_state_dict(runs[self.first].network.state_dict())

    def prepare(self, batch: Batch, progress: Progress) -> Batch:
        """Nothing is mixed in the second stage."""
        return batch


def need_validation(run: RunConfig, setting: str) -> None:
    """Refuse a setting that chooses on validation images where a run has none.

    Raises:
        LtbenchError: if the setting is on and there are none.
    """
    if run.hyperparameters.get(setting) and not run.validation:
        raise LtbenchError(
            f"{setting} needs validation images to choose on",
            where=f"--set {setting}=true",
            hint="add --validation, which holds out a fifth of the training images",
        )


def best_tau(logits_at: Callable[[float], Tensor], labels: Tensor, largest: float) -> float:
    """The tau with the best macro accuracy, from 0 in steps of 0.1; of equals the one nearest to 1.

    Args:
        logits_at: gives the logits (N, C) for a tau.
        labels: (N,) class indices.
        largest: largest tau that is tried.
    """
    candidates = sorted((step / 10 for step in range(round(10 * largest) + 1)), key=lambda tau: abs(tau - 1))
    return max(candidates, key=lambda tau: macro_accuracy(logits_at(tau), labels))
