"""Activation checkpointing: the same training bit for bit, batch norm's statistics too."""

import json

import numpy as np
import pytest
import timm
import torch
from torch import nn

from ltbench import registry, rng
from ltbench.config import Recipe
from ltbench.data.images import LabelledImages
from ltbench.data.loading.in_memory import InMemoryLoader
from ltbench.errors import LtbenchError
from ltbench.method import ClassPrior
from ltbench.models.backbone import Backbone
from ltbench.models.blocks import blocks
from ltbench.models.experts import ExpertNetwork
from ltbench.models.heads import HEADS
from ltbench.training.activation_checkpointing import activation_checkpointing
from ltbench.training.distributed.batch_norm import sync_batch_norm
from ltbench.training.distributed.process_group import ALONE
from ltbench.training.options import TrainOptions
from ltbench.training.trainer import fit

pytestmark = pytest.mark.slow

COUNTS = (12, 7, 4, 2)
RECIPE = Recipe(epochs=2, batch_size=12, lr=0.02)


class Small(Backbone):
    """A timm network with settings of its own."""

    def __init__(self, name, **settings):
        self.settings = settings
        super().__init__(name, classes=len(COUNTS), channels=3, image_size=32, head="linear")

    def _create(self, width):
        return timm.create_model(self.name, num_classes=0, **self.settings)


NETWORKS = {
    "resnet": Small("resnet10t", channels=(16, 32, 48, 64)),
    "vit": Small(
        "vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=24, depth=4, num_heads=2,
        drop_path_rate=0.3, proj_drop_rate=0.2, attn_drop_rate=0.2,
    ),
    "convnext": Small("convnext_atto", depths=(1, 1, 2, 1), dims=(8, 8, 16, 16), drop_path_rate=0.3),
    "regnet": Small("regnetx_002"),  # keeps its blocks under names of its own
}  # fmt: skip


def images():
    labels = np.repeat(np.arange(len(COUNTS)), COUNTS)
    pixels = np.random.default_rng(0).integers(0, 256, (len(labels), 3, 32, 32)).astype(np.uint8)
    return InMemoryLoader(LabelledImages(pixels, labels), (0.5,) * 3, (0.25,) * 3, torch.device("cpu"))


def trained(network, *, group=ALONE, accumulate=1, sync_norms=False, checkpoint_activations=False):
    """The trained state, how often each block's first layer ran, and how steps were taken."""
    cls = registry.method("balpoe")
    with rng.global_stream(0, "init"):
        config = cls.Config.model_validate({"experts": 2})
        method = cls(NETWORKS[network], ClassPrior(torch.tensor(COUNTS)), config)
    if sync_norms:
        sync_batch_norm(method, group)
    layers = [next(layer for layer in block.modules() if hasattr(layer, "weight")) for block in blocks(method.network)]
    ran = [0] * len(layers)
    for i, layer in enumerate(layers):
        layer.register_forward_hook(lambda *_, i=i: ran.__setitem__(i, ran[i] + 1))
    options = TrainOptions(group=group, accumulate=accumulate, checkpoint_activations=checkpoint_activations)
    history = fit(method, images(), RECIPE, seed=0, options=options)
    assert not any("forward" in vars(block) for block in blocks(method.network))
    return {name: value.numpy().copy() for name, value in method.state_dict().items()}, ran, history.execution


def assert_same_training(plain, again):
    assert plain[0].keys() == again[0].keys()
    for name, value in plain[0].items():
        np.testing.assert_array_equal(again[0][name], value, err_msg=name)
    assert again[1] == [2 * count for count in plain[1]]
    assert (plain[2], again[2]) == ("eager", "eager; activations recomputed")


@pytest.mark.parametrize(("network", "accumulate"), [(name, 1) for name in NETWORKS] + [("resnet", 2)])
@pytest.mark.filterwarnings("ignore:batch norm sees")
def test_training_is_the_same_bit_for_bit(network, accumulate):
    plain, again = (trained(network, accumulate=accumulate, checkpoint_activations=on) for on in (False, True))
    assert len(plain[1]) >= 4
    assert_same_training(plain, again)


def test_synchronised_batch_norm_counts_a_batch_once(together):
    def work(group):
        return [trained("resnet", group=group, sync_norms=True, checkpoint_activations=on) for on in (False, True)]

    for plain, again in together(2, work):
        assert_same_training(plain, again)


def test_methods_that_look_twice_and_are_compiled():
    """NCL runs its network on two views in one step; what was asked to be compiled is not, and says so."""
    cls = registry.method("ncl")
    states, executions = [], []
    for on in (False, True):
        with rng.global_stream(0, "init"):
            method = cls(NETWORKS["vit"], ClassPrior(torch.tensor(COUNTS)), cls.Config())
        options = TrainOptions(checkpoint_activations=on, compiled=on)
        history = fit(method, images(), RECIPE, seed=0, options=options)
        states.append(method.state_dict())
        executions.append(history.execution)
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert executions == ["eager", "eager; activations recomputed"]


class Doubling(nn.Module):
    """Changes what it is given."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x):
        return self.layer(x.mul_(2)).exp()


def test_an_input_changed_in_place_is_refused():
    network = ExpertNetwork(nn.Linear(3, 3), [Doubling()], [HEADS["linear"](3, 2)])
    with (
        activation_checkpointing(network),
        pytest.raises(LtbenchError, match=r"a Doubling changes its input(.|\n)*--checkpoint-act"),
    ):
        network(torch.ones(2, 3))


def test_a_run_says_that_it_recomputes_and_keeps_its_id(cli, tmp_path):
    words = ("run", "--method", "ce", "--epochs", 1, "--device", "cpu", "--rerun", "--out", tmp_path)
    results = []
    for flag in ((), ("--checkpoint-activations",)):
        assert cli(*words, *flag).code == 0
        (path,) = tmp_path.rglob("*.json")  # one file: the run id is the same
        results.append(json.loads(path.read_text()))
    plain, again = results
    assert again["cost"]["training"] == "eager; activations recomputed"
    assert again["curve"][0]["loss"] == plain["curve"][0]["loss"]
    assert again["metrics"]["test"] == plain["metrics"]["test"]
