"""Experts over timm networks: which stages they share, and what is refused."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from ltbench.errors import LtbenchError, LtbenchWarning
from ltbench.models.experts import Backbone


def backbone(name: str, size: int = 32, **options) -> Backbone:
    return Backbone(name, classes=7, channels=3, image_size=size, head="linear", **options)


@pytest.mark.parametrize(
    ("name", "size", "last_shared"),
    [
        ("cifar_resnet20", 32, "layer1"),
        ("resnet18", 32, "layer2"),
        ("resnext50_32x4d", 32, "layer2"),
        ("convnext_atto", 32, "stages.1"),
        ("regnety_002", 32, "s2"),
        ("efficientnet_lite0", 32, "blocks.2"),
        ("vit_tiny_patch16_224", 64, "blocks.8"),
    ],
)
def test_experts_share_the_early_stages(name, size, last_shared):
    network = backbone(name, size)(2)
    assert network.trunk.stages[-1] == last_shared
    images = torch.rand(2, 3, size, size)
    assert network.experts(images).shape == (2, 2, 7)
    network.experts(images).sum().backward()
    assert [key for key, weight in network.named_parameters() if weight.grad is None] == []


@pytest.mark.parametrize(("name", "size"), [("resnet18", 32), ("convnext_atto", 32), ("vit_tiny_patch16_224", 64)])
def test_a_split_network_computes_what_the_whole_one_does(name, size):
    build = backbone(name, size)
    whole, split = build(1), build(2)
    single = whole.branches[0].model.state_dict()
    split.trunk.model.load_state_dict(single, strict=False)
    split.branches[1].model.load_state_dict(single, strict=False)
    images = torch.rand(3, 3, size, size)
    whole.eval(), split.eval()
    with torch.no_grad():
        torch.testing.assert_close(split.features(images)[1], whole.features(images)[0])


def test_unshared_experts_are_complete_networks():
    build = backbone("cifar_resnet20")
    size = lambda net: sum(weight.numel() for weight in net.parameters())  # noqa: E731
    assert size(build(3, shared=False)) == 3 * size(build(1))


def test_a_network_that_cannot_be_taken_apart_warns():
    with pytest.warns(LtbenchWarning, match="complete network"):
        network = backbone("eva02_tiny_patch14_224", 56)(2)
    assert network.experts(torch.rand(1, 3, 56, 56)).shape == (2, 1, 7)


@pytest.mark.parametrize("name", ["convnext_atto", "vit_tiny_patch16_224"])
def test_experts_have_full_width_where_three_quarters_are_not_defined(name):
    with pytest.warns(LtbenchWarning, match="three quarters of the width are not defined"):
        narrow = backbone(name, 64)(2, width=0.75)
    full = backbone(name, 64)(2)
    assert [weight.shape for weight in narrow.parameters()] == [weight.shape for weight in full.parameters()]


def test_other_widths_are_refused():
    with pytest.raises(LtbenchError, match=r"width 0\.5"):
        backbone("cifar_resnet20", 32)(2, width=0.5)


@pytest.mark.parametrize(
    ("name", "classes", "experts", "width", "published"),
    [  # billions of multiply-adds as SADE's authors state them; theirs count more than convolutions and products
        ("resnext50_32x4d", 1000, 1, 1, 4.26),
        ("resnext50_32x4d", 1000, 3, 0.75, 6.08),
        ("resnet50", 8142, 1, 1, 4.14),
        ("resnet50", 8142, 3, 0.75, 5.80),
    ],
)
def test_sizes_are_the_published_ones(name, classes, experts, width, published):
    build = Backbone(name, classes=classes, channels=3, image_size=224, head="cosine")
    network = build(experts, width=width).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network.experts(torch.zeros(1, 3, 224, 224))
    assert counter.get_total_flops() / 2e9 == pytest.approx(published, rel=0.01)
    assert network.num_features == 2048 * width


def test_a_resnet_starts_as_the_published_ones():
    # Convolutions N(0, 2 / (k k out)), batch norms 1 and 0: also the last of a block, which timm starts at 0.
    block = backbone("resnet50")(1).branches[0].model.layer1[1]
    assert block.conv2.weight.std().item() == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.02)
    assert all((norm.weight == 1).all() and (norm.bias == 0).all() for norm in (block.bn1, block.bn2, block.bn3))


def test_three_quarter_width_of_a_timm_resnet():
    network = backbone("resnet50")(2, width=0.75)
    assert network.features(torch.rand(2, 3, 32, 32)).shape == (2, 2, 1536)


def test_images_too_small_for_the_network_are_refused():
    with pytest.raises(LtbenchError, match="8 x 8"):
        backbone("vit_tiny_patch16_224", 8)(1)


def test_pretrained_weights_that_do_not_exist_are_refused():
    with pytest.raises(LtbenchError, match="no pre-trained weights for 'cifar_resnet20'"):
        backbone("cifar_resnet20", pretrained=True)(1)


@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_heads(kind):
    network = backbone("cifar_resnet20")(1, head=kind)
    features = torch.randn(1, 5, 64)
    logits = network.classify(features)
    scaled = network.classify(10 * features)
    assert torch.allclose(logits, scaled, atol=1e-4) == (kind == "cosine")
    assert kind == "linear" or logits.abs().max() <= 30.0001
