"""Where and how runs are carried out."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ltbench import paths
from ltbench.errors import LtbenchError
from ltbench.runs.monitor.tensorboard import check_installed
from ltbench.training.distributed.process_group import ALONE, Group


@dataclass(frozen=True)
class RunOptions:
    """Where and how a run is carried out; nothing here changes what it computes."""

    data_dir: Path = field(default_factory=paths.data_dir)
    device: str = "auto"
    out: Path = Path("results")
    rerun: bool = False
    checkpoint_every: float = 30.0
    test: bool = True
    """Whether to look at the test set; tuning does not."""
    compiled: bool | None = None
    """Whether to compile training steps; None: where it pays."""
    watch: Callable[[float, str], None] = lambda share, words: None
    """Called after every step with the share of training that is done and a few words."""
    tensorboard: Path | None = None
    """Folder for training curves as TensorBoard reads them, in DATASET/METHOD/RUN_ID; None for none."""
    workers: int | None = None
    """Threads that decode image files, where a data set is not kept in memory; None: as many as there are cores."""
    tuning: Mapping[str, Any] | None = None
    """The search that chose the settings, for the result."""
    group: Group = ALONE
    """The processes that carry out the run together. With process-local batch norm their number does change results."""
    accumulate: int = 1
    """Parts of a process's share of a batch whose gradients are added up; likewise."""
    checkpoint_activations: bool = False
    """Whether to keep less for the backward pass, and to compute it again there."""
    shard: bool = False
    """Whether the processes divide the parameters of the network among them while it trains."""

    def __post_init__(self) -> None:
        if not 0 <= self.checkpoint_every < math.inf:  # nor NaN, which no time is up to
            raise LtbenchError(
                f"{self.checkpoint_every} is no number of seconds",
                where="--checkpoint-every",
                hint="give a finite number; 0 saves after every step",
            )
        if self.tensorboard is not None:
            check_installed()
