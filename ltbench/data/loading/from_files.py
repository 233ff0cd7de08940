"""Batches from image files that are decoded when they are needed, in threads, a few batches ahead."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from ltbench.config import Augment
from ltbench.data.augmentation.pipeline import CROP, augment
from ltbench.data.augmentation.random_crop import crop_box
from ltbench.data.images import ImageFiles
from ltbench.data.loading.base import Loader, Share, everything
from ltbench.data.loading.decode import read_rgb
from ltbench.data.loading.decode_gpu import read_all
from ltbench.method import Batch

MARGIN = 256 / 224
"""Of an image that is not cropped at random: its shorter side before the centre is cut out, over what is cut out."""
EVALUATION_BATCH = {"cpu": 32}
"""Images at a time, by device: few enough for a CPU's memory, 256 elsewhere."""
AT_A_TIME = 8
"""Images that a worker makes at a time."""
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


def single_threads(workers: int, name: str) -> ThreadPoolExecutor:
    """Threads, one a core perhaps, that do not start threads of their own for each of torch's operations."""
    torch.get_num_threads()  # the caller's own number: a thread that has not computed yet would take over that of these
    return ThreadPoolExecutor(workers, name, torch.set_num_threads, (1,))


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute with one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class FileLoader(Loader):
    """Image files, decoded anew each time.

    A random resized crop is cut from the pixels of the file; whatever else a recipe varies is done to batches of
    scaled images, as for images in memory. An image without a random crop is scaled until its shorter side is
    256/224 of the image size, and its centre is cut out. Scaling is bilinear and antialiased, torchvision's.

    Args:
        data: the files.
        image_size: side in pixels of what comes out.
        mean: of each channel, pixels in [0, 1].
        std: likewise.
        device: where batches go.
        labelled: if not, every label is -1.
        workers: threads that decode; 0: none but the caller's; None: as many as there are cores, which the
            processes on one machine share out. Nothing that comes out depends on it.
        on_device: whether files are decoded, and images cropped and scaled, on the device; see `gpu_decoding`.
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
        on_device: bool = False,
    ) -> None:
        at_once = EVALUATION_BATCH.get(device.type, 256)
        super().__init__(
            data.labels, (3, image_size, image_size), mean, std, device, evaluation_batch=at_once, labelled=labelled
        )
        self._files, self._on_device = data, on_device
        self._workers = share_of_cores() if workers is None else workers

    def normalised(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) float32 from uint8, channels last in memory.

        On a CPU by one thread: of several, each waits for the others by keeping a core busy, which decoding needs.
        """
        with _one_thread():
            return super().normalised(images)

    def eval_batches(self, batch_size: int | None = None, share: Share = everything) -> Iterator[Batch]:
        """All images once, in order, their centres; or this process's share of the batches."""
        parts = self.in_order(batch_size, share)
        for part, pixels in zip(parts, self._decoded(map(_plain, parts)), strict=True):
            index = part.to(self.device)
            yield Batch((self.normalised(pixels[0]),), index, self.labels[index])

    def first(self) -> Tensor:
        """(1, 3, H, W) the centre of the first image, normalised."""
        pixels, _ = self._begin(_plain(torch.zeros(1, dtype=torch.int64)), _at_once)
        return self.normalised(pixels[0].to(self.device))

    def augmented(
        self, order: Tensor, numbers: Tensor, sizes: list[int], views: Sequence[Augment]
    ) -> Iterator[tuple[Tensor, ...]]:
        """The views of one batch after the other, while the files of the next ones are being decoded."""
        parts = [
            _Part(index, draws, views)
            for index, draws in zip(torch.split(order, sizes), torch.split(numbers, sizes), strict=True)
        ]
        for part, pixels in zip(parts, self._decoded(iter(parts)), strict=True):
            yield tuple(pixels) if self._varies_early else tuple(self._vary(part, pixels))

    @property
    def _varies_early(self) -> bool:
        """Whether the threads that decode do the rest of the augmentation too, which a GPU does better."""
        return self.device.type == "cpu"

    def _decoded(self, parts: Iterator["_Part"]) -> Iterator[Tensor]:
        """(views, B, 3, H, W) uint8 on the device, one batch after the other."""
        if not self._workers:
            for part in parts:
                yield self._finish(*self._begin(part, _at_once))
            return
        pool = single_threads(self._workers, "ltbench decoding")
        waiting: deque[tuple[Tensor, list[Future[None]]]] = deque()
        try:
            for part in parts:
                waiting.append(self._begin(part, pool.submit))
                if len(waiting) > BATCHES_AHEAD:
                    yield self._finish(*waiting.popleft())
            while waiting:
                yield self._finish(*waiting.popleft())
        finally:  # also where training stops or fails on the way
            pool.shutdown(wait=False, cancel_futures=True)

    def _begin(self, part: "_Part", start: Callable[..., Future[None]]) -> tuple[Tensor, list[Future[None]]]:
        """Room for the pixels of a batch, and the work that fills it."""
        room = (len(part.views), len(part.order), *self.shape)
        if self._on_device:
            pixels = torch.empty(room, dtype=torch.uint8, device=self.device)
        else:
            pixels = torch.empty(room, dtype=torch.uint8, pin_memory=self.device.type == "cuda")
        return pixels, [start(self._fill, part, pixels, i) for i in range(0, len(part.order), AT_A_TIME)]

    def _finish(self, pixels: Tensor, work: list[Future[None]]) -> Tensor:
        for one in work:
            one.result()
        return pixels.to(self.device, non_blocking=True)

    def _fill(self, part: "_Part", pixels: Tensor, begin: int) -> None:
        """Decode some images of a batch, each once for all of its views."""
        now, size = slice(begin, begin + AT_A_TIME), self.shape[1]
        own, room = _Part(part.order[now], part.numbers[now], part.views), pixels[:, now]
        files = [self._files.root / self._files.names[index] for index in own.order.tolist()]
        for place, image in enumerate(read_all(files, self.device) if self._on_device else map(read_rgb, files)):
            for view, how in enumerate(own.views):
                draws = own.numbers[place, view, CROP].tolist()
                room[view, place] = _crop(image, size, how.crop, draws) if how.crop else centre(image, size)
        if self._varies_early:
            for view, images in zip(room, self._vary(own, room), strict=True):
                view.copy_(images)

    def _vary(self, part: "_Part", pixels: Tensor) -> Iterator[Tensor]:
        """What is left to do for each view once its crops are made."""
        numbers = part.numbers.to(pixels.device, non_blocking=True)
        for view, how in enumerate(part.views):
            rest = how.model_copy(update={"crop": None})
            yield augment(pixels[view], rest, numbers[:, view], self._mean_colour)


@dataclass(frozen=True)
class _Part:
    """A batch to be made."""

    order: Tensor
    """(B,) which images."""
    numbers: Tensor
    """(B, views, `draws_needed`) uniform draws."""
    views: Sequence[Augment]


def _plain(order: Tensor) -> _Part:
    return _Part(order, torch.empty(len(order), 1, 0), [Augment()])


def _crop(image: Tensor, size: int, share: tuple[float, float], draws: Sequence[float]) -> Tensor:
    height, width = image.shape[1:]
    box = crop_box((height, width), share, draws)
    made: Tensor = transforms.resized_crop(image, *box, [size, size], antialias=True)
    return made


def centre(image: Tensor, size: int) -> Tensor:
    """What is evaluated of an image: (3, H, W) to (3, size, size), uint8, scaled with the margin and cut out."""
    scaled = transforms.resize(image, [round(MARGIN * size)], antialias=True)
    made: Tensor = transforms.center_crop(scaled, [size, size])
    return made


def _at_once(work: Callable[..., None], *what: object) -> Future[None]:
    work(*what)
    done: Future[None] = Future()
    done.set_result(None)
    return done
