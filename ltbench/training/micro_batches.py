"""Parts of a batch: one process's images, micro-batches for gradient accumulation, a dummy for an empty one."""

from collections.abc import Iterator
from dataclasses import replace

from torch import Tensor

from ltbench.method import Batch
from ltbench.training.distributed.process_group import shard_slice


def select(batch: Batch, which: slice) -> Batch:
    """Some of the images of a batch, with all that belongs to them."""
    weight = batch.weight if batch.weight is None or batch.weight.ndim == 0 else batch.weight[which]
    return replace(
        batch,
        views=tuple(view[which] for view in batch.views),
        indices=batch.indices[which],
        labels=batch.labels[which],
        mixed_labels=None if batch.mixed_labels is None else batch.mixed_labels[which],
        weight=weight,
        streams={name: select(stream, which) for name, stream in batch.streams.items()},
    )


def micro_batches(batch: Batch, count: int) -> Iterator[Batch]:
    """A batch in ``count`` parts of equal size, up to one image; an empty batch has none."""
    size = len(batch.labels)
    for i in range(count if size else 0):
        yield select(batch, shard_slice(size, i, count))


def dummy_batch(batch: Batch) -> Batch:
    """Two black images of the first class, in place of an empty batch."""

    def zeros(tensor: Tensor) -> Tensor:
        return tensor.new_zeros(2, *tensor.shape[1:])

    return replace(
        batch,
        views=tuple(zeros(view) for view in batch.views),
        indices=zeros(batch.indices),
        labels=zeros(batch.labels),
        mixed_labels=None if batch.mixed_labels is None else zeros(batch.mixed_labels),
        weight=batch.weight if batch.weight is None or batch.weight.ndim == 0 else zeros(batch.weight),
        streams={name: dummy_batch(stream) for name, stream in batch.streams.items()},
    )
