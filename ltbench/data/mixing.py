"""Mixing the images of a batch."""

from dataclasses import replace
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor


class Mixable(Protocol):
    """What mixing needs of a batch (``ltbench.method.Batch``), which is a data class."""

    __dataclass_fields__: ClassVar[dict[str, Any]]
    views: tuple[Tensor, ...]
    labels: Tensor


AnyBatch = TypeVar("AnyBatch", bound=Mixable)


def mixup(batch: AnyBatch, alpha: float, generator: np.random.Generator) -> AnyBatch:
    """Blend every image with another of its batch: lambda x + (1 - lambda) x[permutation].

    One lambda ~ Beta(alpha, alpha) and one permutation a batch, for all views alike, as the BalPoE and MiSLAS
    codes have it. Zhang et al., "mixup: Beyond Empirical Risk Minimization" (ICLR 2018), equation 2.

    Args:
        batch: normalised images and their labels.
        alpha: > 0.
        generator: of this step.

    Returns:
        The mixed batch, with both labels and lambda as the weight of the first.
    """
    device = batch.labels.device
    weight = torch.tensor(generator.beta(alpha, alpha), dtype=torch.float32, device=device)
    order = torch.from_numpy(generator.permutation(len(batch.labels))).to(device, non_blocking=True)
    views = tuple(torch.lerp(view[order], view, weight.to(view.dtype)) for view in batch.views)
    return replace(batch, views=views, mixed_labels=batch.labels[order], weight=weight)
