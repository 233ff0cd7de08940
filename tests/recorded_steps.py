"""Recorded training steps on machines without a GPU."""

from collections.abc import Callable
from typing import Any

import pytest

from ltbench.training import trainer
from ltbench.training.step import Step


def again(work: Callable[[], Any]) -> Callable[[], Any]:
    """A recorder for machines without a GPU: recorded work is done over again, on the recorded tensors."""
    return work


def record_steps(monkeypatch: pytest.MonkeyPatch) -> list[Step]:
    """Let training record its steps on the CPU; gives the steps that are made from then on."""
    made: list[Step] = []

    class Spied(Step):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "recorder": again})
            made.append(self)

    monkeypatch.setattr(trainer, "Step", Spied)
    return made
