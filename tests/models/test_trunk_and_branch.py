"""Networks of timm in two: the trunk that experts share, a branch, and networks that are not divided."""

import warnings

import pytest
import timm
import torch
from torch import nn

from ltbench.errors import LtbenchWarning
from ltbench.models.backbone import Backbone
from ltbench.models.tracing import FeatureExtractor
from ltbench.models.trunk_and_branch import split

# Each row: what is built, with options where its smallest member is large; the last stage or block that experts share.
WHOLE = "complete networks"
SMALL_RESNET = {"layers": (1, 1, 1, 1), "channels": (32, 64, 128, 128)}
SMALL_VIT = {"embed_dim": 48, "depth": 8, "num_heads": 3}
SMALL_SWIN = {"embed_dim": 12, "depths": (1, 2, 1, 1), "num_heads": (1, 2, 2, 4)}
FAMILIES = [
    ("cifar_resnet20", 16, {}, "layer1"),
    ("resnet18", 32, SMALL_RESNET, "layer2"),
    ("resnext50_32x4d", 32, SMALL_RESNET, "layer2"),
    ("seresnet18", 32, SMALL_RESNET, "layer2"),
    ("skresnet18", 32, SMALL_RESNET, "layer2"),
    ("resnest14d", 64, {}, "layer2"),
    ("legacy_seresnet18", 32, {}, "layer1"),
    ("res2net50_14w_8s", 32, SMALL_RESNET, "layer2"),
    ("resnetv2_50", 32, {"layers": (1, 1, 1, 1)}, "stages.1"),
    ("test_nfnet", 32, {}, "stages.1"),
    ("regnety_002", 32, {}, "s2"),
    ("repvgg_a0", 32, {}, "stages.1"),
    ("botnet26t_256", 64, {}, "stages.1"),
    ("cs3darknet_s", 64, {}, "stages.1"),
    ("ese_vovnet19b_slim_dw", 64, {}, "stages.1"),
    ("densenet121", 32, {"growth_rate": 8, "block_config": (2, 2, 2, 2)}, "features.transition1"),
    ("vgg11", 32, {"mlp_ratio": 0.02}, "features.10"),
    ("dpn48b", 32, {}, "features.conv3_4"),
    ("dla46_c", 32, {}, "level2"),
    ("inception_v3", 96, {}, WHOLE),
    ("inception_next_atto", 64, {}, "stages.1"),
    ("tresnet_m", 64, {"layers": (1, 1, 1, 1)}, WHOLE),
    ("efficientnet_b0", 32, {}, "blocks.2"),
    ("efficientnet_lite0", 32, {}, "blocks.2"),
    ("mobilenetv2_035", 32, {}, "blocks.2"),
    ("mobilenetv3_small_050", 32, {}, "blocks.2"),
    ("mobilenetv4_conv_small_035", 64, {}, "blocks.1"),
    ("mixnet_s", 32, {}, "blocks.2"),
    ("lcnet_035", 32, {}, "blocks.2"),
    ("ghostnet_050", 32, {}, "blocks.4"),
    ("repghostnet_050", 32, {}, "blocks.4"),
    ("rexnet_100", 32, {}, "features.7"),
    ("hgnetv2_b0", 64, {}, "stages.1"),
    ("starnet_s050", 64, {}, "stages.1"),
    ("fasternet_t0", 64, {}, "stages.1"),
    ("convnext_atto", 32, {"depths": (1, 1, 2, 1), "dims": (8, 8, 16, 16)}, "stages.1"),
    ("convnextv2_atto", 32, {"depths": (1, 1, 2, 1), "dims": (8, 8, 16, 16)}, "stages.1"),
    ("poolformer_s12", 32, {}, "stages.1"),
    ("mambaout_femto", 64, {}, "stages.1"),
    ("mixer_s32_224", 64, {}, "blocks.3"),
    ("resmlp_12_224", 32, {}, "blocks.5"),
    ("gmlp_ti16_224", 32, {}, "blocks.14"),
    ("sequencer2d_s", 64, {"layers": (1, 1, 2, 1), "embed_dims": (24, 24, 48, 48)}, "stages.1"),
    ("vit_tiny_patch16_224", 64, {"embed_dim": 48}, "blocks.8"),
    ("test_vit", 32, {}, "blocks.3"),
    ("vit_tiny_r_s16_p8_224", 64, {"depth": 8}, "blocks.5"),
    ("vit_relpos_small_patch16_224", 32, SMALL_VIT, "blocks.5"),
    ("vit_srelpos_small_patch16_224", 32, SMALL_VIT, "blocks.5"),
    ("deit_tiny_distilled_patch16_224", 32, {"depth": 8}, "blocks.5"),
    ("deit3_small_patch16_224", 32, SMALL_VIT, "blocks.5"),
    ("vit_base_patch16_siglip_224", 32, SMALL_VIT, "blocks.5"),
    ("samvit_base_patch16_224", 64, SMALL_VIT | {"neck_chans": 32, "global_attn_indexes": (3,)}, "blocks.5"),
    ("beit_base_patch16_224", 32, SMALL_VIT, "blocks.5"),
    ("beit_base_patch16_224", 32, SMALL_VIT | {"use_rel_pos_bias": False, "use_shared_rel_pos_bias": True}, "blocks.5"),
    ("eva02_tiny_patch14_224", 56, {"embed_dim": 48}, "blocks.8"),
    ("vit_small_patch16_dinov3", 32, SMALL_VIT, "blocks.5"),
    ("cait_xxs24_224", 32, {"depth": 8, "embed_dim": 48}, "blocks.5"),
    ("xcit_nano_12_p16_224", 32, {}, "blocks.8"),
    ("convit_tiny", 224, {"depth": 4, "local_up_to_layer": 2}, "blocks.2"),
    ("tnt_s_patch16_224", 32, {"embed_dim": 48, "depth": 8, "num_heads_outer": 3}, "blocks.5"),
    ("hiera_tiny_224", 64, {"embed_dim": 24, "num_heads": 1}, "blocks.8"),
    ("swin_tiny_patch4_window7_224", 56, SMALL_SWIN, "layers.1"),
    ("swinv2_tiny_window8_256", 64, SMALL_SWIN, "layers.1"),
    ("swinv2_cr_tiny_224", 64, SMALL_SWIN, "stages.1"),
    ("coat_tiny", 32, {}, WHOLE),
    ("davit_tiny", 64, {"depths": (1, 1, 1, 1), "embed_dims": (12, 24, 48, 48), "num_heads": (1, 2, 3, 3)}, "stages.1"),
    ("pvt_v2_b0", 64, {}, "stages.1"),
    ("pit_ti_224", 64, {}, "transformers.0"),
    ("levit_128s", 64, {}, "stages.0"),
    ("efficientformerv2_s0", 64, {}, "stages.1"),
    ("efficientvit_m0", 64, {}, "stages.0"),
    ("efficientvit_b0", 64, {}, "stages.1"),
    ("mobilevit_xxs", 64, {}, "stages.1"),
    ("mobilevitv2_050", 64, {}, "stages.1"),
    ("edgenext_xx_small", 64, {}, "stages.1"),
    ("swiftformer_xs", 64, {}, "stages.1"),
    # those whose smallest member is large, or has many layers
    (
        "tiny_vit_5m_224",
        64,
        {"depths": (1, 1, 2, 1), "embed_dims": (16, 32, 32, 64), "num_heads": (1, 1, 1, 2)},
        "stages.1",
    ),
    ("visformer_tiny", 64, {"embed_dim": 96}, "patch_embed2"),
    ("twins_svt_small", 64, {}, WHOLE),
]
AT_EVERY_EDIT = {"cifar_resnet20", "resnet18", "test_vit"}


