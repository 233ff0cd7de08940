"""Where and how runs are carried out."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ltbench import paths
from ltbench.errors import LtbenchError
from ltbench.progress import ProgressListener, ProgressUpdate, silent
from ltbench.runs.monitor.tensorboard import check_installed
from ltbench.training.distributed.process_group import ALONE, Group


@dataclass(frozen=True)
class RunOptions:
    """Where and how a run is carried out; nothing here changes what it computes.

    It travels whole from the command line to the trainer. A field has the name of its command-line option.
    """

    data_dir: Path = field(default_factory=paths.data_dir)
    device: str = "auto"
    out: Path = Path("results")
    """Folder of results."""
    rerun: bool = False
    """Whether to train again what is stored already."""
    checkpoint_every: float = 30.0
    """Seconds of training between two checkpoints."""
    evaluate_test: bool = True
    """Whether to look at the test set; tuning does not."""
    compiled: bool | None = None
    """Whether to compile training steps; None: where it pays."""
    listener: ProgressListener = silent
    """Told of progress after every step."""
    tensorboard: Path | None = None
    """Folder for training curves as TensorBoard reads them, in DATASET/METHOD/RUN_ID; None for none."""
    workers: int | None = None
    """Threads that decode image files, where a data set is not kept in memory; None: as many as there are cores."""
    tuning: Mapping[str, Any] | None = None
    """The search that chose the settings, for the result."""
    group: Group = ALONE
    """The processes that carry out the run together. With process-local batch norm their number does change results."""
    accumulate: int = 1
    """Gradient-accumulation steps per batch in each process; likewise."""
    checkpoint_activations: bool = False
    """Whether to keep less for the backward pass, and to compute it again there."""
    shard: bool = False
    """Whether the network's parameters are divided over the processes while it trains."""

    def __post_init__(self) -> None:
        if not 0 <= self.checkpoint_every < math.inf:  # nor NaN, which no time is up to
            raise LtbenchError(
                f"{self.checkpoint_every} is no number of seconds",
                where="--checkpoint-every",
                hint="give a finite number; 0 saves after every step",
            )
        if self.tensorboard is not None:
            check_installed()


def for_run(options: RunOptions, position: int) -> RunOptions:
    """The options of one run of a sweep, whose updates say which run it is.

    Args:
        options: of the sweep.
        position: of the run in it.
    """

    def listener(update: ProgressUpdate) -> None:
        options.listener(replace(update, run=position))

    return replace(options, listener=listener)
