"""Batches from image files that are decoded when they are needed, in threads, a few batches ahead."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from ltbench.config import Augment
from ltbench.data.augment import CROP, augment
from ltbench.data.decoding import read_rgb
from ltbench.data.loading import Loader
from ltbench.data.policies import crop_box
from ltbench.data.source import ImageFiles
from ltbench.method import Batch

MARGIN = 256 / 224
"""Of an image that is not cropped at random: its shorter side before the centre is cut out, over what is cut out."""
EVALUATION_BATCH = {"cpu": 32}
"""Images at a time, by device: few enough for a CPU's memory, 256 elsewhere."""
BATCHES_AHEAD = 2
"""Decoded batches that wait at most, beside the one in use: what bounds the memory, whatever the number of workers."""


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def share_of_cores() -> int:
    """Cores for each of the processes that torchrun has started on this machine."""
    return max(1, cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


class Streamed(Loader):
    """Image files, decoded anew each time.

    A random resized crop is cut from the original pixels; whatever else a recipe varies is done to batches of
    scaled images, as for images in memory. An image without a random crop is scaled until its shorter side is
    256/224 of the image size, and its centre is cut out. Scaling is bilinear and antialiased, torchvision's.

    Args:
        data: the files.
        image_size: side in pixels of what comes out.
        mean: of each channel, pixels in [0, 1].
        std: likewise.
        device: where batches go.
        labelled: if not, every label is -1.
        workers: threads that decode; 0: none but the caller's; None: as many as there are cores. Nothing that
            comes out depends on it.
    """

    def __init__(
        self,
        data: ImageFiles,
        image_size: int,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        device: torch.device,
        *,
        labelled: bool = True,
        workers: int | None = None,
    ) -> None:
        super().__init__(data.labels, (3, image_size, image_size), mean, std, device, labelled=labelled)
        self._files = data
        self._workers = share_of_cores() if workers is None else workers

    def plain(self, batch_size: int | None = None) -> Iterator[Batch]:
        """All images once, in order, their centres."""
        order = torch.arange(len(self.labels))
        parts = torch.split(order, batch_size or EVALUATION_BATCH.get(self.device.type, 256))
        batches = ([_Job(place, (None,)) for place in part.tolist()] for part in parts)
        for part, pixels in zip(parts, self._decoded(batches), strict=True):
            index = part.to(self.device)
            yield Batch((self.normalised(pixels[0]),), index, self.labels[index])

    def first(self) -> Tensor:
        """(1, 3, H, W) the centre of the first image, normalised."""
        pixels, _ = self._begin([_Job(0, (None,))], _at_once)
        return self.normalised(pixels[0].to(self.device))

    def varied(
        self, order: Tensor, numbers: Tensor, sizes: list[int], views: Sequence[Augment]
    ) -> Iterator[tuple[Tensor, ...]]:
        """The views of one batch after the other, while the files of the next ones are being decoded."""
        rest = [how.model_copy(update={"crop": None}) for how in views]
        parts = list(zip(torch.split(order, sizes), torch.split(numbers, sizes), strict=True))
        batches = (_jobs(part, draws, views) for part, draws in parts)
        for (_, draws), pixels in zip(parts, self._decoded(batches), strict=True):
            draws = draws.to(self.device, non_blocking=True)
            yield tuple(augment(pixels[i], how, draws[:, i], self._mean_colour) for i, how in enumerate(rest))

    def _decoded(self, batches: Iterator[Sequence["_Job"]]) -> Iterator[Tensor]:
        """(views, B, 3, H, W) uint8 on the device, one batch after the other."""
        if not self._workers:
            for batch in batches:
                yield self._finish(*self._begin(batch, _at_once))
            return
        pool = ThreadPoolExecutor(self._workers, thread_name_prefix="ltbench decoding")
        waiting: deque[tuple[Tensor, list[Future[None]]]] = deque()
        try:
            for batch in batches:
                waiting.append(self._begin(batch, pool.submit))
                if len(waiting) > BATCHES_AHEAD:
                    yield self._finish(*waiting.popleft())
            while waiting:
                yield self._finish(*waiting.popleft())
        finally:  # also where training stops or fails on the way
            pool.shutdown(wait=False, cancel_futures=True)

    def _begin(self, batch: Sequence["_Job"], start: Callable[..., Future[None]]) -> tuple[Tensor, list[Future[None]]]:
        """Room for the pixels of a batch, and the work that fills it."""
        room = (len(batch[0].crops), len(batch), *self.shape)
        pixels = torch.empty(room, dtype=torch.uint8, pin_memory=self.device.type == "cuda")
        return pixels, [start(self._decode, job, pixels[:, place]) for place, job in enumerate(batch)]

    def _finish(self, pixels: Tensor, work: list[Future[None]]) -> Tensor:
        for one in work:
            one.result()
        return pixels.to(self.device, non_blocking=True)

    def _decode(self, job: "_Job", room: Tensor) -> None:
        """Fill (views, 3, H, W) from a file."""
        image, size = read_rgb(self._files.root / self._files.names[job.index]), self.shape[1]
        for view, crop in zip(room, job.crops, strict=True):
            view.copy_(_centre(image, size) if crop is None else _crop(image, size, crop))


@dataclass(frozen=True)
class _Crop:
    share: tuple[float, float]
    draws: Sequence[float]


@dataclass(frozen=True)
class _Job:
    """An image to be decoded once for all of its views."""

    index: int
    crops: tuple[_Crop | None, ...]
    """Of each view; None: the centre."""


def _jobs(order: Tensor, numbers: Tensor, views: Sequence[Augment]) -> list[_Job]:
    draws = numbers[:, :, CROP].tolist()
    return [
        _Job(index, tuple(_Crop(how.crop, own) if how.crop else None for how, own in zip(views, each, strict=True)))
        for index, each in zip(order.tolist(), draws, strict=True)
    ]


def _crop(image: Tensor, size: int, crop: _Crop) -> Tensor:
    height, width = image.shape[1:]
    top, left, high, wide = crop_box((height, width), crop.share, crop.draws)
    made: Tensor = transforms.resized_crop(image, top, left, high, wide, [size, size], antialias=True)
    return made


def _centre(image: Tensor, size: int) -> Tensor:
    scaled = transforms.resize(image, [round(MARGIN * size)], antialias=True)
    made: Tensor = transforms.center_crop(scaled, [size, size])
    return made


def _at_once(work: Callable[..., None], *what: object) -> Future[None]:
    work(*what)
    done: Future[None] = Future()
    done.set_result(None)
    return done
