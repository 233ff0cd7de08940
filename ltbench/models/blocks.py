"""The residual blocks of a network, one after the other: for activation checkpointing and for sharding."""

import re
from collections.abc import Iterator

from torch import nn

from ltbench.models.experts import ExpertNetwork
from ltbench.models.tracing import CONTAINERS, STAGE, FeatureExtractor
from ltbench.models.trunk_and_branch import Subgraph


def blocks(network: ExpertNetwork) -> list[nn.Module]:
    """The residual blocks of a network's trunk and branches, in order; no two share a module.

    A stage that keeps its blocks under another name than timm's usual ones counts as a block, and so does a trunk or
    branch without stages.
    """
    modules = [module for module in (network.trunk, *network.branches) if next(module.parameters(), None) is not None]
    return [block for module in modules for block in list(_blocks_of(module)) or [module]]


def _blocks_of(module: nn.Module) -> Iterator[nn.Module]:
    for name, child in module.model.named_children() if isinstance(module, Subgraph | FeatureExtractor) else ():
        if name in CONTAINERS and type(child) in (nn.Sequential, nn.ModuleList, nn.Module):  # the last one is fx's
            for stage in child.children():
                yield from _blocks_of_stage(stage)
        elif re.fullmatch(STAGE, name):
            yield from _blocks_of_stage(child)


def _blocks_of_stage(stage: nn.Module) -> Iterator[nn.Module]:
    inner = stage if isinstance(stage, nn.Sequential) else getattr(stage, "blocks", None)
    for block in inner if isinstance(inner, nn.Sequential | nn.ModuleList) else (stage,):
        if next(block.children(), None) is not None:  # a single layer keeps little beside its input
            yield block
