"""The blocks of networks of several kinds."""

import pytest
import timm
from torch import nn

from ltbench.models.backbone import Backbone
from ltbench.models.blocks import blocks
from ltbench.models.experts import ExpertNetwork
from ltbench.models.heads import HEADS
from ltbench.models.tracing import FeatureExtractor


def built(name, experts=2):
    network = Backbone(name, classes=3, channels=3, image_size=32, head="linear")(experts)
    names = {module: name for name, module in network.named_modules()}
    return [names[block].replace("model.", "") for block in blocks(network)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("resnet10t", ["trunk.layer1.0", "trunk.layer2.0", "branches.0.layer3.0", "branches.0.layer4.0"]),
        ("convnext_atto", ["trunk.stages.0.blocks.0", "trunk.stages.0.blocks.1", "trunk.stages.1.blocks.0"]),
        ("regnetx_002", ["trunk.s1", "trunk.s2", "branches.0.s3", "branches.0.s4", "branches.1.s3"]),
    ],
)
def test_residual_blocks_or_else_stages(name, found):
    assert built(name)[: len(found)] == found


def test_lists_of_blocks_and_networks_without_any():
    model = timm.create_model("eva02_tiny_patch14_224", img_size=28, depth=2, embed_dim=24, num_heads=2, num_classes=0)
    own = nn.Linear(3, 3)
    network = ExpertNetwork(nn.Identity(), [FeatureExtractor(model), own], [HEADS["linear"](3, 2)])
    assert blocks(network) == [*model.blocks, own]
