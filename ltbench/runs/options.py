"""Where and how runs are carried out."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ltbench.errors import LtbenchError
from ltbench.files import paths
from ltbench.files.paths import DEFAULT_RESULTS
from ltbench.progress import ProgressUpdate
from ltbench.runs.last_dataset import LastDataset
from ltbench.runs.monitor.tensorboard import check_installed
from ltbench.training.options import TrainOptions

if TYPE_CHECKING:
    from ltbench.runs.pruning import Pruning


@dataclass(frozen=True)
class RunOptions(TrainOptions):
    """Where and how a run is carried out; nothing here changes what it computes.

    It travels whole from the command line to the trainer, which reads what it inherits. A field has the name of its
    command-line option, but for ``compiled`` (``--compile``), which would hide Python's ``compile``. A run fills in its
    own checkpoint and precision.
    """

    data_dir: Path = field(default_factory=paths.data_dir)
    device: str = "auto"
    out: Path = DEFAULT_RESULTS
    """Folder of results."""
    rerun: bool = False
    """Whether to train again what is stored already."""
    checkpoint_every: float = 30.0
    """Seconds of training between two checkpoints."""
    evaluate_test: bool = True
    """Whether to look at the test set; tuning does not."""
    tensorboard: Path | None = None
    """Folder for training curves as TensorBoard reads them, in DATASET/METHOD/RUN_ID; None for none."""
    workers: int | None = None
    """Threads that decode image files, where a data set is not kept in memory; None: as many as there are cores."""
    tuning: Mapping[str, Any] | None = None
    """The search that chose the settings, for the result."""
    pruning: "Pruning | None" = None
    """What may end this trial of a search early."""
    last_dataset: LastDataset | None = None
    """The images of the run before, for runs that follow one another; None: a run reads its own."""

    def __post_init__(self) -> None:
        for name in ("data_dir", "out", "tensorboard"):  # text will do as well
            if isinstance(getattr(self, name), str):
                object.__setattr__(self, name, Path(getattr(self, name)))
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
