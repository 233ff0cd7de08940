"""A timm network split into a trunk, which experts share, and a branch, of which each expert has its own.

Which stages an expert owns: layer2 and layer3 of a CIFAR ResNet, layer3 and layer4 of a ResNet or ResNeXt (both as
published for RIDE, SADE and BalPoE), the last half of the stages of other staged networks, the last quarter of the
blocks of a transformer.

torch.fx writes down what the whole network computes as a graph of calls, whose calls before the first own stage are the
trunk; all that crosses from there on is handed to the branches. So trunk and branch compute what the whole network does
whatever its weights are, and the split depends on the architecture alone. Networks whose graph cannot be written down,
or whose subgraphs do not compute the same with random weights, are not split.
"""

import copy
import math
import operator
import re
from collections.abc import Iterator
from typing import Any

import torch
from torch import fx, nn

from ltbench.models.tracing import STAGE, FeatureExtractor, stage_of, trace, unit_of, units


class Subgraph(nn.Module):
    """The trunk or a branch of a timm network: a subgraph of its graph, with the modules that it calls.

    Args:
        model: a timm network without classifier; the subgraph shares its modules.
        graph: takes images, or what the trunk gives; gives what a branch takes, or (B, D) features.
    """

    def __init__(self, model: nn.Module, graph: fx.Graph) -> None:
        super().__init__()
        self.model = fx.GraphModule(model, graph)
        self.stages = units(graph)

    @property
    def modules_with_parameters(self) -> list[str]:
        """The stages, blocks and other layers of the network that are in this subgraph."""
        return list(dict.fromkeys(stage_of(name) for name, _ in self.model.named_parameters()))

    def forward(self, x: Any) -> Any:
        """A branch's input from (B, channels, H, W) images, or (B, D) features from a branch's input."""
        return self.model(x)


def split(model: nn.Module, shape: tuple[int, int, int]) -> tuple[fx.Graph, fx.Graph] | None:
    """The graphs of the trunk and of a branch of a network.

    Args:
        model: a timm network without classifier; left as it is.
        shape: of an image: channels, height, width.

    Returns:
        None if the network has no stages, or cannot be split between them.
    """
    try:
        # Whatever the caller has switched off, gradients are looked at.
        with torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.enable_grad():
            model = copy.deepcopy(model)
            graph = trace(model, shape)
            first = _first_of_branch(model, graph)
            if first is None:
                return None
            trunk, branch = _cut(graph, first)
            return (trunk, branch) if _same_function(model, trunk, branch, shape) else None
    except (MemoryError, torch.OutOfMemoryError):
        raise  # the split depends on the architecture, and not on the machine
    except Exception:  # tracing meets code that it cannot follow, in as many ways as there are networks
        return None


def _first_of_branch(model: nn.Module, graph: fx.Graph) -> fx.Node | None:
    """The first call that each expert has for itself; None in a network without stages."""
    stages = [unit for unit in units(graph) if "." in unit or re.fullmatch(STAGE, unit)]
    own = math.ceil(len(stages) / 4) if _is_transformer(model) else math.ceil(len(stages) / 2)
    if not 0 < own < len(stages):
        return None
    nodes = list(graph.nodes)
    begin = next(i for i, node in enumerate(nodes) if unit_of(node) == stages[-own])
    # A ReLU ahead of it stays in the trunk: experts must not change in place what they share.
    later: Iterator[fx.Node] = iter(nodes[begin:])
    return next(node for node in later if unit_of(node) and _has_parameters(model, node))


def _is_transformer(model: nn.Module) -> bool:
    """Whether the blocks of a network have attention and are all in one list."""
    blocks = getattr(model, "blocks", ())
    return any("attn" in name for block in blocks for name, _ in block.named_children())


def _has_parameters(model: nn.Module, node: fx.Node) -> bool:
    return next(model.get_submodule(str(node.target)).parameters(), None) is not None


def _cut(graph: fx.Graph, first: fx.Node) -> tuple[fx.Graph, fx.Graph]:
    """A graph in two: the nodes before one, whose last one gives all that is needed later on, and the others."""
    nodes = list(graph.nodes)
    before, after = nodes[: nodes.index(first)], nodes[nodes.index(first) :]
    late = set(after)
    needed = [node for node in before if not late.isdisjoint(node.users)]
    parameters, crossing = _by_kind(needed)
    trunk, branch = fx.Graph(), fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in before:
        if node.op != "get_attr" or not late.issuperset(node.users):
            copies[node] = trunk.node_copy(node, copies.__getitem__)
    handed = tuple(copies[node] for node in crossing)
    trunk.output(handed[0] if len(handed) == 1 else handed)
    shared = branch.placeholder("shared")
    copies = {
        node: shared if len(crossing) == 1 else branch.call_function(operator.getitem, (shared, i))
        for i, node in enumerate(crossing)
    }
    for node in [*parameters, *after]:
        copies[node] = branch.node_copy(node, copies.__getitem__)
    return trunk, branch


def _by_kind(nodes: list[fx.Node]) -> tuple[list[fx.Node], list[fx.Node]]:
    """Parameters and buffers, which each subgraph looks up for itself, and computed values."""
    return [node for node in nodes if node.op == "get_attr"], [node for node in nodes if node.op != "get_attr"]


def _same_function(model: nn.Module, trunk: fx.Graph, branch: fx.Graph, shape: tuple[int, int, int]) -> bool:
    """Whether two branches on a trunk compute what a network does, and leave no parameter without gradient.

    Args:
        model: gets other weights, and evaluation mode.
        trunk: graph up to where experts differ.
        branch: graph from there on.
        shape: of an image.
    """
    generator = torch.Generator().manual_seed(0)
    _randomise(model.eval(), generator)
    image = torch.rand(1, *shape, generator=generator)
    early, late = Subgraph(model, trunk), Subgraph(model, branch)
    ids = [{id(weight) for weight in graph.parameters()} for graph in (early, late)]
    shared = early(image)
    found = torch.stack([late(shared), late(shared)])
    torch.autograd.backward(found.sum())
    with torch.no_grad():
        expected = FeatureExtractor(model)(image)  # last: some layers keep what they worked out without gradient
    same = torch.allclose(found, expected.expand_as(found), rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
    weights = [weight for graph in (early, late) for weight in graph.parameters() if weight.requires_grad]
    trained = all(weight.grad is not None for weight in weights)
    return same and trained and ids[0].isdisjoint(ids[1])


@torch.no_grad()
def _randomise(model: nn.Module, generator: torch.Generator) -> None:
    """Give a network weights that no initialisation has: no block is the identity, no norm at rest."""
    for weight in model.parameters():
        if weight.ndim > 1:
            weight.normal_(0, (weight.shape[0] / weight.numel()) ** 0.5, generator=generator)
        else:
            weight.uniform_(0, 1, generator=generator)
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            if name in ("running_mean", "running_var"):
                buffer.uniform_(0.5, 1.5, generator=generator)
