"""Batches of decoded images, all of which are kept on the device."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ltbench.config import Augment
from ltbench.data.augmentation.pipeline import augment
from ltbench.data.images import LabelledImages
from ltbench.data.loading.base import Loader, LocalSlice, unsharded
from ltbench.method import Batch

EVALUATION_BATCH = {"cpu": 128}
"""Images in an evaluation batch, by device: on a CPU few enough for its caches, 512 elsewhere."""
PIXELS_AT_A_TIME = {"cuda": 2**23}
"""Pixels that are augmented at a time, by device: a GPU likes much work at once, a CPU's caches one batch."""


class InMemoryLoader(Loader):
    """Decoded images, all of them on the device as uint8.

    Args:
        data: the images.
        mean: channel means of pixels in [0, 1].
        std: channel standard deviations.
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
        evaluation_batch = EVALUATION_BATCH.get(device.type, 512)
        super().__init__(
            data.labels,
            (channels, height, width),
            mean,
            std,
            device,
            evaluation_batch=evaluation_batch,
            labelled=labelled,
        )
        self.images = torch.tensor(data.images, device=device)

    def eval_batches(self, batch_size: int | None = None, local_slice: LocalSlice = unsharded) -> Iterator[Batch]:
        """All images once, in order, not augmented; or this process's slice of the batches."""
        for indices in self.in_order(batch_size, local_slice):
            index = indices.to(self.device)
            yield Batch((self.normalised(self.images[index]),), index, self.labels[index])

    def first(self) -> Tensor:
        """(1, channels, H, W) the first image, normalised."""
        return self.normalised(self.images[:1])

    def augmented(
        self, order: Tensor, numbers: Tensor, sizes: list[int], views: Sequence[Augment]
    ) -> Iterator[tuple[Tensor, ...]]:
        """The views of one batch after the other; those of several small batches are made at once."""
        order, numbers = order.to(self.device), numbers.to(self.device)
        together = max(1, PIXELS_AT_A_TIME.get(self.device.type, 0) // max(1, sizes[0] * self.shape[1] * self.shape[2]))
        begin = 0
        for some in (sizes[i : i + together] for i in range(0, len(sizes), together)):
            now = slice(begin, begin := begin + sum(some))
            images = self.images[order[now]]
            made = [augment(images, how, numbers[now, i], self._mean_colour) for i, how in enumerate(views)]
            yield from zip(*(torch.split(view, some) for view in made), strict=True)
