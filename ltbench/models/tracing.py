"""What a timm network computes, as a torch.fx graph of calls to its stages, blocks and other modules."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

CONTAINERS = ("stages", "blocks", "layers", "features", "levels", "transformers", "network", "dense_stages")
"""Attributes under which timm's networks keep their stages or blocks, where these are not children themselves."""
STAGE = r"(layer|stage|s|level|block|cell_)\d+"
"""Names of those that are."""


class FeatureExtractor(nn.Module):
    """A complete timm network without classifier."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """(B, D) features."""
        features: Tensor = self.model.forward_head(self.model.forward_features(x), pre_logits=True)  # type: ignore[operator]
        return features


@torch.no_grad()
def trace(model: nn.Module, shape: tuple[int, int, int]) -> fx.Graph:
    """The graph of what a network computes from images of a shape, in training and in evaluation.

    Raises:
        ValueError: if its own code does something else in training than to drop out features.
    """
    network, answers = FeatureExtractor(model).eval(), list[int]()
    while True:
        try:
            graph, training = _Tracer(answers).trace(network), _Tracer(answers).trace(network.train())
            break
        except _Question as question:
            answers.append(question.answer(network.eval(), shape))
    for node, other in zip(list(graph.nodes), list(training.nodes), strict=True):
        for name, value in node.kwargs.items():
            if value is False and other.kwargs.get(name) is True:
                for one in (node, other):
                    with one.graph.inserting_before(one):
                        one.update_kwarg(name, one.graph.create_node("get_attr", "training"))
    if graph.python_code("self").src != training.python_code("self").src:
        raise ValueError("the network's code asks whether it trains")
    for node in graph.nodes:
        if node.op in ("call_module", "get_attr"):
            node.target = node.target.removeprefix("model.")
    return graph


def unit_of(node: fx.Node) -> str | None:
    """The stage, the block or else the child of a network that a node calls; None if it calls no module."""
    return stage_of(str(node.target)) if node.op == "call_module" else None


def stage_of(name: str) -> str:
    """The stage, the block or else the child of a network that a module or a parameter belongs to."""
    names = name.split(".")
    return ".".join(names[:2] if names[0] in CONTAINERS else names[:1])


def units(graph: fx.Graph) -> list[str]:
    """The stages, blocks and other children that a graph calls, in order."""
    return list(dict.fromkeys(unit for node in graph.nodes if (unit := unit_of(node)) is not None))


class _Tracer(fx.Tracer):
    """Follows the code of a network itself, and that of no module in it.

    Args:
        answers: to what that code asks about shapes, in order: truth values, and lengths of what it loops over.
    """

    proxy_buffer_attributes = True

    def __init__(self, answers: Sequence[int] = ()) -> None:
        super().__init__()
        self._answers = iter(answers)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether a module is one call: all but the network, and what merely holds its stages."""
        _, *names = module_qualified_name.split(".")
        return bool(names) and not (len(names) == 1 and names[0] in CONTAINERS and isinstance(m, nn.Sequential))

    def to_bool(self, obj: fx.Proxy) -> bool:
        """The truth value of what the code asks about."""
        return bool(self._answer(obj.node, bool))

    def iter(self, obj: fx.Proxy) -> Iterator[fx.Proxy]:
        """The items of what the code loops over."""
        return iter([obj[i] for i in range(self._answer(obj.node, len))])  # type: ignore[index]

    def _answer(self, node: fx.Node, ask: Callable[[Any], int]) -> int:
        answer = next(self._answers, None)
        if answer is None:
            raise _Question(node, ask)
        return answer


class _Question(Exception):  # noqa: N818  (no error: tracing begins again with its answer)
    """A value of which tracing must know the truth value or the length before it can continue."""

    def __init__(self, node: fx.Node, ask: Callable[[Any], int]) -> None:
        self.node, self.ask = node, ask

    def answer(self, model: nn.Module, shape: tuple[int, int, int]) -> int:
        """The answer for images of a shape.

        Raises:
            ValueError: if it depends on more than their shape.
        """
        graph = fx.Graph()
        copies: dict[fx.Node, fx.Node] = {}
        for node in self.node.graph.nodes:
            copies[node] = graph.node_copy(node, copies.__getitem__)
        graph.output(copies[self.node])
        begin = fx.GraphModule(model, graph)
        values = [begin(torch.zeros(batch, *shape)) for batch in (1, 2)]
        answers = {self.ask(value) for value in values}
        if len(answers) > 1 or any(isinstance(value, Tensor) for value in values):
            raise ValueError("the network's code depends on the images")
        return answers.pop()
