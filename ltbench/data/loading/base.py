"""What a loader is: the images of one part of a data set, handed out in batches on the device."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ltbench.config import Augment
from ltbench.method import Batch

LocalSlice = Callable[[int], slice]
"""The slice of so many things that is this process's."""


def unsharded(count: int) -> slice:
    """The local slice of a single process: everything."""
    return slice(count)


class Loader(ABC):
    """The images of one part of a data set, handed out on the device.

    Args:
        labels: (N,) int64.
        shape: of an image: channels, height, width.
        mean: channel means of pixels in [0, 1].
        std: channel standard deviations.
        device: where batches go.
        evaluation_batch: default batch size of `eval_batches`.
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

    def in_order(self, batch_size: int | None = None, local_slice: LocalSlice = unsharded) -> tuple[Tensor, ...]:
        """Indices of the images of each batch of `eval_batches`, on the CPU."""
        batches = torch.split(torch.arange(len(self.labels)), batch_size or self._evaluation_batch)
        return batches[local_slice(len(batches))]

    @property
    def plain(self) -> None:
        """Refuse the name of older versions."""
        raise AttributeError("plain() is called eval_batches()")

    @abstractmethod
    def eval_batches(self, batch_size: int | None = None, local_slice: LocalSlice = unsharded) -> Iterator[Batch]:
        """All images once, in order, not augmented; each of several processes makes its slice of the batches."""

    @abstractmethod
    def first(self) -> Tensor:
        """(1, channels, H, W) the first image of `eval_batches`, normalised."""

    @abstractmethod
    def augmented(
        self, order: Tensor, numbers: Tensor, sizes: list[int], views: Sequence[Augment]
    ) -> Iterator[tuple[Tensor, ...]]:
        """The views of one batch after the other, uint8, each image augmented by draws of its own.

        Args:
            order: (L,) indices of the images of all batches, on the CPU.
            numbers: (L, views, `draws_needed`) uniform draws; on the CPU.
            sizes: batch sizes, which may be 0 and add up to L.
            views: the augmentation of each view.
        """
