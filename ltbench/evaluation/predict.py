"""The logits of a trained method on a set of images, and the file that keeps them."""

import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ltbench.data.loading.base import Loader
from ltbench.errors import LtbenchError
from ltbench.files.atomic import write_bytes
from ltbench.files.memmap import empty_or_memmap
from ltbench.method import Method
from ltbench.metrics.logits import blocks
from ltbench.models.fuse_batch_norm import fuse_experts
from ltbench.training.distributed.process_group import ALONE, Group

_ARRAYS = ("logits", "experts", "labels")
_FAULTS = (OSError, EOFError, ValueError, TypeError, KeyError, RuntimeError, zlib.error, zipfile.BadZipFile)
"""What is raised by an archive that is damaged, encrypted or nested too deeply."""
LARGEST = 1e30
"""The largest logit: beyond it float32 has no room for differences and for dividing by a temperature."""
_CHUNK = 2**24
"""Bytes that are read at a time."""


@dataclass(frozen=True)
class Predictions:
    """The logits of a set of images; on the CPU, float32."""

    logits: Tensor
    """(N, C) of the combined prediction."""
    experts: Tensor
    """(M, N, C) of every expert."""
    labels: Tensor
    """(N,)."""
    execution: str = ""
    """How the network was run, e.g. "batch norm folded"."""
    about: Mapping[str, str] = field(default_factory=dict)
    """Notes of the file that they come from, e.g. the run id."""

    def fault(self) -> str | None:
        """The logits that are not finite or too large to compute with, in words; None: there are none."""
        for prefix, table in (("", self.logits), *((f"expert {m}: ", one) for m, one in enumerate(self.experts))):
            wrong = torch.cat([~(block.abs() < LARGEST).all(1) for (block,) in blocks(table)])  # NaN is not less either
            if wrong.any():
                return (
                    f"{prefix}the logits of {int(wrong.sum())} of {len(wrong)} images are NaN, infinite or beyond "
                    f"{LARGEST:g}, the first of image {int(wrong.int().argmax())}"
                )
        return None

    def save(self, path: Path, **about: str) -> None:
        """Write a NumPy archive: logits, experts, labels, and ``about`` as JSON text."""
        arrays = {name: getattr(self, name).numpy() for name in _ARRAYS}
        write_bytes(path, lambda stream: np.savez(stream, about=np.array(json.dumps(about)), **arrays))

    @classmethod
    def load(cls, path: Path) -> "Predictions":
        """Read what ``save`` has written.

        Raises:
            LtbenchError: if the file is missing or damaged.
        """
        try:
            if path.exists() and not path.is_file():  # opening a pipe would not end
                raise ValueError("it is no file")
            with zipfile.ZipFile(path) as archive:
                logits, experts, labels = (_read(archive, name) for name in _ARRAYS)
            with np.load(path, allow_pickle=False) as small:
                about = json.loads(str(small["about"]))
            if not isinstance(about, dict):
                raise ValueError("it does not say of which run they are")
            if logits.ndim != 2 or experts.shape[1:] != logits.shape or labels.shape != logits.shape[:1]:
                shapes = ", ".join(str(tuple(one.shape)) for one in (logits, experts, labels))
                raise ValueError(f"the shapes {shapes} do not fit one another")
            return cls(logits, experts, labels, about=about)
        except _FAULTS as error:
            raise LtbenchError(
                f"the stored logits cannot be read: {error}",
                where=path,
                hint="they are kept in the cache folder, which may be emptied: run again with --rerun",
            ) from None


def _read(archive: zipfile.ZipFile, name: str) -> Tensor:
    """An array of a NumPy archive; NumPy itself would read it into memory, however large it is."""
    with archive.open(f"{name}.npy") as member:
        np.lib.format.read_magic(member)
        shape, backwards, kind = np.lib.format.read_array_header_1_0(member)
        table = empty_or_memmap(shape[::-1] if backwards else shape, torch.from_numpy(np.empty(0, kind)).dtype)
        flat = table.view(-1).numpy().view(np.uint8)
        for begin in range(0, len(flat), _CHUNK):
            part = flat[begin : begin + _CHUNK]
            part[:] = np.frombuffer(member.read(len(part)), np.uint8)
    return table.permute(*reversed(range(table.ndim))) if backwards else table


@contextmanager
def fused_batch_norm(method: Method, image: Tensor) -> Iterator[str]:
    """Predict with batch norm fused into every convolution that it follows. The method gets its own network back.

    Args:
        method: in evaluation mode.
        image: (1, channels, H, W), normalised, to compare both networks on.

    Yields:
        "batch norm folded", or why not.
    """
    own = method.network
    method.network, execution = fuse_experts(own, image)
    try:
        yield execution
    finally:
        method.network = own


@torch.no_grad()
def predict(method: Method, data: Loader, precision: str = "fp32", group: Group = ALONE) -> Predictions:
    """Predict every image of a set, in evaluation mode; logits leave the device batch by batch.

    Several processes share the batches that one would make, so that predictions are the same. The main process has
    them all in the end; the others return only their own.
    """
    method.eval()
    logits, experts, done = torch.empty(0, 0), torch.empty(0, 0, 0), 0
    own = sum(map(len, data.in_order(local_slice=group.local_slice)))
    count = len(data.labels) if group.is_main else own
    with fused_batch_norm(method, data.first()) as execution:
        for batch in data.eval_batches(local_slice=group.local_slice):
            with torch.autocast(data.device.type, torch.bfloat16, enabled=precision == "bf16"):
                found = method.experts(batch.images).float()
            if not done:  # room for all, so that they never lie there twice
                logits = empty_or_memmap((count, found.shape[2]))
                experts = empty_or_memmap((found.shape[0], count, found.shape[2]))
            now = slice(done, done := done + len(batch.labels))
            experts[:, now], logits[now] = found, method.combine(found)
    group.gather_to_main([logits, *experts], own)
    return Predictions(logits, experts, data.labels.cpu(), execution)
