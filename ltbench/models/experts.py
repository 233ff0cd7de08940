"""Experts over any timm network: a shared trunk, and last stages and a head for each expert.

Which stages an expert owns: layer2 and layer3 of a CIFAR ResNet, layer3 and layer4 of a ResNet or ResNeXt (both as
published for RIDE, SADE and BalPoE), the last half of the stages of other staged networks, the last quarter of the
blocks of a transformer.
"""

import math
import re
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import timm
import torch
from torch import Tensor, nn

from ltbench.errors import LtbenchError, LtbenchWarning
from ltbench.models import resnet_cifar  # noqa: F401  (registers the networks with timm)
from ltbench.models.heads import HEADS

CONTAINERS = ("stages", "blocks", "layers", "features")
"""Attributes under which timm's networks keep their stages or blocks, where these are not children themselves."""
STAGE = r"(layer|stage|s)\d+"
"""Names of those that are."""
_EMBED = "embed"  # stands for all that a vision transformer does before its blocks
_THREE_QUARTERS = {"CifarResNet": (16, 24, 48), "ResNet": (64, 128, 192, 384)}


class Part(nn.Module):
    """A run of consecutive stages of a timm network; what comes before and after is dropped from it.

    Args:
        model: a timm network without classifier; it is taken apart.
        stages: names of all its stages, in order.
        first: index of the first stage of the experts.
        trunk: whether this part is the stages before ``first``, or those from it on and the pooling.
    """

    def __init__(self, model: nn.Module, stages: list[str], first: int, *, trunk: bool) -> None:
        super().__init__()
        self.stages = stages[:first] if trunk else stages[first:]
        self.pools = not trunk
        _drop(model, stages[first:] + _after(model, stages) if trunk else stages[:first])
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """What the next part takes, or (B, D) features if this one pools."""
        for name in self.stages:
            x = _run(self.model, name, x)
        return _pooled(self.model, x) if self.pools else x


class Whole(nn.Module):
    """A complete timm network without classifier."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """(B, D) features."""
        return _pooled(self.model, self.model.forward_features(x))  # type: ignore[operator]


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
        stages = _stages(models[0], torch.rand(1, *self.shape))
        if stages is None:
            return None
        first = _first_own(models[0], stages)
        trunk = Part(self._create(width), stages, first, trunk=True)
        return trunk, [Part(model, stages, first, trunk=False) for model in models]


def _pooled(model: nn.Module, x: Tensor) -> Tensor:
    """(B, D) features from a network's last feature maps."""
    features: Tensor = model.forward_head(x, pre_logits=True)  # type: ignore[operator]
    return features


@torch.no_grad()
def _stages(model: nn.Module, images: Tensor) -> list[str] | None:
    """The names of the stages that one after the other make up ``forward_features``; None if none do."""
    training = model.training
    model.eval()
    try:
        expected = model.forward_features(images)  # type: ignore[operator]
        x, names = images, []
        for name in _candidates(model):
            x = _run(model, name, x)
            names.append(name)
            if x.shape == expected.shape and torch.allclose(x, expected, atol=1e-5):
                return names
    except (AttributeError, TypeError, ValueError, RuntimeError):
        return None  # this architecture does more between its stages than passing a tensor on
    finally:
        model.train(training)
    return None


def _candidates(model: nn.Module) -> Iterator[str]:
    embedding = ("patch_embed", "pos_drop", "patch_drop", "norm_pre") if _is_transformer(model) else ()
    if embedding:
        yield _EMBED
    for name, child in model.named_children():
        if name in CONTAINERS and isinstance(child, nn.Sequential):
            yield from (f"{name}.{part}" for part, _ in child.named_children())
        elif name not in embedding:
            yield name


def _run(model: nn.Module, name: str, x: Any) -> Any:
    if name == _EMBED:
        return model.norm_pre(model.patch_drop(model._pos_embed(model.patch_embed(x))))  # type: ignore[operator]
    return model.get_submodule(name)(x)


def _is_transformer(model: nn.Module) -> bool:
    return hasattr(model, "_pos_embed") and hasattr(model, "blocks")


def _first_own(model: nn.Module, stages: list[str]) -> int:
    """The index in ``stages`` of the first one that each expert has for itself."""
    units = [i for i, name in enumerate(stages) if re.fullmatch(rf"{STAGE}|\w+\.\w+", name)]
    if not units:
        return len(stages)
    shared = len(units) - math.ceil(len(units) / 4) if _is_transformer(model) else len(units) // 2
    return units[shared]


def _after(model: nn.Module, stages: list[str]) -> list[str]:
    """Children that run after the stages: pooling and its norm."""
    used = {name.split(".")[0] for name in stages}
    embedding = {"patch_embed", "pos_drop", "patch_drop", "norm_pre"} if _EMBED in used else set()
    return [name for name, _ in model.named_children() if name not in used | embedding]


def _drop(model: nn.Module, stages: list[str]) -> None:
    for name in stages:
        if name == _EMBED:
            model.patch_embed = nn.Identity()
            model.norm_pre = nn.Identity()
            model.pos_embed = model.cls_token = model.reg_token = None  # type: ignore[assignment]
        else:
            model.set_submodule(name, nn.Identity())
