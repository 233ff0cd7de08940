"""Batches: from images that are kept in memory, or from a loader of any kind."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ltbench import rng
from ltbench.config import Augment
from ltbench.data.augmentation.pipeline import DRAWS, augment, draws_needed
from ltbench.data.images import LabelledImages
from ltbench.errors import unknown
from ltbench.method import Batch, Sampler

EVALUATION_BATCH = {"cpu": 128}
"""Images at a time, by device: on a CPU few enough for its caches, 512 elsewhere."""
AHEAD = {"cuda": 2**23}
"""Pixels that are augmented at a time, by device: a GPU likes much work at once, a CPU's caches one batch."""

Share = Callable[[int], slice]
"""Which of so many things are this process's."""


def everything(count: int) -> slice:
    """The share of a process that is alone."""
    return slice(count)


class Loader(ABC):
    """The images of one part of a data set, handed out on the device.

    Args:
        labels: (N,) int64.
        shape: of an image: channels, height, width.
        mean: of each channel, pixels in [0, 1].
        std: likewise.
        device: where batches go.
        evaluation_batch: images of a batch of `plain` where no number is asked for.
        labelled: if not, every label is -1.
    """

    def __init__(
        self,
        labels: NDArray[np.int64],
        shape: tuple[int, int, int],
        mean: tuple[float, ...],
        std: tuple[float, ...],
        device: torch.device,
        *,
        evaluation_batch: int,
        labelled: bool = True,
    ) -> None:
        self.shape, self.device, self._evaluation_batch = shape, device, evaluation_batch
        own = torch.tensor(labels, device=device)
        self.labels = own if labelled else torch.full_like(own, -1)
        self._scale = 1 / (255 * torch.tensor(std, device=device).view(1, -1, 1, 1))
        self._shift = torch.tensor(mean, device=device).view(1, -1, 1, 1) * 255 * self._scale
        self._mean_colour = [round(255 * level) for level in mean]

    def normalised(self, images: Tensor) -> Tensor:
        """(B, channels, H, W) float32 from uint8, channels last in memory."""
        floats = images.float().mul_(self._scale).sub_(self._shift)
        return floats.contiguous(memory_format=torch.channels_last)

    def in_order(self, batch_size: int | None = None, share: Share = everything) -> tuple[Tensor, ...]:
        """Which images the batches of `plain` have; on the CPU."""
        batches = torch.split(torch.arange(len(self.labels)), batch_size or self._evaluation_batch)
        return batches[share(len(batches))]

    @abstractmethod
    def eval_batches(self, batch_size: int | None = None, share: Share = everything) -> Iterator[Batch]:
        """All images once, in order, as they are; of several processes each makes its share of the batches."""

    @abstractmethod
    def first(self) -> Tensor:
        """(1, channels, H, W) the first image as `plain` gives it, normalised."""

    @abstractmethod
    def augmented(
        self, order: Tensor, numbers: Tensor, sizes: list[int], views: Sequence[Augment]
    ) -> Iterator[tuple[Tensor, ...]]:
        """The views of one batch after the other, uint8, each image augmented by draws of its own.

        Args:
            order: (L,) which images, of all batches; on the CPU.
            numbers: (L, views, `draws_needed`) uniform draws; on the CPU.
            sizes: of the batches, which may be empty; they add up to L.
            views: how to make each.
        """


class InMemoryLoader(Loader):
    """Decoded images, all of them on the device as uint8.

    Args:
        data: the images.
        mean: of each channel, pixels in [0, 1].
        std: likewise.
        device: where to keep them.
        labelled: if not, every label is -1.
    """

    def __init__(
        self,
        data: LabelledImages,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        device: torch.device,
        *,
        labelled: bool = True,
    ) -> None:
        channels, height, width = data.images.shape[1:]
        at_once = EVALUATION_BATCH.get(device.type, 512)
        super().__init__(
            data.labels, (channels, height, width), mean, std, device, evaluation_batch=at_once, labelled=labelled
        )
        self.images = torch.tensor(data.images, device=device)

    def eval_batches(self, batch_size: int | None = None, share: Share = everything) -> Iterator[Batch]:
        """All images once, in order, as they are; or this process's share of the batches."""
        for part in self.in_order(batch_size, share):
            index = part.to(self.device)
            yield Batch((self.normalised(self.images[index]),), index, self.labels[index])

    def first(self) -> Tensor:
        """(1, channels, H, W) the first image, normalised."""
        return self.normalised(self.images[:1])

    def augmented(
        self, order: Tensor, numbers: Tensor, sizes: list[int], views: Sequence[Augment]
    ) -> Iterator[tuple[Tensor, ...]]:
        """The views of one batch after the other; those of several small batches are made at once."""
        order, numbers = order.to(self.device), numbers.to(self.device)
        together = max(1, AHEAD.get(self.device.type, 0) // max(1, sizes[0] * self.shape[1] * self.shape[2]))
        begin = 0
        for some in (sizes[i : i + together] for i in range(0, len(sizes), together)):
            now = slice(begin, begin := begin + sum(some))
            images = self.images[order[now]]
            made = [augment(images, how, numbers[now, i], self._mean_colour) for i, how in enumerate(views)]
            yield from zip(*(torch.split(view, some) for view in made), strict=True)


@dataclass
class _Stream:
    order: Tensor
    numbers: Tensor
    """Of all images of this process, one batch after the other."""
    indices: tuple[Tensor, ...]
    """The order in batches, on the device."""
    next: int
    """The step that comes next out of ``coming``."""
    coming: Iterator[tuple[Tensor, ...]]
    """The uint8 views of the steps from there on."""


class Epoch:
    """One pass over the images: the order and the augmentation draws of every batch, fixed in advance.

    Draws belong to places in the epoch and not to images, so that an image that a sampler picks twice is
    augmented in two ways. A last batch of a single image, which batch norm could not normalise, joins the one
    before it; no image is dropped. ``sizes`` are those of whole batches. Of several processes each makes its
    ``share`` of every batch; ``gather`` puts the images of all together, where the whole is wanted.
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
        share: Share = everything,
        gather: Callable[[Tensor], Tensor] = lambda own: own,
    ) -> None:
        for view in views:
            if view not in how:
                raise unknown("view", view, how, where="the method's views")
        self._data, self._views, self._gather = data, [how[view] for view in views], gather
        orders = {name: sampler(rng.numpy_generator(seed, "order", name, *place)) for name, sampler in samplers.items()}
        length = len(orders["main"])
        self.sizes = _batch_sizes(length, batch_size)
        own = [part[share(len(part))] for part in torch.split(torch.arange(length), self.sizes)]
        self._own_sizes, mine = [len(part) for part in own], torch.cat(own)
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
            stream.coming = self._data.augmented(
                stream.order[begin:], stream.numbers[begin:], self._own_sizes[step:], self._views
            )
        index = self._gather(stream.indices[step])
        views = tuple(self._data.normalised(self._gather(view)) for view in next(stream.coming))
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
