"""Experts over any timm network: a shared trunk, and last stages and a head for each expert.

Which stages an expert owns: layer2 and layer3 of a CIFAR ResNet, layer3 and layer4 of a ResNet or ResNeXt (both as
published for RIDE, SADE and BalPoE), the last half of the stages of other staged networks, the last quarter of the
blocks of a transformer.

torch.fx writes down what the whole network computes as a graph of calls, whose calls before the first own stage are the
trunk; all that crosses from there on is handed to the branches. So trunk and branch compute what the whole network does
whatever its weights are, and the division depends on the architecture alone. Networks whose graph cannot be written
down, or whose parts do not compute the same with random weights, are not divided.
"""

import copy
import math
import operator
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import timm
import torch
from torch import Tensor, fx, nn

from ltbench.errors import LtbenchError, LtbenchWarning
from ltbench.models import resnet_cifar  # noqa: F401  (registers the networks with timm)
from ltbench.models.heads import HEADS

CONTAINERS = ("stages", "blocks", "layers", "features", "levels", "transformers", "network", "dense_stages")
"""Attributes under which timm's networks keep their stages or blocks, where these are not children themselves."""
STAGE = r"(layer|stage|s|level|block|cell_)\d+"
"""Names of those that are."""
_THREE_QUARTERS = {"CifarResNet": (16, 24, 48), "ResNet": (64, 128, 192, 384)}


class Part(nn.Module):
    """The trunk or a branch of a timm network: a part of its graph, with the modules that it calls.

    Args:
        model: a timm network without classifier; the part shares its modules.
        graph: takes images, or what the trunk gives; gives what a branch takes, or (B, D) features.
    """

    def __init__(self, model: nn.Module, graph: fx.Graph) -> None:
        super().__init__()
        self.model = fx.GraphModule(model, graph)
        self.stages = _units(graph)

    @property
    def modules_with_parameters(self) -> list[str]:
        """The stages, blocks and other layers of the network that are in this part."""
        return list(dict.fromkeys(_stage_of(name) for name, _ in self.model.named_parameters()))

    def forward(self, x: Any) -> Any:
        """What a branch takes from (B, channels, H, W) images, or (B, D) features from that."""
        return self.model(x)


class Whole(nn.Module):
    """A complete timm network without classifier."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """(B, D) features."""
        features: Tensor = self.model.forward_head(self.model.forward_features(x), pre_logits=True)  # type: ignore[operator]
        return features


class ExpertNetwork(nn.Module):
    """M experts on a shared trunk; with M = 1 an ordinary network.

    Args:
        trunk: (B, channels, H, W) images to what every branch takes.
        branches: each gives (B, D) features.
        heads: each gives (B, C) logits.
    """

    def __init__(self, trunk: nn.Module, branches: Sequence[nn.Module], heads: Sequence[nn.Module]) -> None:
        super().__init__()
        self.trunk = trunk
        self.branches = nn.ModuleList(branches)
        self.heads = nn.ModuleList(heads)

    @property
    def num_features(self) -> int:
        """D."""
        weight = self.heads[0].weight
        assert isinstance(weight, Tensor)
        return weight.shape[1]

    def features(self, images: Tensor) -> Tensor:
        """(M, B, D) pooled features of every expert."""
        shared = self.trunk(images)
        return torch.stack([branch(shared) for branch in self.branches])

    def classify(self, features: Tensor) -> Tensor:
        """(M, B, C) logits from (M, B, D) features."""
        return torch.stack([head(own) for head, own in zip(self.heads, features, strict=True)])

    def experts(self, images: Tensor) -> Tensor:
        """(M, B, C) logits of every expert."""
        return self.classify(self.features(images))

    def forward(self, images: Tensor) -> Tensor:
        """(B, C) mean of the experts' logits."""
        return self.experts(images).mean(0)


