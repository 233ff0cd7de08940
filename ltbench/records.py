"""The parts of a result that describe a run: its data, its method's paper, what it cost."""

import json
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from ltbench import recipes
from ltbench.config import RunConfig
from ltbench.data.dataset import Dataset
from ltbench.data.source import ImageFiles
from ltbench.method import Claim, Method, MethodConfig
from ltbench.mixing import Mixing
from ltbench.models.experts import ExpertNetwork, Part
from ltbench.store import DataRecord, ExpertsRecord, PaperRecord


def shot_groups(data: Dataset) -> dict[str, list[int]]:
    """Class labels of each shot group, by all of the training images, validation part included."""
    return data.shots.groups(data.counts)


def data_record(data: Dataset) -> DataRecord:
    """What a run is trained and tested on."""
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


def paper_record(cls: type[Method], config: RunConfig, table: str) -> PaperRecord | None:
    """Where a method comes from, and what is published about it with the hyper-parameters of a run.

    Args:
        cls: of the method.
        config: of the run, with everything filled in.
        table: of its data set's recipes.
    """
    paper = cls.paper
    if paper is None:
        return None
    fitting = fitting_claims(cls, config)
    return PaperRecord(
        title=paper.title,
        authors=paper.authors,
        venue=paper.venue,
        year=paper.year,
        bibtex=paper.bibtex,
        claims=list(fitting),
        differs={key: words for key, words in fitting.items() if words},
        checkpoint=paper.checkpoint,
        draw=paper.draw,
        recipe=recipes.of_paper(config.method, paper.recipes, table) if table in paper.recipes else None,
    )


def fitting_claims(cls: type[Method], config: RunConfig) -> dict[str, list[str]]:
    """What is published about a method with the hyper-parameters of a run: key -> what differs, in words.

    Hyper-parameters that tell one published figure of the method from another, and those of mixing, must be the
    run's; where others differ from the defaults, that is said.
    """
    claims = cls.paper.all_claims if cls.paper else ()
    defaults = cls.Config.defaults_for(config.dataset, config.imbalance_ratio)
    usual = _plain(cls.Config.model_validate(defaults))
    own = {**usual, **config.hyperparameters}
    found = {}
    telling = {*Mixing.model_fields, *(name for claim in claims for name in _stated(cls, claim, defaults))}
    for claim in claims:
        theirs = {**usual, **_stated(cls, claim, defaults)}
        unsaid = {name for name, value in claim.settings.items() if value is ...}
        same = all(own.get(name) == theirs.get(name) for name in telling - unsaid)
        if same and all(own.get(name) for name in unsaid):
            words = [f"{name} {_word(own[name])} (reported: not stated)" for name in sorted(unsaid)]
            others = [name for name in own if name not in telling and own[name] != theirs.get(name)]
            words += [f"{name} {_word(own[name])} (reported: {_word(theirs.get(name))})" for name in others]
            found[claim.key] = words + list(claim.differs)
    return found


def _stated(cls: type[Method], claim: Claim, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a claim's settings as a run has them."""
    settings = {name: value for name, value in claim.settings.items() if value is not ...}
    given = cls.Config.model_validate(settings)
    explicit = given.model_dump(include=given.model_fields_set)  # experts=1 has become taus, which the defaults name
    whole = _plain(cls.Config.model_validate({**defaults, **explicit}))
    return {name: whole.get(name) for name in given.model_fields_set}


def _plain(settings: MethodConfig) -> dict[str, Any]:
    return settings.model_dump(mode="json", exclude_none=True)


def _word(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else json.dumps(value)


def experts_record(network: ExpertNetwork) -> ExpertsRecord | None:
    """How several experts divide the backbone; None for one."""
    if len(network.branches) == 1:
        return None
    shared, own = (
        part.modules_with_parameters if isinstance(part, Part) else [] for part in (network.trunk, network.branches[0])
    )
    return ExpertsRecord(count=len(network.branches), shared=shared, own=own)


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
