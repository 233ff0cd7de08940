"""Mixing the images of a batch and their labels: mixup, CutMix, Remix, CMO."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from ltbench.method.method_config import Mixing

CMO_PERIOD = (0.02, 0.985)
"""The part of a run in which CMO pastes, as fractions: from the fifth of 200 epochs on, and not in the last three."""
REMIX_LIMIT = 0.5
"""Remix drops a label only where its image has less weight than this (tau in the paper)."""


class Mixable(Protocol):
    """The fields of a batch (``ltbench.method.Batch``, a data class) that mixing reads."""

    __dataclass_fields__: ClassVar[dict[str, Any]]
    views: tuple[Tensor, ...]
    labels: Tensor
    mixed_labels: Tensor | None
    weight: Tensor | None

    @property
    def streams(self) -> "Mapping[str, Mixable]":
        """Batches of further samplers."""


AnyBatch = TypeVar("AnyBatch", bound=Mixable)


def mixed(
    batch: AnyBatch, how: Mixing, counts: Tensor, run_fraction: float, generator: Callable[[str], np.random.Generator]
) -> AnyBatch:
    """Mix a batch as the settings say, in at most one way.

    Args:
        batch: normalised images and their labels; a stream "tail" for CMO.
        how: the settings. CMO is drawn first; of mixup and CutMix, each has half of the other batches.
        counts: (C,) number of training images of each class.
        run_fraction: fraction of the whole training that is done.
        generator: random generator of this step, by purpose.
    """
    if how.cmo and CMO_PERIOD[0] <= run_fraction < CMO_PERIOD[1]:
        rng = generator("cmo")
        if rng.uniform() < how.cmo:
            return paste(batch, batch.streams["tail"], 1.0, rng)
    both = how.mixup and how.cutmix
    if how.cutmix and (not both or generator("mixup or cutmix").uniform() < 0.5):
        blend = cutmix(batch, how.cutmix, generator("cutmix"))
    elif how.mixup:
        blend = mixup(batch, how.mixup, generator("mixup"))
    else:
        return batch
    return blend if how.remix is None else remix(blend, counts, how.remix)


def mixup(batch: AnyBatch, alpha: float, generator: np.random.Generator) -> AnyBatch:
    """Blend every image with another of its batch: lambda x + (1 - lambda) x[permutation].

    One lambda ~ Beta(alpha, alpha) and one permutation a batch, for all views alike, as the BalPoE and MiSLAS
    codes have it. Zhang et al., "mixup: Beyond Empirical Risk Minimization" (ICLR 2018), equation 2.

    Args:
        batch: normalised images and their labels.
        alpha: > 0.
        generator: random generator of this step.

    Returns:
        The mixed batch, with both labels and lambda as the weight of the first.
    """
    device = batch.labels.device
    weight = torch.tensor(generator.beta(alpha, alpha), dtype=torch.float32, device=device)
    order = torch.from_numpy(generator.permutation(len(batch.labels))).to(device, non_blocking=True)
    views = tuple(torch.lerp(view[order], view, weight.to(view.dtype)) for view in batch.views)
    return replace(batch, views=views, mixed_labels=batch.labels[order], weight=weight)


def cutmix(batch: AnyBatch, alpha: float, generator: np.random.Generator) -> AnyBatch:
    """Paste a box of another image of the batch into every image.

    Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features" (ICCV 2019),
    algorithm 1. One box and one permutation a batch.

    Args:
        batch: normalised images and their labels.
        alpha: > 0; an image keeps Beta(alpha, alpha) of its area, and more where the border cuts the box off.
        generator: random generator of this step.
    """
    order = torch.from_numpy(generator.permutation(len(batch.labels))).to(batch.labels.device)
    other = replace(batch, views=tuple(view[order] for view in batch.views), labels=batch.labels[order])
    return paste(batch, other, alpha, generator)


def paste(batch: AnyBatch, other: Mixable, alpha: float, generator: np.random.Generator) -> AnyBatch:
    """Paste one box of other images into the images of a batch; labels are weighted by area.

    With images of tail classes this is CMO: Park et al., "The Majority Can Help The Minority: Context-rich Minority
    Oversampling for Long-tailed Classification" (CVPR 2022), equations 2 and 3.

    Args:
        batch: normalised images and their labels.
        other: as many images of the same size, with their labels.
        alpha: parameter of Beta(alpha, alpha), the area that an image keeps.
        generator: random generator of this step.
    """
    height, width = batch.views[0].shape[2:]
    side = math.sqrt(1 - generator.beta(alpha, alpha))
    top, bottom = _span(height, side, generator)
    left, right = _span(width, side, generator)
    views = tuple(view.clone() for view in batch.views)
    for view, source in zip(views, other.views, strict=True):
        view[:, :, top:bottom, left:right] = source[:, :, top:bottom, left:right]
    kept = 1 - (bottom - top) * (right - left) / (height * width)
    weight = torch.tensor(kept, dtype=torch.float32, device=batch.labels.device)
    return replace(batch, views=views, mixed_labels=other.labels, weight=weight)


def remix(batch: AnyBatch, counts: Tensor, kappa: float) -> AnyBatch:
    """Give mixed images the label of the rarer class alone, if it is rare enough and its weight large enough.

    Chou et al., "Remix: Rebalanced Mixup" (ECCV Workshops 2020), equation 5.

    Args:
        batch: mixed images with both labels.
        counts: (C,) number of training images of each class.
        kappa: ratio of the class counts from which on the rarer class gets the label alone.
    """
    assert batch.mixed_labels is not None
    assert batch.weight is not None
    counts = counts.to(batch.labels.device)
    ratio = counts[batch.labels] / counts[batch.mixed_labels]
    weight = batch.weight.expand(len(ratio))
    weight = torch.where((ratio >= kappa) & (weight < REMIX_LIMIT), 0.0, weight)
    weight = torch.where((ratio <= 1 / kappa) & (1 - weight < REMIX_LIMIT), 1.0, weight)
    return replace(batch, weight=weight)


def _span(length: int, side: float, generator: np.random.Generator) -> tuple[int, int]:
    """First pixel of a box along one axis, and the one after its last: centre uniform, cut off at the borders."""
    size, centre = int(length * side), int(generator.integers(length))
    return max(0, centre - size // 2), min(length, centre + size // 2)
