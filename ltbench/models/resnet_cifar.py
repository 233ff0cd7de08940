"""The ResNets for 32-pixel images, registered with timm as ``cifar_resnet20`` to ``cifar_resnet56``; and ResNet-8.

He et al., "Deep Residual Learning for Image Recognition" (CVPR 2016), section 4.2: a 3x3 stem and three stages of
16, 32 and 64 channels, with parameter-free shortcuts (option A). The networks of LDAM, RIDE, SADE and BalPoE.
``cifar_resnet32_wide`` has four times the channels; papers that train it call it ResNet-32, too.
"""

from typing import Any

import torch.nn.functional as F
from timm.models import build_model_with_cfg, register_model
from torch import Tensor, nn


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut without parameters."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride = stride
        self.padding = (outputs - inputs) // 2

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)  # batch norm's gradient does not need its output
        y = self.bn2(self.conv2(y))
        return F.relu(y.add_(self._shortcut(x)), inplace=True)

    def _shortcut(self, x: Tensor) -> Tensor:
        if self.stride > 1:
            x = x[:, :, :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, self.padding, self.padding)) if self.padding else x


class CifarResNet(nn.Module):
    """A ResNet of 6 n + 2 layers, with timm's interface.

    Args:
        blocks: n, the blocks in each of the three stages.
        num_classes: C; 0 for no classifier.
        in_chans: image channels.
        channels: of the three stages. Published three-quarter width experts have (16, 24, 48).
        global_pool: "avg" or "" for none.
    """

    def __init__(
        self,
        blocks: int = 5,
        num_classes: int = 10,
        in_chans: int = 3,
        channels: tuple[int, int, int] = (16, 32, 64),
        global_pool: str = "avg",
        **_: Any,
    ) -> None:
        super().__init__()
        self.channels = channels
        self.num_features = self.head_hidden_size = channels[2]
        self.conv1 = nn.Conv2d(in_chans, channels[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels[0])
        self.act1 = nn.ReLU(inplace=True)
        self.layer1 = _stage(blocks, channels[0], channels[0], 1)
        self.layer2 = _stage(blocks, channels[0], channels[1], 2)
        self.layer3 = _stage(blocks, channels[1], channels[2], 2)
        self.reset_classifier(num_classes, global_pool)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        """The stem and the blocks by the names of their parameters, as timm's networks tell them."""
        return {"stem": r"^conv1|bn1", "blocks": r"^layer(\d+)" if coarse else r"^layer(\d+)\.(\d+)"}

    def get_classifier(self) -> nn.Module:
        """The last layer."""
        return self.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Put a new classifier on top; none for 0 classes."""
        self.num_classes = num_classes
        if global_pool is not None:
            self.global_pool = nn.AdaptiveAvgPool2d(1) if global_pool else nn.Identity()
        self.fc = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()

    def forward_features(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) feature maps."""
        x = self.act1(self.bn1(self.conv1(x)))
        maps: Tensor = self.layer3(self.layer2(self.layer1(x)))
        return maps

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """(B, C) logits, or (B, D) pooled features before the classifier."""
        x = self.global_pool(x).flatten(1)
        return x if pre_logits else self.fc(x)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C) logits."""
        return self.forward_head(self.forward_features(x))


def _stage(blocks: int, inputs: int, outputs: int, stride: int) -> nn.Sequential:
    rest = (Block(outputs, outputs, 1) for _ in range(blocks - 1))
    return nn.Sequential(Block(inputs, outputs, stride), *rest)


def _build(variant: str, blocks: int, pretrained: bool, **options: Any) -> CifarResNet:
    # timm has no weights for these; asking for some is its error to raise.
    cfg = {"input_size": (3, 32, 32), "num_classes": 10, "first_conv": "conv1", "classifier": "fc", "url": ""}
    options.pop("pretrained_cfg", None)
    return build_model_with_cfg(CifarResNet, variant, pretrained, pretrained_cfg=cfg, blocks=blocks, **options)


@register_model
def cifar_resnet8(pretrained: bool = False, **options: Any) -> CifarResNet:
    """ResNet-8, one block a stage: for tests and first tries, not for tables."""
    return _build("cifar_resnet8", 1, pretrained, **options)


@register_model
def cifar_resnet20(pretrained: bool = False, **options: Any) -> CifarResNet:
    """ResNet-20 for 32-pixel images."""
    return _build("cifar_resnet20", 3, pretrained, **options)


@register_model
def cifar_resnet32(pretrained: bool = False, **options: Any) -> CifarResNet:
    """ResNet-32 for 32-pixel images, the network of nearly every CIFAR-LT table."""
    return _build("cifar_resnet32", 5, pretrained, **options)


@register_model
def cifar_resnet32_wide(pretrained: bool = False, **options: Any) -> CifarResNet:
    """ResNet-32 with 64, 128 and 256 channels: 16 times the weights, what GLMC's code calls ResNet-32."""
    return _build("cifar_resnet32_wide", 5, pretrained, **{"channels": (64, 128, 256), **options})


@register_model
def cifar_resnet44(pretrained: bool = False, **options: Any) -> CifarResNet:
    """ResNet-44 for 32-pixel images."""
    return _build("cifar_resnet44", 7, pretrained, **options)


@register_model
def cifar_resnet56(pretrained: bool = False, **options: Any) -> CifarResNet:
    """ResNet-56 for 32-pixel images."""
    return _build("cifar_resnet56", 9, pretrained, **options)
