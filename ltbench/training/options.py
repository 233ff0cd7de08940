"""How training is carried out: in which precision, by how many processes, in how little memory."""

from dataclasses import dataclass, field

from ltbench.progress import ProgressListener, silent
from ltbench.training.checkpoint import Checkpoint, NoCheckpoint
from ltbench.training.distributed.process_group import ALONE, Group
from ltbench.training.validation_curve import ValidationCurve


@dataclass(frozen=True)
class TrainOptions:
    """How training is carried out; what is trained, and for how long, is the recipe's to say.

    Only the precision changes results by more than rounding, and the number of processes and ``accumulate`` where
    batch norm sees fewer images for them, or dropout draws its masks for each process and micro-batch.
    """

    checkpoint: Checkpoint = field(default_factory=NoCheckpoint)
    """Where the state of training is saved; in the end it holds the trained weights."""
    precision: str = "fp32"
    """fp32, or bf16 for autocast: weights, batch-norm statistics and the loss stay float32."""
    compiled: bool | None = None
    """Whether to compile the training steps; None: on a GPU, if the run is long."""
    accumulate: int = 1
    """Gradient-accumulation steps per batch: micro-batches of this process's images, each of two or more."""
    checkpoint_activations: bool = False
    """Whether the backward pass computes the activations of each block again, which takes less memory."""
    shard: bool = False
    """Whether the network's parameters are sharded over the processes while it trains."""
    group: Group = ALONE
    """The processes that train together."""
    listener: ProgressListener = silent
    """Called after every step with the fraction of training that is done, the stage, the epoch and the history."""
    validation_curve: ValidationCurve | None = None
    """What is measured while the method trains, and may end it early; None: nothing."""
