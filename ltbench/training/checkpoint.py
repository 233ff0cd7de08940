"""Checkpoints: the whole state of a training run, written in one step, read without executing anything."""

import time
import warnings
from pathlib import Path
from typing import Any

import torch

from ltbench.errors import LtbenchWarning
from ltbench.files.atomic import write_bytes
from ltbench.training.distributed.process_group import ALONE, Group


class Checkpoint:
    """The checkpoint file of a run.

    Args:
        path: of the file.
        every: seconds of training between two saves.
        settings: of the run, as text; what was saved under others is not taken up.
        group: the processes of the run; the first one reads and writes.
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
        """The stored state, or None if there is none that can be read; on the CPU if it comes from another process."""
        return self.group.broadcast_object(lambda: self._load(device if self.group.size == 1 else torch.device("cpu")))

    def _load(self, device: torch.device) -> dict[str, Any] | None:
        if not self.path.exists():
            return None
        try:
            state: dict[str, Any] = torch.load(self.path, map_location=device, weights_only=True)
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
        """Never."""
        return False

    def save(self, state: dict[str, Any]) -> None:
        """Do not."""

    def load(self, device: torch.device) -> None:
        """Nothing."""