class Small(Backbone):
    """Networks with options of timm's."""

    def __init__(self, name: str, size: int, options: dict) -> None:
        super().__init__(name, classes=7, channels=3, image_size=size, head="linear")
        self.options = options

    def _create(self, width):
        if not self.options:
            return super()._create(width)
        sized = {"img_size": self.shape[1]} if timm.get_pretrained_cfg(self.name).fixed_input_size else {}
        return timm.create_model(self.name, num_classes=0, **sized, **self.options)


def perturbed(state: dict) -> dict:
    """Other values everywhere, running statistics among them: none is an initialisation's."""
    return {name: _perturbed(name, value) if value.is_floating_point() else value for name, value in state.items()}


def _perturbed(name: str, value: torch.Tensor) -> torch.Tensor:
    if name.endswith("running_var"):
        return value * (0.5 + torch.rand_like(value))
    spread = value.std() if value.numel() > 1 else value.abs().mean()
    return value + 0.1 * spread.clamp(min=0.1) * torch.randn_like(value)


def loaded(part, state: dict):
    """A part of a network with the weights that are its own; the names of those of its parameters."""
    names = {name for name, _ in part.model.named_parameters()}
    assert names.isdisjoint(part.model.load_state_dict(state, strict=False).missing_keys)
    return names


def close(found, expected):
    scale = expected.abs().max().item()
    assert scale > 0
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * scale)


