"""Batches of frozen features, in the place of batches of images."""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from ltbench import rng
from ltbench.config import Augment
from ltbench.data.augmentation.pipeline import draws_needed
from ltbench.data.loading.base import Loader, LocalSlice, unsharded
from ltbench.features.chunks import FeatureChunk, chunks_of, load_or_compute
from ltbench.features.encoder import Encoder
from ltbench.method import Batch
from ltbench.progress import ProgressListener, ProgressUpdate, silent

EVALUATION_BATCH = 1024
"""Features in an evaluation batch."""
ENCODED_TOGETHER = {"cpu": 16}
"""Images that are encoded at a time, by device: on a CPU few enough for its caches, 256 elsewhere."""
SAVED_TOGETHER = 512
"""Images whose features are saved at a time while they are computed; a multiple of those encoded together."""
PLAIN = Augment()
"""An image that is not augmented."""


class FeatureLoader(Loader):
    """The frozen features of the images of one part of a data set.

    They are computed when they are first asked for, and then kept in the cache, by what they depend on: the weights,
    the pixels, the augmentation. Of every augmentation an image has as many views as ``views``; an epoch takes one of
    them at random.

    Args:
        images: of the part.
        encoder: on the device of ``images``.
        key: gives the name in the cache of the features of an augmentation, or of none.
        folder: of the cache.
        views: augmented views of an image; 0: images are never augmented.
        listener: hears of the progress of computing.
    """

    def __init__(
        self,
        images: Loader,
        encoder: Encoder,
        *,
        key: Callable[[Augment], str],
        folder: Path,
        views: int,
        listener: ProgressListener = silent,
    ) -> None:
        labels = images.labels.cpu().numpy()
        shape = encoder.num_features, 1, 1
        super().__init__(labels, shape, (0.0,), (1.0,), images.device, evaluation_batch=EVALUATION_BATCH)
        self._images, self._encoder, self._key, self._folder = images, encoder, key, folder
        self._number, self._listener = views, listener
        self._known: dict[Augment, Tensor] = {}

    def normalised(self, images: Tensor) -> Tensor:
        """(B, D, 1, 1) features as they are; the network on them normalises."""
        return images

    def compute(self, how: Sequence[Augment]) -> None:
        """Have the features of these augmentations at hand, so that training does not wait for them."""
        for one in how:
            self._features(one)

    def eval_batches(self, batch_size: int | None = None, local_slice: LocalSlice = unsharded) -> Iterator[Batch]:
        """The features of all images once, in order, not augmented; or this process's slice of the batches."""
        plain = self._features(PLAIN)[0]
        for indices in self.in_order(batch_size, local_slice):
            index = indices.to(self.device)
            yield Batch((plain[index],), index, self.labels[index])

    def first(self) -> Tensor:
        """(1, D, 1, 1) the features of the first image."""
        return self._features(PLAIN)[0, :1]

    def augmented(
        self, order: Tensor, numbers: Tensor, sizes: list[int], views: Sequence[Augment]
    ) -> Iterator[tuple[Tensor, ...]]:
        """The views of one batch after the other: for every image one of those that were computed."""
        order, numbers = order.to(self.device), numbers.to(self.device)
        made = []
        for i, how in enumerate(views):
            kept = self._features(how)
            made.append(torch.split(kept[(numbers[:, i, 0] * len(kept)).long(), order], sizes))
        yield from zip(*made, strict=True)

    def _features(self, how: Augment) -> Tensor:
        """(views, N, D, 1, 1) float32 on the device: one view without augmentation."""
        how = how if self._number else PLAIN
        if how not in self._known:
            self._known[how] = self._stored(how).to(self.device)[..., None, None]
        return self._known[how]

    def _stored(self, how: Augment) -> Tensor:
        """(views, N, D) on the CPU."""
        count, views = len(self.labels), 1 if how == PLAIN else self._number
        chunks = chunks_of(views, count, SAVED_TOGETHER)
        kind = "features" if how == PLAIN else "features of augmented images"

        @lru_cache(maxsize=1)
        def numbers(view: int) -> Tensor:
            return rng.uniform((count, 1, max(1, draws_needed(how))), 0, "feature views", view)

        def compute(chunk: FeatureChunk) -> Tensor:
            done, found = chunk.view * count + chunk.images.start, [torch.empty(0, self.shape[0])]
            for images in self._images_of(how, numbers(chunk.view), chunk.images):
                found.append(self._encoder(images).cpu())
                done += len(images)
                # Without a fraction: features are no part of the training.
                self._listener(ProgressUpdate(f"{kind}, {done:,} of {views * count:,}", done, views * count))
            return torch.cat(found)

        return load_or_compute(self._folder / f"{self._key(how)}.npy", chunks, compute)

    def _images_of(self, how: Augment, numbers: Tensor, which: slice) -> Iterator[Tensor]:
        """Some images in order, normalised, as many at a time as are encoded together; augmented by these draws."""
        together = ENCODED_TOGETHER.get(self.device.type, 256)
        if how == PLAIN:
            batches = slice(which.start // together, -(-which.stop // together))
            yield from (batch.images for batch in self._images.eval_batches(together, lambda count: batches))
            return
        order = torch.arange(which.start, which.stop)
        sizes = [len(some) for some in torch.split(order, together)]
        for (pixels,) in self._images.augmented(order, numbers[which], sizes, [how]):
            yield self._images.normalised(pixels)
