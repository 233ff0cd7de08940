"""Batches from images that are kept in memory, on the device."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ltbench import draws
from ltbench.config import Augment
from ltbench.data.augment import DRAWS, augment
from ltbench.data.source import LabelledImages
from ltbench.errors import unknown
from ltbench.method import Batch, Sampler

EVALUATION_BATCH = 512
VIEWS = ("train", "plain")


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

    def normalised(self, images: Tensor) -> Tensor:
        """(B, channels, H, W) float32 from uint8, channels last in memory."""
        floats = images.float().mul_(self._scale).sub_(self._shift)
        return floats.contiguous(memory_format=torch.channels_last)

    def plain(self, batch_size: int = EVALUATION_BATCH) -> Iterator[Batch]:
        """All images once, in order, as they are."""
        for index in torch.split(torch.arange(len(self.labels), device=self.labels.device), batch_size):
            yield Batch((self.normalised(self.images[index]),), index, self.labels[index])

    def batch(self, index: Tensor, numbers: Tensor, views: tuple[str, ...], how: Augment) -> Batch:
        """Some images, augmented.

        Args:
            index: (B,) which.
            numbers: (B, views, DRAWS) uniform draws.
            views: "train" for augmented, "plain" for not.
            how: to augment.
        """
        images = self.images[index]
        made = tuple(
            self.normalised(images if view == "plain" else augment(images, how, numbers[:, i]))
            for i, view in enumerate(views)
        )
        return Batch(made, index, self.labels[index])


@dataclass(frozen=True)
class _Stream:
    order: tuple[Tensor, ...]
    numbers: tuple[Tensor, ...]


class Epoch:
    """One pass over the images: the order and the augmentation draws of every batch, fixed in advance.

    Draws belong to places in the epoch and not to images, so that an image that a sampler picks twice is
    augmented in two ways. A last batch of a single image, which batch norm could not normalise, joins the one
    before it; no image is dropped.
    """

    def __init__(
        self,
        data: Resident,
        samplers: Mapping[str, Sampler],
        *,
        views: tuple[str, ...],
        how: Augment,
        batch_size: int,
        seed: int,
        place: tuple[str | int, ...],
    ) -> None:
        for view in views:
            if view not in VIEWS:
                raise unknown("view", view, VIEWS, where="the method's views")
        self._data, self._views, self._how = data, views, how
        orders = {
            name: sampler(draws.numpy_generator(seed, "order", name, *place)) for name, sampler in samplers.items()
        }
        length = len(orders["main"])
        sizes = _batch_sizes(length, batch_size)
        self._streams: dict[str, _Stream] = {}
        for name, order in orders.items():
            cycled = order.repeat(-(-length // len(order)))[:length].to(data.labels.device)
            shape = (length, len(views), DRAWS)
            numbers = draws.uniform(shape, seed, "augment", name, *place).to(data.labels.device)
            self._streams[name] = _Stream(torch.split(cycled, sizes), torch.split(numbers, sizes))

    def __len__(self) -> int:
        return len(self._streams["main"].order)

    def batch(self, step: int) -> Batch:
        """The batch of a step, with those of further streams in ``streams``."""
        made = {
            name: self._data.batch(stream.order[step], stream.numbers[step], self._views, self._how)
            for name, stream in self._streams.items()
        }
        main = made.pop("main")
        main.streams = made
        return main


def _batch_sizes(length: int, batch_size: int) -> list[int]:
    sizes = [batch_size] * (length // batch_size)
    rest = length % batch_size
    if rest == 1 and sizes:
        sizes[-1] += 1
    elif rest:
        sizes.append(rest)
    return sizes
