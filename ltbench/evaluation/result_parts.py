"""The parts of a result that describe a run: its data, its method's paper, what it cost."""

import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ltbench.data.dataset import Dataset
from ltbench.data.images import ImageFiles
from ltbench.method import Method
from ltbench.models.experts import ExpertNetwork
from ltbench.models.trunk_and_branch import Subgraph
from ltbench.results.records import DataRecord, ExpertsRecord


def shot_groups(data: Dataset) -> dict[str, list[int]]:
    """Class labels of each shot group, by all of the training images, validation part included."""
    return data.shots.groups(data.counts)


def data_record(data: Dataset) -> DataRecord:
    """The record of the data that a run is trained and tested on."""
    held = data.validation
    unseen = np.bincount(held.labels, minlength=len(data.classes)) == 0 if held is not None else []
    return DataRecord(
        fingerprints=data.fingerprints,
        classes=list(data.classes),
        counts=data.counts.tolist(),
        trained_on=data.train_counts.tolist(),
        shots={"many": data.shots.many, "few": data.shots.few},
        groups=shot_groups(data),
        without_validation=np.flatnonzero(unseen).tolist(),
        mean=data.mean,
        std=data.std,
        streamed=isinstance(data.test, ImageFiles),
    )


def experts_record(network: ExpertNetwork) -> ExpertsRecord | None:
    """The record of how several experts share the backbone; None for one network."""
    if len(network.branches) == 1:
        return None
    shared, own = (
        one.modules_with_parameters if isinstance(one, Subgraph) else [] for one in (network.trunk, network.branches[0])
    )
    return ExpertsRecord(count=len(network.branches), shared=shared, own=own)


def count_parameters(network: nn.Module) -> int:
    """Number of numbers that are trained, through all experts."""
    return sum(weight.numel() for weight in network.parameters())


@torch.no_grad()
def multiply_adds(method: Method, shape: tuple[int, int, int]) -> int:
    """Multiply-adds of the convolutions and matrix products for one image, through all experts."""
    method.eval()
    return multiply_adds_of(method.experts, shape, method.log_prior.device)


@torch.no_grad()
def multiply_adds_of(network: Callable[[Tensor], Tensor], shape: tuple[int, int, int], device: torch.device) -> int:
    """Multiply-adds of a network in evaluation mode for one image.

    Args:
        network: from images.
        shape: of an image.
        device: where the network is.
    """
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, *shape, device=device))
    return int(counter.get_total_flops() // 2)


def reset_peak_memory(device: torch.device) -> None:
    """Let ``peak_memory`` count from now on, where the system allows it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with suppress(OSError):  # Linux, see proc(5)
            Path("/proc/self/clear_refs").write_text("5")


def peak_memory(device: torch.device) -> int | None:
    """Bytes: of the device in this run, or of the process so far; None where the system does not tell."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    if sys.platform == "win32":
        return None  # has no getrusage
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
