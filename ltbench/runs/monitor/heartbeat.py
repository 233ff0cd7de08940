"""A small file that says how far a run is, for those who look on from another process."""

import os
import socket
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from pydantic import ConfigDict, Field

from ltbench.config import Frozen, RunConfig
from ltbench.errors import LtbenchError
from ltbench.files.atomic import write_text
from ltbench.files.paths import storable_name

if TYPE_CHECKING:
    from ltbench.training.history import History

FILE = "heartbeat.json"
"""In the folder that a run has in the cache."""
HEARTBEAT_INTERVAL = 1.0
"""Seconds between two writings."""


class Heartbeat(Frozen):
    """What the file holds."""

    model_config = ConfigDict(populate_by_name=True)

    run_id: str
    config: RunConfig
    folder: Path
    """Where the result will go."""
    host: str
    process: int
    began: datetime
    """When this process took the run up."""
    began_at: float
    """Fraction of training that was done by then, 0 to 1."""
    seen: datetime
    fraction: float = Field(validation_alias="share", serialization_alias="share")
    """Fraction of training that is done."""
    words: str
    """The stage and the epoch."""
    loss: float | None
    """Mean loss of the last whole epoch."""
    images_per_second: float | None

    def seconds_left(self, now: datetime) -> float | None:
        """Until the end of training, at the pace since ``began``; None where it has made no way yet."""
        if self.fraction <= self.began_at or self.seen <= self.began:
            return None
        pace = (self.fraction - self.began_at) / (self.seen - self.began).total_seconds()
        return max(0.0, (1 - self.fraction) / pace - (now - self.seen).total_seconds())


class HeartbeatWriter:
    """Writes the heartbeats of one run, and removes the file when the context is left because the run has ended.

    If it is left by an exception the run has not ended but can go on, and the last heartbeat stays. A heartbeat is a
    courtesy: where it cannot be written, the run goes on without.

    Args:
        path: of the file.
        run_id: of the run.
        config: its settings.
        folder: where its result will go.
    """

    def __init__(self, path: Path, run_id: str, config: RunConfig, folder: Path) -> None:
        self.path = path
        self._about = {"run_id": run_id, "config": config, "folder": Path(storable_name(str(folder.absolute())))}
        self._start: tuple[datetime, float, int] | None = None  # the time, and the fraction and the images before it
        self._last: tuple[float, str, History] | None = None
        self._due = 0.0

    def write(self, fraction: float, words: str, history: "History") -> None:
        """Note how far the run is, in the file if it is time for that; see ``ltbench.progress``."""
        self._last = fraction, words, history
        if self._start is None:
            self._start = datetime.now(UTC), fraction, history.images
        if time.monotonic() >= self._due or fraction == 1.0:
            self._write()
            self._due = time.monotonic() + HEARTBEAT_INTERVAL

    def _write(self) -> None:
        assert self._start is not None
        assert self._last is not None
        (began, began_at, images), (fraction, words, history) = self._start, self._last
        now = datetime.now(UTC)
        seconds, images = (now - began).total_seconds(), history.images - images
        heartbeat = Heartbeat(
            **self._about,
            host=socket.gethostname(),
            process=os.getpid(),
            began=began,
            began_at=began_at,
            seen=now,
            fraction=fraction,
            words=words,
            loss=history.curve[-1].loss if history.curve else None,
            images_per_second=images / seconds if images and seconds > 0 else None,
        )
        with suppress(LtbenchError):
            write_text(self.path, heartbeat.model_dump_json(by_alias=True), lasting=False)

    def __enter__(self) -> "HeartbeatWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if error is None:
            self.stop()
        elif self._last is not None:
            self._write()

    def stop(self) -> None:
        """Remove the file, if it is there."""
        with suppress(OSError):
            self.path.unlink()