class Backbone:
    """Builds networks of one timm architecture for one data set.

    Args:
        name: of a timm model.
        classes: C.
        channels: of the images.
        image_size: side in pixels.
        head: linear or cosine, unless a method asks for another.
        pretrained: start from timm's weights.

    Raises:
        LtbenchError: if timm does not know the model, has no weights for it, or it cannot take such images.
    """

    def __init__(
        self, name: str, *, classes: int, channels: int, image_size: int, head: str, pretrained: bool = False
    ) -> None:
        self.name, self.classes, self.head, self.pretrained = name, classes, head, pretrained
        self.shape = (channels, image_size, image_size)

    def __call__(
        self, experts: int = 1, *, width: float = 1.0, head: str | None = None, shared: bool = True
    ) -> ExpertNetwork:
        """See ``ltbench.method.BackboneFactory``."""
        models = [self._create(width) for _ in range(experts)]
        whole: list[nn.Module] = [Whole(model) for model in models]
        features = self._probe(whole[0])
        parts = self._split(models, width) if shared and experts > 1 else (nn.Identity(), whole)
        if parts is None:
            message = f"the stages of '{self.name}' cannot be told apart: each expert is a complete network"
            warnings.warn(message, LtbenchWarning, stacklevel=2)
            parts = (nn.Identity(), whole)
        trunk, branches = parts
        make_head = HEADS[head or self.head]
        heads = [make_head(features, self.classes) for _ in range(experts)]
        return ExpertNetwork(trunk, branches, heads)

    def _create(self, width: float) -> nn.Module:
        options: dict[str, Any] = {"num_classes": 0, "in_chans": self.shape[0], "pretrained": self.pretrained}
        config = timm.get_pretrained_cfg(self.name)
        if config is not None and config.fixed_input_size:
            options["img_size"] = self.shape[1]
        if self.pretrained and (config is None or not config.has_weights):
            raise LtbenchError(
                f"there are no pre-trained weights for '{self.name}'",
                where="--pretrained",
                hint="choose another --backbone, e.g. resnet18, or train from scratch",
            )
        if timm.models.is_model_in_modules(self.name, ["resnet"]):
            options["zero_init_last"] = False  # as in the published networks: timm's blocks start as the identity
        if width != 1.0 and (channels := self._narrow(width)):
            options["channels"] = channels
        try:
            model: nn.Module = timm.create_model(self.name, **options)
        except (RuntimeError, OSError) as error:
            raise LtbenchError(
                f"cannot build backbone '{self.name}': {str(error).splitlines()[0]}",
                where="--backbone" + (" with --pretrained" if self.pretrained else ""),
                hint="run without --pretrained, or with network access for timm to fetch weights",
            ) from None
        return model

    def _narrow(self, width: float) -> tuple[int, ...] | None:
        if width != 0.75:
            raise LtbenchError(f"width {width} is not defined", where="--set width", hint="width is 1 or 0.75")
        family = type(timm.create_model(self.name)).__name__
        if family not in _THREE_QUARTERS:
            message = f"three quarters of the width are not defined for '{self.name}': its experts have all of it"
            warnings.warn(message, LtbenchWarning, stacklevel=2)
        return _THREE_QUARTERS.get(family)

    def _probe(self, network: nn.Module) -> int:
        """The number of features, found by running the network once."""
        try:
            with torch.no_grad():
                return int(network.eval()(torch.zeros(2, *self.shape)).shape[1])
        except (RuntimeError, AssertionError, ValueError) as error:
            raise LtbenchError(
                f"backbone '{self.name}' cannot take images of {self.shape[1]} x {self.shape[2]} pixels: {error}",
                where="--backbone",
                hint="use larger images (--image-size) or another backbone",
            ) from None
        finally:
            network.train()

    def _split(self, models: list[nn.Module], width: float) -> tuple[nn.Module, list[nn.Module]] | None:
        torch.rand(1, *self.shape)  # the initial weights that are drawn after it are those of stored results
        graphs = divide(models[0], self.shape)
        if graphs is None:
            return None
        trunk, branch = graphs
        return Part(self._create(width), trunk), [Part(model, branch) for model in models]


