"""The backbone factory: networks of one or several experts from any timm architecture."""

import warnings
from typing import Any

import timm
import torch
from timm.models.resnet import ResNet
from torch import nn

from ltbench.errors import LtbenchError, LtbenchWarning, first_line
from ltbench.models import weights
from ltbench.models.experts import ExpertNetwork
from ltbench.models.heads import HEADS
from ltbench.models.layers import record_layers
from ltbench.models.resnet_cifar import CifarResNet  # its module registers the networks with timm
from ltbench.models.tracing import FeatureExtractor
from ltbench.models.trunk_and_branch import Subgraph, split
from ltbench.models.weights import Weights

_RESNET_CHANNELS = (64, 128, 256, 512)
"""Channels of the stages of timm's ResNets and ResNeXts, without the expansion of their blocks."""


class Backbone:
    """Builds networks of one timm architecture for one data set.

    Args:
        name: of a timm model.
        classes: C.
        channels: of the images.
        image_size: side in pixels.
        head: linear or cosine, unless a method asks for another.
        pretrained: weights to start from; None: random ones.
        whole_width: whether experts have the whole width that pre-trained weights have, whatever a method asks for.

    Raises:
        LtbenchError: if timm does not know the model, the weights do not fit it, or it cannot take such images.
    """

    def __init__(
        self,
        name: str,
        *,
        classes: int,
        channels: int,
        image_size: int,
        head: str,
        pretrained: Weights | None = None,
        whole_width: bool = False,
    ) -> None:
        self.name, self.classes, self.head, self.pretrained = name, classes, head, pretrained
        self.whole_width = whole_width or pretrained is not None
        self.shape = (channels, image_size, image_size)

    def __call__(
        self, experts: int = 1, *, width: float = 1.0, head: str | None = None, shared: bool = True
    ) -> ExpertNetwork:
        """See ``ltbench.method.BackboneFactory``."""
        models = [self._create(width) for _ in range(experts)]
        complete: list[nn.Module] = [FeatureExtractor(model) for model in models]
        features = self._count_features(complete[0])
        modules = self._split(models, width) if shared and experts > 1 else (nn.Identity(), complete)
        if modules is None:
            message = f"the stages of '{self.name}' cannot be found: each expert is a complete network"
            warnings.warn(message, LtbenchWarning, stacklevel=2)
            modules = (nn.Identity(), complete)
        trunk, branches = modules
        record_layers([trunk, *branches], models[0])
        make_head = HEADS[head or self.head]
        heads = [make_head(features, self.classes) for _ in range(experts)]
        return ExpertNetwork(trunk, branches, heads)

    def _create(self, width: float) -> nn.Module:
        options: dict[str, Any] = {"in_chans": self.shape[0]}
        config = timm.get_pretrained_cfg(self.name)
        if config is not None and config.fixed_input_size:
            options["img_size"] = self.shape[1]
        if timm.models.is_model_in_modules(self.name, ["resnet"]):
            options["zero_init_last"] = False  # as in the published networks: timm's blocks start as the identity
        if width != 1.0 and (channels := self._narrow(width)):
            options["channels"] = channels
        if self.pretrained is not None:
            return weights.create(self.name, self.pretrained, **options)
        try:
            model: nn.Module = timm.create_model(self.name, num_classes=0, **options)
        except RuntimeError as error:
            message = f"cannot build backbone '{self.name}': {first_line(error)}"
            raise LtbenchError(message, where="--backbone") from None
        return model

    def _narrow(self, width: float) -> tuple[int, ...] | None:
        if width != 0.75:
            raise LtbenchError(f"width {width} is not defined", where="--set width", hint="width is 1 or 0.75")
        if self.whole_width:
            message = f"the pre-trained weights of '{self.name}' have the whole width: its experts have all of it"
            warnings.warn(message, LtbenchWarning, stacklevel=2)
            return None
        channels = _three_quarters(timm.create_model(self.name))
        if channels is None:
            message = f"three quarters of the width are not defined for '{self.name}': its experts have all of it"
            warnings.warn(message, LtbenchWarning, stacklevel=2)
        return channels

    def _count_features(self, network: nn.Module) -> int:
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
        graphs = split(models[0], self.shape)
        if graphs is None:
            return None
        trunk, branch = graphs
        return Subgraph(self._create(width), trunk), [Subgraph(model, branch) for model in models]


def _three_quarters(network: nn.Module) -> tuple[int, ...] | None:
    """Channels of the stages with three quarters in the last two, which experts own, as published for RIDE and SADE."""
    if isinstance(network, CifarResNet):
        channels: tuple[int, ...] = network.channels
    elif type(network) is ResNet:
        channels = _RESNET_CHANNELS
    else:
        return None
    *shared, early, late = channels
    return (*shared, 3 * early // 4, 3 * late // 4)
