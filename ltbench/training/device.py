"""The device that a run computes on."""

import os

import torch

from ltbench.errors import LtbenchError
from ltbench.training.memory import keep_freed_memory


def choose_device(name: str) -> torch.device:
    """The device of this name; "auto" is the GPU if there is one. On a CPU, tensors then reuse memory.

    Raises:
        LtbenchError: if there is no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise LtbenchError(f"unknown device '{name}'", where="--device", hint="use auto, cpu or cuda") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise LtbenchError(
            f"device '{name}' is not there",
            where="--device",
            hint="use --device cpu, or check the GPU's driver",
        )
    if device.type not in ("cpu", "cuda"):
        raise LtbenchError(f"device '{name}' is not supported", where="--device", hint="use auto, cpu or cuda")
    if device.type == "cuda" and device.index is not None and "LOCAL_RANK" not in os.environ:
        torch.cuda.set_device(device)  # what records CUDA graphs takes a stream of the current device
    if device.type == "cpu":
        keep_freed_memory()
    return device


def local_device(device: torch.device, processes: int) -> torch.device:
    """The GPU of this process, as torchrun numbers them; a CPU serves all processes.

    Args:
        device: what the run computes on.
        processes: number of processes of the run, on all machines.

    Raises:
        LtbenchError: if this machine has fewer GPUs than processes.
    """
    if processes == 1 or device.type != "cuda":
        return device
    index, count = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if index >= count:
        raise LtbenchError(
            f"this machine has {count} GPUs, too few for its processes",
            where="torchrun --nproc-per-node",
            hint=f"start at most {count} processes here",
        )
    torch.cuda.set_device(index)
    return torch.device("cuda", index)
