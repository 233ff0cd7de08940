"""The blocks of a network: what its training recomputes, or divides over processes, one after the other."""

import re
from collections.abc import Iterator

from torch import nn

from ltbench.models.experts import UNIT, ExpertNetwork, Part, Whole


def blocks(network: ExpertNetwork) -> list[nn.Module]:
    """The residual blocks of a network's trunk and branches, in order; no two share a module.

    Of a stage that keeps no blocks under a name known here it is the stage, and of a trunk or branch that is not
    timm's it is the whole, unless it has no parameters.
    """
    return [block for part in (network.trunk, *network.branches) for block in _of_part(part)]


def _of_part(part: nn.Module) -> Iterator[nn.Module]:
    if isinstance(part, Part | Whole):
        for name in part.stages:
            if re.fullmatch(UNIT, name):
                yield from _of_stage(part.model.get_submodule(name))
    elif next(part.parameters(), None) is not None:
        yield part


def _of_stage(stage: nn.Module) -> Iterator[nn.Module]:
    inner = stage if isinstance(stage, nn.Sequential) else getattr(stage, "blocks", None)
    for block in inner if isinstance(inner, nn.Sequential) else (stage,):
        if next(block.children(), None) is not None:  # a single layer keeps little beside its input
            yield block
