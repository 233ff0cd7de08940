"""One pass over a data set: the order of the images and the augmentation draws of every batch, fixed in advance."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ltbench import rng
from ltbench.config import Augment
from ltbench.data.augmentation.pipeline import DRAWS, draws_needed
from ltbench.data.loading.base import Loader, LocalSlice, unsharded
from ltbench.errors import unknown
from ltbench.method import Batch, Sampler


@dataclass
class _Stream:
    order: Tensor
    numbers: Tensor
    """Uniform draws of all images of this process, one batch after the other."""
    indices: tuple[Tensor, ...]
    """The order in batches, on the device."""
    next: int
    """The next step that ``upcoming`` yields."""
    upcoming: Iterator[tuple[Tensor, ...]]
    """The uint8 views of the steps from ``next`` on."""


class Epoch:
    """One pass over the images: the order and the augmentation draws of every batch, fixed in advance.

    Draws belong to positions in the epoch and not to images, so that an image that a sampler picks twice is
    augmented in two ways. A last batch of a single image, which batch norm could not normalise, joins the one
    before it; no image is dropped. ``sizes`` are those of whole batches. Each of several processes makes its
    ``local_slice`` of every batch; ``gather`` joins the images of all processes, where the whole batch is wanted.
    """

    def __init__(
        self,
        data: Loader,
        samplers: Mapping[str, Sampler],
        *,
        views: tuple[str, ...],
        how: Mapping[str, Augment],
        batch_size: int,
        seed: int,
        place: tuple[str | int, ...],
        local_slice: LocalSlice = unsharded,
        gather: Callable[[Tensor], Tensor] = lambda own: own,
    ) -> None:
        for view in views:
            if view not in how:
                raise unknown("view", view, how, where="the method's views")
        self._data, self._views, self._gather = data, [how[view] for view in views], gather
        orders = {name: sampler(rng.numpy_generator(seed, "order", name, *place)) for name, sampler in samplers.items()}
        length = len(orders["main"])
        self.sizes = _batch_sizes(length, batch_size)
        own = [batch[local_slice(len(batch))] for batch in torch.split(torch.arange(length), self.sizes)]
        self._own_sizes, mine = [len(batch) for batch in own], torch.cat(own)
        self._streams: dict[str, _Stream] = {}
        for name, order in orders.items():
            cycled = order.repeat(-(-length // len(order)))[:length]
            numbers = rng.uniform((length, len(views), DRAWS), seed, "augment", name, *place)
            # Further draws are from a stream of their own, so that the first stay as they are.
            if more := max(map(draws_needed, self._views)) - DRAWS:
                further = rng.uniform((length, len(views), more), seed, "augment", name, *place, "more")
                numbers = torch.cat([numbers, further], dim=2)
            if len(mine) < length:
                cycled, numbers = cycled[mine], numbers[mine]
            indices = torch.split(cycled.to(data.device), self._own_sizes)
            self._streams[name] = _Stream(cycled, numbers, indices, len(self), iter(()))

    def __len__(self) -> int:
        return len(self.sizes)

    def batch(self, step: int) -> Batch:
        """The batch of a step, with those of further streams in ``streams``; quickest where steps follow each other."""
        made = {name: self._batch(stream, step) for name, stream in self._streams.items()}
        main = made.pop("main")
        main.streams = made
        return main

    def _batch(self, stream: _Stream, step: int) -> Batch:
        if step != stream.next:
            begin = sum(self._own_sizes[:step])
            stream.upcoming = self._data.augmented(
                stream.order[begin:], stream.numbers[begin:], self._own_sizes[step:], self._views
            )
        index = self._gather(stream.indices[step])
        views = tuple(self._data.normalised(self._gather(view)) for view in next(stream.upcoming))
        stream.next = step + 1
        return Batch(views, index, self._data.labels[index])


def _batch_sizes(length: int, batch_size: int) -> list[int]:
    sizes = [batch_size] * (length // batch_size)
    rest = length % batch_size
    if rest == 1 and sizes:
        sizes[-1] += 1
    elif rest:
        sizes.append(rest)
    return sizes
