"""The logits of a trained method on a set of images, and the file that keeps them."""

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ltbench.atomic import write_bytes
from ltbench.data.loading import Loader
from ltbench.errors import LtbenchError
from ltbench.evaluate.fold import folded
from ltbench.method import Method
from ltbench.train.distributed import ALONE, Group


@dataclass(frozen=True)
class Predictions:
    """What a method says about a set of images; on the CPU, float32."""

    logits: Tensor
    """(N, C) combined."""
    experts: Tensor
    """(M, N, C)."""
    labels: Tensor
    """(N,)."""
    how: str = ""
    """How the network was run."""
    about: Mapping[str, str] = field(default_factory=dict)
    """What the file that they come from says about them, e.g. the run id."""

    def save(self, path: Path, **about: str) -> None:
        """Write a NumPy archive: logits, experts, labels, and ``about`` as JSON text."""
        arrays = {name: getattr(self, name).numpy() for name in ("logits", "experts", "labels")}
        write_bytes(path, lambda stream: np.savez(stream, about=np.array(json.dumps(about)), **arrays))

    @classmethod
    def load(cls, path: Path) -> "Predictions":
        """Read what ``save`` has written.

        Raises:
            LtbenchError: if the file is missing or damaged.
        """
        try:
            with np.load(path, allow_pickle=False) as archive:
                logits, experts, labels = (torch.from_numpy(archive[name]) for name in ("logits", "experts", "labels"))
                return cls(logits, experts, labels, about=json.loads(str(archive["about"])))
        except (OSError, EOFError, ValueError, TypeError, KeyError, zipfile.BadZipFile) as error:
            raise LtbenchError(
                f"the stored logits cannot be read: {error}",
                where=path,
                hint="they are kept in the cache folder, which may be emptied: run again with --rerun",
            ) from None


@torch.no_grad()
def predict(method: Method, data: Loader, precision: str = "fp32", group: Group = ALONE) -> Predictions:
    """Predict every image of a set, in evaluation mode; logits leave the device batch by batch.

    Several processes share out the batches that one would make, so that predictions are the same. The first one has
    them all in the end; what the others return is of no use.
    """
    method.eval()
    logits, experts, done = torch.empty(0, 0), torch.empty(0, 0, 0), 0
    count = sum(map(len, data.in_order(share=group.share)))
    with folded(method, data.first()) as how:
        for batch in data.plain(share=group.share):
            with torch.autocast(data.device.type, torch.bfloat16, enabled=precision == "bf16"):
                own = method.experts(batch.images).float()
            if not done:  # room for all, so that they never lie there twice
                logits = torch.empty(count, own.shape[2])
                experts = torch.empty(own.shape[0], count, own.shape[2])
            now = slice(done, done := done + len(batch.labels))
            experts[:, now], logits[now] = own, method.combine(own)
    logits, experts = group.collect(logits), group.collect(experts.transpose(0, 1)).transpose(0, 1)
    return Predictions(logits, experts, data.labels.cpu(), how)
