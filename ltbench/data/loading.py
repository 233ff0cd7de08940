"""Batches from images that are kept in memory, on the device."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ltbench import draws
from ltbench.config import Augment
from ltbench.data.augment import DRAWS, augment, draws_needed
from ltbench.data.source import LabelledImages
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


class Resident:
    """Images on the device as uint8, handed out normalised.

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
        self.images = torch.tensor(data.images, device=device)
        labels = torch.tensor(data.labels, device=device)
        self.labels = labels if labelled else torch.full_like(labels, -1)
        self._scale = 1 / (255 * torch.tensor(std, device=device).view(1, -1, 1, 1))
        self._shift = torch.tensor(mean, device=device).view(1, -1, 1, 1) * 255 * self._scale
        self._mean_colour = [round(255 * level) for level in mean]

    def normalised(self, images: Tensor) -> Tensor:
        """(B, channels, H, W) float32 from uint8, channels last in memory."""
        floats = images.float().mul_(self._scale).sub_(self._shift)
        return floats.contiguous(memory_format=torch.channels_last)

    def plain(self, batch_size: int | None = None, share: Share = everything) -> Iterator[Batch]:
        """All images once, in order, as they are; or the batches that are this process's share."""
        batch_size = batch_size or EVALUATION_BATCH.get(self.labels.device.type, 512)
        batches = torch.split(torch.arange(len(self.labels), device=self.labels.device), batch_size)
        for index in batches[share(len(batches))]:
            yield Batch((self.normalised(self.images[index]),), index, self.labels[index])

    def varied(self, index: Tensor, numbers: Tensor, views: Sequence[Augment]) -> tuple[Tensor, ...]:
        """The views of some images, uint8, each augmented by draws of its own.

        Args:
            index: (B,) which.
            numbers: (B, views, `draws_needed`) uniform draws.
            views: how to make each.
        """
        images = self.images[index]
        return tuple(augment(images, how, numbers[:, i], self._mean_colour) for i, how in enumerate(views))


@dataclass
class _Stream:
    order: tuple[Tensor, ...]
    numbers: tuple[Tensor, ...]
    ready: dict[int, tuple[Tensor, ...]] = field(default_factory=dict)
    """The uint8 views of the steps that are augmented already."""


class Epoch:
    """One pass over the images: the order and the augmentation draws of every batch, fixed in advance.

    Draws belong to places in the epoch and not to images, so that an image that a sampler picks twice is
    augmented in two ways. A last batch of a single image, which batch norm could not normalise, joins the one
    before it; no image is dropped. ``sizes`` are those of whole batches. Of several processes
    each makes its ``share`` of every batch; ``gather`` puts the pixels of all together, where the whole is wanted.
    """

    def __init__(
        self,
        data: Resident,
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
        orders = {
            name: sampler(draws.numpy_generator(seed, "order", name, *place)) for name, sampler in samplers.items()
        }
        length = len(orders["main"])
        self.sizes = sizes = _batch_sizes(length, batch_size)
        self._streams: dict[str, _Stream] = {}
        for name, order in orders.items():
            cycled = order.repeat(-(-length // len(order)))[:length].to(data.labels.device)
            numbers = draws.uniform((length, len(views), DRAWS), seed, "augment", name, *place)
            # Further draws are from a stream of their own, so that the first stay as they are.
            if more := max(map(draws_needed, self._views)) - DRAWS:
                further = draws.uniform((length, len(views), more), seed, "augment", name, *place, "more")
                numbers = torch.cat([numbers, further], dim=2)
            numbers = numbers.to(data.labels.device)
            own = [[whole[share(len(whole))] for whole in torch.split(part, sizes)] for part in (cycled, numbers)]
            self._streams[name] = _Stream(tuple(own[0]), tuple(own[1]))

    def __len__(self) -> int:
        return len(self._streams["main"].order)

    def batch(self, step: int) -> Batch:
        """The batch of a step, with those of further streams in ``streams``."""
        made = {name: self._batch(stream, step) for name, stream in self._streams.items()}
        main = made.pop("main")
        main.streams = made
        return main

    def _batch(self, stream: _Stream, step: int) -> Batch:
        if step not in stream.ready:
            self._augment(stream, step)
        index = self._gather(stream.order[step])
        views = tuple(self._data.normalised(self._gather(view)) for view in stream.ready.pop(step))
        return Batch(views, index, self._data.labels[index])

    def _augment(self, stream: _Stream, step: int) -> None:
        """Make the views of this step and of those that follow it soon."""
        device, (height, width) = self._data.labels.device, self._data.images.shape[2:]
        batches = AHEAD.get(device.type, 0) // max(1, len(stream.order[step]) * height * width)
        ahead = slice(step, step + max(1, batches))
        order, numbers = stream.order[ahead], stream.numbers[ahead]
        views = self._data.varied(torch.cat(order), torch.cat(numbers), self._views)
        sizes = [len(index) for index in order]
        parts = zip(*(torch.split(view, sizes) for view in views), strict=True)
        stream.ready = dict(enumerate(parts, start=step))


def _batch_sizes(length: int, batch_size: int) -> list[int]:
    sizes = [batch_size] * (length // batch_size)
    rest = length % batch_size
    if rest == 1 and sizes:
        sizes[-1] += 1
    elif rest:
        sizes.append(rest)
    return sizes
