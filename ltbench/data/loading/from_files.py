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
from ltbench.data.loading.base import Loader, LocalSlice, unsharded
from ltbench.data.loading.decode import read_rgb
from ltbench.data.loading.decode_gpu import read_all
from ltbench.method import Batch

MARGIN = 256 / 224
"""Shorter side of a scaled image over the side of the centre that is cut out of it, where there is no random crop."""
EVALUATION_BATCH = {"cpu": 32}
"""Images in an evaluation batch, by device: few enough for a CPU's memory, 256 elsewhere."""
AT_A_TIME = 8
"""Images that a thread decodes at a time."""
BATCHES_AHEAD = 2
"""Largest number of decoded batches that wait beside the one in use. Bounds the memory for any number of workers."""


def cores() -> int:
    """Number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cores_per_process() -> int:
    """Number of cores for each of the processes that torchrun has started on this machine."""
    return max(1, cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def single_threaded_pool(workers: int, name: str) -> ThreadPoolExecutor:
    """A thread pool whose threads run each torch operation on one thread."""
    torch.get_num_threads()  # fixes the caller's own number: a thread that has not computed yet would take over the 1
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

    A random resized crop is cut from the pixels of the file; the rest of a recipe's augmentation is done to batches of
    scaled images, as for images in memory. An image without a random crop is scaled until its shorter side is
    256/224 of the image size, and its centre is cut out. Scaling is bilinear and antialiased, torchvision's.

    Args:
        data: the files.
        image_size: side in pixels of what comes out.
        mean: channel means of pixels in [0, 1].
        std: channel standard deviations.
        device: where batches go.
        labelled: if not, every label is -1.
        workers: threads that decode; 0: none but the caller's; None: as many as there are cores, which the
            processes on one machine divide among themselves. Nothing that comes out depends on it.
        on_device: whether files are decoded, and images cropped and scaled, on the device; see `decode_gpu`.
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
        evaluation_batch = EVALUATION_BATCH.get(device.type, 256)
        super().__init__(
            data.labels,
            (3, image_size, image_size),
            mean,
            std,
            device,
            evaluation_batch=evaluation_batch,
            labelled=labelled,
        )
        self._files, self._on_device = data, on_device
        self._workers = cores_per_process() if workers is None else workers

    def normalised(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) float32 from uint8, channels last in memory.

        On a CPU by one thread: of several, each waits for the others by keeping a core busy, which decoding needs.
        """
        with _one_thread():
            return super().normalised(images)

    def eval_batches(self, batch_size: int | None = None, local_slice: LocalSlice = unsharded) -> Iterator[Batch]:
        """The centres of all images once, in order; or this process's slice of the batches."""
        batches = self.in_order(batch_size, local_slice)
        for indices, pixels in zip(batches, self._decoded(map(_not_augmented, batches)), strict=True):
            index = indices.to(self.device)
            yield Batch((self.normalised(pixels[0]),), index, self.labels[index])

    def first(self) -> Tensor:
        """(1, 3, H, W) the centre of the first image, normalised."""
        pixels, _ = self._begin(_not_augmented(torch.zeros(1, dtype=torch.int64)), _run_now)
        return self.normalised(pixels[0].to(self.device))

    def augmented(
        self, order: Tensor, numbers: Tensor, sizes: list[int], views: Sequence[Augment]
    ) -> Iterator[tuple[Tensor, ...]]:
        """The views of one batch after the other, while the files of the next ones are being decoded."""
        plans = [
            _BatchPlan(index, draws, views)
            for index, draws in zip(torch.split(order, sizes), torch.split(numbers, sizes), strict=True)
        ]
        for plan, pixels in zip(plans, self._decoded(iter(plans)), strict=True):
            yield tuple(pixels) if self._augments_in_workers else tuple(self._augment_rest(plan, pixels))

    @property
    def _augments_in_workers(self) -> bool:
        """Whether the threads that decode also do the rest of the augmentation, which a GPU does better."""
        return self.device.type == "cpu"

    def _decoded(self, plans: Iterator["_BatchPlan"]) -> Iterator[Tensor]:
        """(views, B, 3, H, W) uint8 on the device, one batch after the other."""
        if not self._workers:
            for plan in plans:
                yield self._finish(*self._begin(plan, _run_now))
            return
        pool = single_threaded_pool(self._workers, "ltbench decoding")
        waiting: deque[tuple[Tensor, list[Future[None]]]] = deque()
        try:
            for plan in plans:
                waiting.append(self._begin(plan, pool.submit))
                if len(waiting) > BATCHES_AHEAD:
                    yield self._finish(*waiting.popleft())
            while waiting:
                yield self._finish(*waiting.popleft())
        finally:  # also where training stops or fails on the way
            pool.shutdown(wait=False, cancel_futures=True)

    def _begin(self, plan: "_BatchPlan", start: Callable[..., Future[None]]) -> tuple[Tensor, list[Future[None]]]:
        """An empty tensor for the pixels of a batch, and the tasks that fill it."""
        shape = (len(plan.views), len(plan.order), *self.shape)
        if self._on_device:
            pixels = torch.empty(shape, dtype=torch.uint8, device=self.device)
        else:
            pixels = torch.empty(shape, dtype=torch.uint8, pin_memory=self.device.type == "cuda")
        return pixels, [start(self._fill, plan, pixels, i) for i in range(0, len(plan.order), AT_A_TIME)]

    def _finish(self, pixels: Tensor, tasks: list[Future[None]]) -> Tensor:
        for task in tasks:
            task.result()
        return pixels.to(self.device, non_blocking=True)

    def _fill(self, plan: "_BatchPlan", pixels: Tensor, begin: int) -> None:
        """Decode some images of a batch, each once for all of its views."""
        now, size = slice(begin, begin + AT_A_TIME), self.shape[1]
        own, target = _BatchPlan(plan.order[now], plan.numbers[now], plan.views), pixels[:, now]
        files = [self._files.root / self._files.names[index] for index in own.order.tolist()]
        for row, image in enumerate(read_all(files, self.device) if self._on_device else map(read_rgb, files)):
            for view, how in enumerate(own.views):
                draws = own.numbers[row, view, CROP].tolist()
                target[view, row] = _crop(image, size, how.crop, draws) if how.crop else centre(image, size)
        if self._augments_in_workers:
            for view, images in zip(target, self._augment_rest(own, target), strict=True):
                view.copy_(images)

    def _augment_rest(self, plan: "_BatchPlan", pixels: Tensor) -> Iterator[Tensor]:
        """Each view with the augmentation that follows the random resized crop."""
        numbers = plan.numbers.to(pixels.device, non_blocking=True)
        for view, how in enumerate(plan.views):
            rest = how.model_copy(update={"crop": None})
            yield augment(pixels[view], rest, numbers[:, view], self._mean_colour)


@dataclass(frozen=True)
class _BatchPlan:
    """A batch to be made."""

    order: Tensor
    """(B,) indices of the images."""
    numbers: Tensor
    """(B, views, `draws_needed`) uniform draws."""
    views: Sequence[Augment]


def _not_augmented(order: Tensor) -> _BatchPlan:
    return _BatchPlan(order, torch.empty(len(order), 1, 0), [Augment()])


def _crop(image: Tensor, size: int, area_range: tuple[float, float], draws: Sequence[float]) -> Tensor:
    height, width = image.shape[1:]
    box = crop_box((height, width), area_range, draws)
    made: Tensor = transforms.resized_crop(image, *box, [size, size], antialias=True)
    return made


def centre(image: Tensor, size: int) -> Tensor:
    """The centre of an image, which is evaluated: (3, H, W) to (3, size, size), uint8, scaled with the margin."""
    scaled = transforms.resize(image, [round(MARGIN * size)], antialias=True)
    made: Tensor = transforms.center_crop(scaled, [size, size])
    return made


def _run_now(work: Callable[..., None], *arguments: object) -> Future[None]:
    work(*arguments)
    done: Future[None] = Future()
    done.set_result(None)
    return done
