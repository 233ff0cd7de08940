"""Experts over timm networks: their sizes, widths and initial weights, and what is refused."""

import pytest
import timm
import torch
from torch.utils.flop_counter import FlopCounterMode

from ltbench.errors import LtbenchError, LtbenchWarning
from ltbench.models.backbone import Backbone
from ltbench.models.heads import HEADS


def backbone(name: str, size: int = 32, **options) -> Backbone:
    return Backbone(name, classes=7, channels=3, image_size=size, head="linear", **options)


def test_unshared_experts_are_complete_networks():
    build = backbone("cifar_resnet20")
    size = lambda net: sum(weight.numel() for weight in net.parameters())  # noqa: E731
    assert size(build(3, shared=False)) == 3 * size(build(1))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["convnext_atto", "vit_tiny_patch16_224"])
def test_experts_have_full_width_where_three_quarters_are_not_defined(name):
    with pytest.warns(LtbenchWarning, match="three quarters of the width are not defined"):
        narrow = backbone(name, 64)(2, width=0.75)
    full = backbone(name, 64)(2)
    assert [weight.shape for weight in narrow.parameters()] == [weight.shape for weight in full.parameters()]


def test_other_widths_are_refused():
    with pytest.raises(LtbenchError, match=r"width 0\.5"):
        backbone("cifar_resnet20", 32)(2, width=0.5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "classes", "experts", "width", "published"),
    [  # billions of multiply-adds as SADE's authors state them; theirs count more than convolutions and products
        ("resnext50_32x4d", 1000, 1, 1, 4.26),
        ("resnext50_32x4d", 1000, 3, 0.75, 6.08),
        ("resnet50", 8142, 1, 1, 4.14),
        ("resnet50", 8142, 3, 0.75, 5.80),
    ],
)
def test_sizes_are_the_published_ones(name, classes, experts, width, published, quickly):
    build = Backbone(name, classes=classes, channels=3, image_size=64, head="cosine")
    network = quickly(lambda: build(experts, width=width)).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network.experts(torch.zeros(1, 3, 224, 224))
    assert counter.get_total_flops() / 2e9 == pytest.approx(published, rel=0.01)
    assert network.num_features == 2048 * width


def test_a_resnet_starts_as_the_published_ones():
    # Convolutions N(0, 2 / (k k out)), batch norms 1 and 0: also the last of a block, which timm starts at 0.
    block = backbone("resnet50")(1).branches[0].model.layer1[1]
    assert block.conv2.weight.std().item() == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.02)
    assert all((norm.weight == 1).all() and (norm.bias == 0).all() for norm in (block.bn1, block.bn2, block.bn3))


@pytest.mark.slow
def test_three_quarter_width_of_a_timm_resnet():
    network = backbone("resnet50")(2, width=0.75)
    assert network.features(torch.rand(2, 3, 32, 32)).shape == (2, 2, 1536)


def test_images_too_small_for_the_network_are_refused():
    with pytest.raises(LtbenchError, match="8 x 8"):
        backbone("vit_tiny_patch16_224", 8)(1)


@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_heads(kind):
    network = backbone("cifar_resnet20")(1, head=kind)
    features = torch.randn(1, 5, 64)
    logits = network.classify(features)
    scaled = network.classify(10 * features)
    assert torch.allclose(logits, scaled, atol=1e-4) == (kind == "cosine")
    assert kind == "linear" or logits.abs().max() <= 30.0001


def multiply_adds(network, size):
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network.eval().experts(torch.zeros(1, 3, size, size))
    return counter.get_total_flops() // 2


@pytest.mark.slow
def test_experts_of_a_transformer_whose_blocks_start_as_the_identity_keep_them_all():
    # Layer scales of 1e-5 once made the network look complete after its patch embedding.
    build = backbone("vit_relpos_small_patch16_224", 32)
    one, three = (multiply_adds(build(experts), 32) for experts in (1, 3))
    block = 12 * 384**2 * 4  # of a token: queries, keys, values, projection, two layers of 4 x 384; four tokens
    assert three - one == pytest.approx(2 * 3 * block, rel=0.01)  # three of twelve blocks of two more experts


@pytest.mark.slow
def test_efficientnet_experts_keep_the_last_norm():
    network = backbone("efficientnet_b0", 32)(2)
    own = network.branches[0].modules_with_parameters
    assert own == ["blocks.3", "blocks.4", "blocks.5", "blocks.6", "conv_head", "bn2"]


def test_dividing_leaves_initial_weights_as_they_were_drawn():
    # Stored results rest on this order of draws: the networks of the branches, one image, the trunk, the heads.
    torch.manual_seed(0)
    network = backbone("cifar_resnet20")(2)
    after = torch.get_rng_state()
    torch.manual_seed(0)
    branches = [timm.create_model("cifar_resnet20", num_classes=0) for _ in range(2)]
    torch.rand(1, 3, 32, 32)
    trunk = timm.create_model("cifar_resnet20", num_classes=0)
    heads = [HEADS["linear"](64, 7) for _ in range(2)]
    assert torch.equal(torch.get_rng_state(), after)
    for made, drawn in zip(
        [network.trunk.model, *(branch.model for branch in network.branches), *network.heads],
        [trunk, *branches, *heads],
        strict=True,
    ):
        expected = drawn.state_dict()
        assert all(torch.equal(value, expected[name]) for name, value in made.state_dict().items())


@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_logits_are_float32_whatever_the_precision_around_them(kind):
    """In bfloat16 many would tie, and the lowest label would win."""
    torch.manual_seed(0)
    head, features = HEADS[kind](64, 100), torch.randn(500, 64)
    with torch.autocast("cpu", torch.bfloat16):
        logits = head(features)
        narrow = head(features.bfloat16())
    assert logits.dtype == narrow.dtype == torch.float32
    torch.testing.assert_close(logits, head(features))
    assert all(len(row.unique()) == 100 for row in logits)
