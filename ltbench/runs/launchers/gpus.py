"""The GPUs of this machine, for one process each."""

import os

import torch

from ltbench.errors import LtbenchError


def visible_gpus() -> list[str]:
    """The devices that this process may use, as ``CUDA_VISIBLE_DEVICES`` names them: numbers, or ids of parts of one.

    Raises:
        LtbenchError: if there is none.
    """
    count = torch.cuda.device_count()
    if count == 0:
        raise LtbenchError("there is no GPU here", where="--launch gpus", hint="use --parallel for runs on a CPU")
    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return named[:count] if named else [str(number) for number in range(count)]
