"""Batches of frozen features, in the place of batches of images."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ltbench import rng
from ltbench.config import Augment
from ltbench.data.augmentation.pipeline import draws_needed
from ltbench.data.loading.base import Loader, LocalSlice, unsharded
from ltbench.features.encoder import Encoder
from ltbench.files.atomic import write_bytes
from ltbench.files.lock import exclusive
from ltbench.method import Batch
from ltbench.progress import ProgressListener, ProgressUpdate, silent

EVALUATION_BATCH = 1024
"""Features in an evaluation batch."""
ENCODED_TOGETHER = {"cpu": 16}
"""Images that are encoded at a time, by device: on a CPU few enough for its caches, 256 elsewhere."""
PLAIN = Augment()
"""An image that is not augmented."""


class FeatureLoader(Loader):
    """The frozen features of the images of one part of a data set.

    They are computed when they are first asked for and then kept in the cache, by what they depend on: the weights, the
    pixels, the augmentation. Of every augmentation an image has as many views as ``views``; an epoch takes one of them
    at random.

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
        file = self._folder / f"{self._key(how)}.npy"
        if not file.exists():
            with exclusive(file.with_suffix(".lock"), "computing the features of these images"):
                if not file.exists():  # nobody has made it while this process has waited
                    computed = self._computed(how).numpy()
                    write_bytes(file, lambda stream: np.save(stream, computed, allow_pickle=False))
        kept: Tensor = torch.from_numpy(np.load(file, allow_pickle=False))
        return kept

    def _computed(self, how: Augment) -> Tensor:
        """(views, N, D) on the CPU."""
        count, views = len(self.labels), 1 if how == PLAIN else self._number
        found = torch.empty(views, count, self.shape[0])
        together = ENCODED_TOGETHER.get(self.device.type, 256)
        done = 0
        for view in range(views):
            for images in self._view(how, view, together):
                now = slice(done - view * count, done - view * count + len(images))
                found[view, now] = self._encoder(images).cpu()
                done += len(images)
                kind = "features" if how == PLAIN else "features of augmented images"
                message = f"{kind}, {done:,} of {views * count:,}"
                self._listener(ProgressUpdate(message, done, views * count))  # in images: no part of the training
        return found

    def _view(self, how: Augment, view: int, together: int) -> Iterator[Tensor]:
        """All images in order, normalised; augmented by draws that depend on nothing but the view."""
        if how == PLAIN:
            yield from (batch.images for batch in self._images.eval_batches(together))
            return
        count = len(self.labels)
        numbers = rng.uniform((count, 1, max(1, draws_needed(how))), 0, "feature views", view)
        sizes = [len(some) for some in torch.split(torch.arange(count), together)]
        for (pixels,) in self._images.augmented(torch.arange(count), numbers, sizes, [how]):
            yield self._images.normalised(pixels)
