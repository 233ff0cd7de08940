"""Checkpoints: the whole state of training, written in one step, read without executing anything."""

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ltbench.errors import LtbenchError, LtbenchWarning, first_line
from ltbench.files.atomic import write_bytes
from ltbench.method import Method
from ltbench.training.distributed.process_group import ALONE, Group
from ltbench.training.distributed.sharding import gathered
from ltbench.training.history import History

_MISFITS = (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError)
"""What is raised by a checkpoint that can be read and has other content."""


class Checkpoint:
    """The checkpoint file of a run.

    Args:
        path: the file.
        every: seconds of training between two saves.
        settings: the run's settings as text; training does not resume from a checkpoint of other settings.
        group: the processes of the run; the main one reads and writes.
    """

    def __init__(self, path: Path, every: float = 30.0, settings: str = "", group: Group = ALONE) -> None:
        self.path, self.group = path, group
        self.every = every
        self.settings = settings
        self._saved = time.monotonic()

    def due(self) -> bool:
        """Whether it is time to save."""
        return time.monotonic() - self._saved >= self.every

    def save(self, state: dict[str, Any]) -> None:
        """Replace the file by this state.

        Raises:
            LtbenchError: if the folder cannot be written or the disk is full; the old file stays.
        """
        if self.group.is_main:
            write_bytes(self.path, lambda stream: torch.save({**state, "settings": self.settings}, stream))
        self._saved = time.monotonic()

    def load(self, device: torch.device) -> dict[str, Any] | None:
        """The stored state, or None if there is none or it is damaged; on the CPU if it comes from another process.

        Raises:
            LtbenchError: if the file cannot be read now, e.g. for lack of memory.
        """
        return self.group.broadcast_object(lambda: self._load(device if self.group.size == 1 else torch.device("cpu")))

    def _load(self, device: torch.device) -> dict[str, Any] | None:
        if not self.path.exists():
            return None
        if not (self.path.is_file() or self.path.is_dir()):  # opening a pipe would not end
            raise LtbenchError("the checkpoint is a device or a pipe", where=self.path, hint="remove it to start anew")
        try:
            state: dict[str, Any] = torch.load(self.path, map_location=device, weights_only=True)
        except (torch.OutOfMemoryError, OSError) as error:  # no fault of the file, whose training is not to be lost
            reason = (error.strerror if isinstance(error, OSError) else None) or first_line(error)
            raise LtbenchError(
                f"the checkpoint cannot be read: {reason}",
                where=self.path,
                hint="run the command again when that is mended, or delete the file to start anew",
            ) from None
        except Exception as error:  # torch raises a dozen kinds for a damaged file
            message = f"the checkpoint {self.path} cannot be read ({type(error).__name__}): training starts anew"
            warnings.warn(message, LtbenchWarning, stacklevel=2)
            return None
        return state if isinstance(state, dict) and state.get("settings") == self.settings else None

    def delete(self) -> None:
        """Remove the file, if it is there."""
        if self.group.is_main:
            self.path.unlink(missing_ok=True)


class NoCheckpoint(Checkpoint):
    """Keeps nothing: for training that only measures."""

    def __init__(self) -> None:
        pass

    def due(self) -> bool:
        """False: it is never time to save."""
        return False

    def save(self, state: dict[str, Any]) -> None:
        """Do nothing."""

    def load(self, device: torch.device) -> None:
        """None: there is no stored state."""


