"""The blocks of a network: what its training recomputes, or divides over processes, one after the other."""

import re
from collections.abc import Iterator

from torch import nn

from ltbench.models.experts import CONTAINERS, STAGE, ExpertNetwork, Part, Whole


def blocks(network: ExpertNetwork) -> list[nn.Module]:
    """The residual blocks of a network's trunk and branches, in order; no two share a module.

    Of a stage that keeps its blocks under another name than timm's usual ones it is the stage, and of a trunk or branch
    without stages the whole.
    """
    parts = [part for part in (network.trunk, *network.branches) if next(part.parameters(), None) is not None]
    return [block for part in parts for block in list(_of_part(part)) or [part]]


def _of_part(part: nn.Module) -> Iterator[nn.Module]:
    for name, child in part.model.named_children() if isinstance(part, Part | Whole) else ():
        if name in CONTAINERS and type(child) in (nn.Sequential, nn.ModuleList, nn.Module):  # the last one is fx's
            for stage in child.children():
                yield from _of_stage(stage)
        elif re.fullmatch(STAGE, name):
            yield from _of_stage(child)


def _of_stage(stage: nn.Module) -> Iterator[nn.Module]:
    inner = stage if isinstance(stage, nn.Sequential) else getattr(stage, "blocks", None)
    for block in inner if isinstance(inner, nn.Sequential | nn.ModuleList) else (stage,):
        if next(block.children(), None) is not None:  # a single layer keeps little beside its input
            yield block
