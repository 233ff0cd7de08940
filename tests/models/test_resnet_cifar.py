"""The CIFAR ResNets against the published networks."""

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from ltbench.models.backbone import Backbone
from ltbench.models.experts import ExpertNetwork
from ltbench.models.published_resnets import read_network
from tests.conftest import GOLDEN


def network(experts: int, head: str, *, classes: int = 100, width: float = 1.0) -> ExpertNetwork:
    build = Backbone("cifar_resnet32", classes=classes, channels=3, image_size=32, head=head)
    return build(experts, width=width)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "experts", "head"),
    [
        ("resnet32_linear", 1, "linear"),
        ("resnet32_cosine", 1, "cosine"),
        ("resnet32_3_experts_cosine", 3, "cosine"),
    ],
)
def test_logits_equal_the_published_network(name, experts, head, golden_networks, published_state):
    case = golden_networks(name)
    for mode in ("eval", "train"):
        found, net = read_network(published_state(case), name)
        assert (found.experts, found.head, found.width, found.classes) == (experts, head, 1.0, 100)
        net.train(mode == "train")
        with torch.no_grad():
            logits = net.experts(torch.from_numpy(case[f"{mode}_images"])).numpy()
        want = case[f"{mode}_logits"].reshape(logits.shape)
        np.testing.assert_allclose(logits, want, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("experts", "width", "parameters", "mega_multiply_adds"),
    [
        (1, 1.0, 469_904, 68.9),
        (2, 1.0, 915_984, 113.7),
        (3, 1.0, 1_362_064, 158.5),
        (7, 1.0, 3_146_384, 337.9),
        (1, 0.75, 277_168, 49.5),
        (3, 0.75, 783_856, 100.4),
    ],
)
def test_sizes_equal_the_published_ones(experts, width, parameters, mega_multiply_adds):
    net = network(experts, "cosine", width=width).eval()
    assert sum(weight.numel() for weight in net.parameters()) == parameters
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(torch.zeros(1, 3, 32, 32))
    assert round(counter.get_total_flops() / 2e6, 1) == mega_multiply_adds


@pytest.mark.parametrize(
    ("name", "layers"), [("8", 8), ("20", 20), ("32", 32), ("32_wide", 32), ("44", 44), ("56", 56)]
)
def test_depth_counts_the_weighted_layers(name, layers):
    import timm

    net = timm.create_model(f"cifar_resnet{name}", num_classes=10)
    weighted = [m for m in net.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
    assert len(weighted) == layers
    assert net(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_the_wide_network_has_four_times_the_channels():
    # By hand, c = 64: 3 x 3 kernels, 9 (3 c + 10 c^2 + 2 c^2 + 9 (2 c)^2 + 8 c^2 + 9 (4 c)^2); two batch-norm weights
    # for each of 11 c + 10 (2 c) + 10 (4 c) channels; a classifier of 4 c weights and a bias for each of 100 classes.
    wide = Backbone("cifar_resnet32_wide", classes=100, channels=3, image_size=32, head="linear")(1)
    convolutions = 9 * (3 * 64 + 10 * 64**2 + 2 * 64**2 + 9 * 128**2 + 8 * 64**2 + 9 * 256**2)
    assert wide.num_features == 256
    assert sum(weight.numel() for weight in wide.parameters()) == convolutions + 2 * 71 * 64 + 257 * 100


def test_the_wide_network_is_that_of_the_code_of_glmc():
    import timm

    net, draws = timm.create_model("cifar_resnet32_wide", num_classes=0), torch.Generator().manual_seed(0)
    for name, value in sorted(net.state_dict().items()):
        if value.ndim == 4:
            value.copy_(torch.randn(value.shape, generator=draws) * (2 / value[0].numel()) ** 0.5)
        elif name.endswith("running_var") or (value.ndim == 1 and name.endswith("weight")):
            value.copy_(torch.rand(value.shape, generator=draws) + 0.5)
        elif value.ndim == 1:
            value.copy_(torch.randn(value.shape, generator=draws) * 0.1)
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    want = np.load(GOLDEN / "wide_resnet32.npz")
    for mode in ("eval", "train"):
        with torch.no_grad():
            found = net.train(mode == "train")(images)
        np.testing.assert_allclose(found.numpy(), want[f"wide_resnet32/{mode}_features"], rtol=1e-4, atol=1e-4)


def test_narrow_experts_of_the_wide_network_have_three_quarters_of_its_own_channels():
    build = Backbone("cifar_resnet32_wide", classes=10, channels=3, image_size=32, head="linear")
    assert build(2, width=0.75).num_features == 192
    assert network(2, "linear", width=0.75).num_features == 48


def test_timm_interface():
    import timm

    net = timm.create_model("cifar_resnet20", num_classes=10, in_chans=1)
    net.reset_classifier(7)
    assert net.get_classifier().out_features == 7
    assert net(torch.zeros(2, 1, 8, 8)).shape == (2, 7)