def divide(model: nn.Module, shape: tuple[int, int, int]) -> tuple[fx.Graph, fx.Graph] | None:
    """The graphs of the trunk and of a branch of a network.

    Args:
        model: a timm network without classifier; left as it is.
        shape: of an image: channels, height, width.

    Returns:
        None if the network has no stages, or cannot be divided between them.
    """
    try:
        # Whatever the caller has switched off, gradients are looked at.
        with torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.enable_grad():
            model = copy.deepcopy(model)
            graph = _trace(model, shape)
            first = _first_own(model, graph)
            if first is None:
                return None
            trunk, branch = _cut(graph, first)
            return (trunk, branch) if _same_function(model, trunk, branch, shape) else None
    except (MemoryError, torch.OutOfMemoryError):
        raise  # the division depends on the architecture, and not on the machine
    except Exception:  # tracing meets code that it cannot follow, in as many ways as there are networks
        return None


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
        """A truth value that the code needs now."""
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
    """What tracing must know of a value before it can go on."""

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


@torch.no_grad()
def _trace(model: nn.Module, shape: tuple[int, int, int]) -> fx.Graph:
    """What a network computes from images of a shape, in training and in evaluation.

    Raises:
        ValueError: if its own code does something else in training than to drop out features.
    """
    network, answers = Whole(model).eval(), list[int]()
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


def _unit(node: fx.Node) -> str | None:
    return _stage_of(str(node.target)) if node.op == "call_module" else None


def _stage_of(name: str) -> str:
    """The stage, the block or else the child of a network that a module or a parameter belongs to."""
    names = name.split(".")
    return ".".join(names[:2] if names[0] in CONTAINERS else names[:1])


def _units(graph: fx.Graph) -> list[str]:
    return list(dict.fromkeys(unit for node in graph.nodes if (unit := _unit(node)) is not None))


def _first_own(model: nn.Module, graph: fx.Graph) -> fx.Node | None:
    """The first call that each expert has for itself; None in a network without stages."""
    stages = [unit for unit in _units(graph) if "." in unit or re.fullmatch(STAGE, unit)]
    own = math.ceil(len(stages) / 4) if _is_transformer(model) else math.ceil(len(stages) / 2)
    if not 0 < own < len(stages):
        return None
    nodes = list(graph.nodes)
    begin = next(i for i, node in enumerate(nodes) if _unit(node) == stages[-own])
    # A ReLU ahead of it stays in the trunk: experts must not change in place what they share.
    later: Iterator[fx.Node] = iter(nodes[begin:])
    return next(node for node in later if _unit(node) and _has_parameters(model, node))


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
    """Parameters and buffers, which each part looks up for itself, and computed values."""
    return [node for node in nodes if node.op == "get_attr"], [node for node in nodes if node.op != "get_attr"]


def _same_function(model: nn.Module, trunk: fx.Graph, branch: fx.Graph, shape: tuple[int, int, int]) -> bool:
    """Whether two branches on a trunk compute what a network does, and leave no parameter without gradient.

    Args:
        model: gets other weights, and evaluation mode.
        trunk: a graph.
        branch: likewise.
        shape: of an image.
    """
    generator = torch.Generator().manual_seed(0)
    _randomise(model.eval(), generator)
    image = torch.rand(1, *shape, generator=generator)
    early, late = Part(model, trunk), Part(model, branch)
    own = [{id(weight) for weight in part.parameters()} for part in (early, late)]
    shared = early(image)
    found = torch.stack([late(shared), late(shared)])
    torch.autograd.backward(found.sum())
    with torch.no_grad():
        expected = Whole(model)(image)  # last: some layers keep what they worked out without gradient
    same = torch.allclose(found, expected.expand_as(found), rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
    weights = [weight for part in (early, late) for weight in part.parameters() if weight.requires_grad]
    trained = all(weight.grad is not None for weight in weights)
    return same and trained and own[0].isdisjoint(own[1])


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