@dataclass
class TrainingState:
    """All that the rest of training depends on: where it is, the weights, momentum, the history.

    A checkpoint holds it as a dictionary of tensors, tuples, dictionaries and text.
    """

    method: Method
    """All of its own state is parameters and buffers."""
    sums: Tensor
    """(2,) float64: loss and weight, added up over the steps of the epoch."""
    stage: int = 0
    """Index of the stage; the number of stages when training is done."""
    epoch: int = 0
    """Within the stage."""
    step: int = 0
    """Within the epoch."""
    optimiser: torch.optim.Optimizer | None = None
    """None before the first stage and after the last one."""
    history: History = field(default_factory=History)

    def save(self, checkpoint: Checkpoint, group: Group) -> None:
        """Save to a checkpoint; every process must call it, since each may have shards of the weights.

        Raises:
            LtbenchError: if the checkpoint cannot be written.
        """
        checkpoint.save(
            {
                "position": (self.stage, self.epoch, self.step),
                "method": gathered(self.method.state_dict(), group),
                "optimiser": gathered(self.optimiser.state_dict(), group) if self.optimiser else None,
                "history": self.history.to_dict(),
                "sums": self.sums,
            }
        )

    def resume(self, checkpoint: Checkpoint, stages: int, start_stage: Callable[[int], torch.optim.Optimizer]) -> bool:
        """Go back to the state of a checkpoint; warns and leaves everything as it is if that does not fit the run.

        Args:
            checkpoint: where the state may be stored.
            stages: their number.
            start_stage: sets what a stage trains and gives its optimiser, without momentum.

        Returns:
            Whether training goes on within a stage.
        """
        stored = checkpoint.load(self.sums.device)
        if stored is None:
            return False
        initial = {name: value.clone() for name, value in self.method.state_dict().items()}
        try:
            return self._restore(stored, stages, start_stage)
        except torch.OutOfMemoryError:  # which is a RuntimeError
            raise
        except _MISFITS as error:
            reason = first_line(error)
            message = f"the checkpoint {checkpoint.path} does not fit the run ({reason}): training starts anew"
            warnings.warn(message, LtbenchWarning, stacklevel=4)
            self.method.load_state_dict(initial)
            self.stage, self.epoch, self.step = 0, 0, 0
            self.optimiser, self.history = None, History()
            self.sums.zero_()
            return False

    def _restore(
        self, stored: dict[str, Any], stages: int, start_stage: Callable[[int], torch.optim.Optimizer]
    ) -> bool:
        self.stage, self.epoch, self.step = stored["position"]
        if not 0 <= self.stage <= stages:
            raise ValueError(f"there is no stage {self.stage}")
        _load_weights(self.method, stored["method"])
        self.history = History.from_dict(stored["history"])
        self.sums.copy_(stored["sums"])
        if self.stage == stages:
            return False
        self.optimiser = start_stage(self.stage)
        if stored["optimiser"] is not None:
            # The recipe and this device set learning rates and flags; only momentum comes from the checkpoint.
            groups = self.optimiser.state_dict()["param_groups"]
            self.optimiser.load_state_dict({"state": stored["optimiser"]["state"], "param_groups": groups})
            for weight, state in self.optimiser.state.items():
                for moment in state.values():  # of AdamW also the number of steps, which has no dimension
                    if isinstance(moment, Tensor) and moment.ndim and moment.shape != weight.shape:
                        raise ValueError(f"a momentum is {tuple(moment.shape)} and not {tuple(weight.shape)}")
        return True


def load_trained(method: Method, checkpoint: Checkpoint, device: torch.device) -> bool:
    """Load the weights of a finished run into a method; False if there is no checkpoint of one."""
    state = checkpoint.load(device)
    if state is None or state.get("optimiser") is not None:
        return False
    try:
        _load_weights(method, state["method"])
    except torch.OutOfMemoryError:
        raise
    except _MISFITS:  # of another network, or no weights at all
        return False
    return True


def _load_weights(method: Method, weights: dict[str, Tensor]) -> None:
    """Load weights, which must be numbers of the method's own types: torch would round them without a word."""
    own = method.state_dict()
    for name in weights.keys() & own.keys():
        if weights[name].dtype != own[name].dtype:
            raise ValueError(f"{name} is {weights[name].dtype} and not {own[name].dtype}")
    method.load_state_dict(weights)
