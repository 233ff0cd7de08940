"""The parts of a result that describe a run: its data, its method's paper, what it cost."""

import sys

import torch
from torch.utils.flop_counter import FlopCounterMode

from ltbench import recipes
from ltbench.data.dataset import Dataset
from ltbench.method import Method, Paper
from ltbench.store import DataRecord, PaperRecord


def shot_groups(data: Dataset) -> dict[str, list[int]]:
    """Class labels of each shot group, by all of the training images, validation part included."""
    return data.shots.groups(data.counts)


def data_record(data: Dataset) -> DataRecord:
    """What a run is trained and tested on."""
    held_out = data.validation is not None
    return DataRecord(
        fingerprints=data.fingerprints,
        classes=list(data.classes),
        counts=data.counts.tolist(),
        trained_on=data.train_counts.tolist(),
        shots={"many": data.shots.many, "few": data.shots.few},
        groups=shot_groups(data),
        without_validation=[label for label, count in enumerate(data.counts) if count < 2] if held_out else [],
    )


def paper_record(paper: Paper | None, method: str, table: str) -> PaperRecord | None:
    """Where a method comes from, with its authors' recipe for the data sets that share a recipe table, if any."""
    if paper is None:
        return None
    return PaperRecord(
        title=paper.title,
        authors=paper.authors,
        venue=paper.venue,
        year=paper.year,
        bibtex=paper.bibtex,
        claims=list(paper.claims),
        checkpoint=paper.checkpoint,
        recipe=recipes.of_paper(method, paper.recipes, table) if table in paper.recipes else None,
    )


@torch.no_grad()
def multiply_adds(method: Method, shape: tuple[int, int, int]) -> int:
    """Multiply-adds of the convolutions and matrix products for one image, through all experts."""
    method.eval()
    image = torch.zeros(1, *shape, device=method.log_prior.device)
    with FlopCounterMode(display=False) as counter:
        method.experts(image)
    return int(counter.get_total_flops() // 2)


def peak_memory(device: torch.device) -> int | None:
    """Bytes: of the device in this run, or of the process so far; None where the system does not tell."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    if sys.platform == "win32":
        return None  # has no getrusage
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
