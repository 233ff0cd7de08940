"""State dictionaries from files of others, read without executing anything that is in them."""

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from ltbench.errors import LtbenchError

_ENTRY = "state_dict"
"""Where training codes keep the weights in a checkpoint that has more in it."""


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a file that ``torch.save`` or safetensors has written, on the CPU.

    Args:
        path: ends in .safetensors, or else holds a state dictionary or a dictionary with one as "state_dict".

    Raises:
        LtbenchError: if the file is missing or damaged, has no state dictionary, or has objects in it that only their
            own code can read.
    """
    if not path.is_file():
        raise LtbenchError("the file is not there", where=path.absolute(), hint="give the file with the weights")
    try:
        stored = load_file(path) if path.suffix == ".safetensors" else _unpickled(path)
    except LtbenchError:
        raise
    except Exception as error:  # torch raises a dozen kinds for a damaged file
        raise LtbenchError(
            f"the file is damaged, or not written by torch.save or safetensors ({type(error).__name__})",
            where=path,
            hint="compare its size with that of the original",
        ) from None
    state = stored.get(_ENTRY, stored) if isinstance(stored, Mapping) else stored
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        mapping = isinstance(stored, Mapping)
        kind = f"has the entries {', '.join(map(str, stored))}" if mapping else f"holds a {type(stored).__name__}"
        raise LtbenchError(
            f"no state dictionary in the file: it {kind}",
            where=path,
            hint=f"save the network's state_dict() by itself, or in a dictionary as '{_ENTRY}'",
        )
    for name, value in state.items():
        whole = value.layout == torch.strided and not (value.is_quantized or value.is_meta or value.is_complex())
        if not whole or (value.dtype.itemsize == 1 and value.dtype != torch.bool):  # float8 has a scale elsewhere
            kind = "a tensor without content" if value.is_meta else f"{value.layout}, {value.dtype}"
            raise LtbenchError(
                f"the tensor '{name}' cannot be used as it is stored ({kind})".replace("torch.", ""),
                where=path,
                hint="save the weights in float32, float16 or bfloat16",
            )
    return dict(state)


def _unpickled(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        if named is None:
            raise
        raise LtbenchError(
            f"the file holds more than tensors ({named[1]}), and reading that would run code",
            where=path,
            hint="if you trust it, save just the weights, in a folder where its own code can be imported: "
            f"""python -c "import torch; s = torch.load('{path.name}', weights_only=False, map_location='cpu'); """
            f"""torch.save(s['{_ENTRY}'], 'weights.pth')\"""",
        ) from None