@pytest.mark.parametrize(
    ("name", "size", "options", "shared"),
    [pytest.param(*row, marks=() if row[0] in AT_EVERY_EDIT else pytest.mark.slow) for row in FAMILIES],
    ids=lambda value: value if type(value) is str else "",
)
def test_trunk_and_branch_compute_what_the_whole_network_does(name, size, options, shared, quickly):
    build = Small(name, size, options)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", LtbenchWarning)
        network = quickly(lambda: build(2))
    torch.manual_seed(1)
    whole = build(1).branches[0]
    if shared == WHOLE:
        assert [str(one.message) for one in said if issubclass(one.category, LtbenchWarning)] == [
            f"the stages of '{name}' cannot be found: each expert is a complete network"
        ]
        assert [type(branch) for branch in network.branches] == [FeatureExtractor, FeatureExtractor]
        assert next(network.trunk.parameters(), None) is None
        return
    trunk, branch = network.trunk, network.branches[1]
    assert trunk.stages[-1] == shared or trunk.modules_with_parameters[-1] == shared
    state = perturbed(whole.model.state_dict())
    whole.model.load_state_dict(state)
    names = [loaded(part, state) for part in (trunk, branch)]
    images = torch.randn(2, 3, size, size)
    whole.eval(), network.eval()
    with torch.no_grad():
        close(branch(trunk(images)), whole(images))
    whole.train(), network.train()
    torch.manual_seed(2)  # of dropout
    expected = whole(images)
    torch.manual_seed(2)
    shared_values = trunk(images)
    found = branch(shared_values)
    close(found, expected)
    expected.sum().backward()
    assert names[0].isdisjoint(names[1])
    assert names[0] | names[1] == {key for key, weight in whole.model.named_parameters() if weight.grad is not None}
    network.classify(torch.stack([network.branches[0](shared_values), found])).sum().backward()
    assert [key for key, weight in network.named_parameters() if weight.grad is None] == []


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size"), [("cifar_resnet20", 16), ("test_vit", 32), ("coat_tiny", 32)])
def test_the_division_does_not_depend_on_the_weights(name, size):
    build = Small(name, size, {})
    model, other = (build(1).branches[0].model for _ in range(2))
    other.load_state_dict(perturbed(other.state_dict()))
    divided, again = (split(each, build.shape) for each in (model, other))
    if name == "coat_tiny":
        assert divided is again is None
    else:
        assert [str(graph) for graph in again] == [str(graph) for graph in divided]


def test_dividing_leaves_the_network_and_torchs_random_state_alone():
    model = timm.create_model("densenet121", num_classes=0, drop_rate=0.5, block_config=(1, 1, 1, 1))
    state = {name: value.clone() for name, value in model.state_dict().items()}
    before = torch.get_rng_state()
    assert split(model, (3, 32, 32)) is not None
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_the_division_does_not_depend_on_whether_gradients_are_wanted(context):
    with context():
        assert Small("cifar_resnet20", 8, {})(2).trunk.modules_with_parameters == ["conv1", "bn1", "layer1"]


class Looking(nn.Module):
    """A network whose code looks at its images, at its weights, or at whether it trains."""

    def __init__(self, question):
        super().__init__()
        self.question = question
        self.layer1, self.layer2 = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)
        nn.init.zeros_(self.layer1.bias)

    def forward_features(self, x):
        x = self.layer1(x)
        return self.layer2(-x if self.question(self, x) else x)

    def forward_head(self, x, pre_logits):
        return x.mean((2, 3))


@pytest.mark.parametrize(
    ("question", "divided"),
    [
        (lambda model, x: x.shape[2] == 8, True),
        (lambda model, x: x.mean() > 0, False),
        (lambda model, x: x.shape[0] == 1, False),
        (lambda model, x: model.training, False),
        (lambda model, x: model.layer1.bias.sum().item() == 0, False),  # so at the start, and at no later time
    ],
    ids=["size", "pixels", "batch", "training", "weights"],
)
def test_networks_that_compute_what_no_graph_says_are_not_divided(question, divided):
    assert (split(Looking(question), (3, 8, 8)) is not None) == divided


class Sharing(Looking):
    """A network that uses a layer of its trunk again."""

    def forward_features(self, x):
        return self.layer1(self.layer2(self.layer1(x))[:, :3])


class InPlace(Looking):
    """A network whose last stage changes its input."""

    def __init__(self):
        super().__init__(None)
        self.layer2 = nn.Sequential(nn.Hardswish(inplace=True), nn.Conv2d(4, 4, 1))

    def forward_features(self, x):
        return self.layer2(self.layer1(x))


@pytest.mark.parametrize("model", [Sharing(None), InPlace()], ids=["a shared layer", "a change in place"])
def test_networks_whose_parts_would_disturb_each_other_are_not_divided(model):
    assert split(model, (3, 8, 8)) is None
