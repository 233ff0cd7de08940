"""LIFT: where its adapters are, what they start at, and what trains."""

import re
from copy import deepcopy

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from ltbench import registry
from ltbench.config import Recipe, RunConfig
from ltbench.conformance import Subject
from ltbench.data.images import LabelledImages
from ltbench.data.loading.in_memory import InMemoryLoader
from ltbench.method import ClassPrior, Stage, at_rest
from ltbench.method.build import build_method
from ltbench.models.backbone import Backbone
from ltbench.runs.resolve import resolve
from ltbench.training.trainer import fit
from ltbench_methods.lift import AdaptedBlock, Adapter, bottleneck

BLOCKS = 6  # of timm's smallest vision transformer
COUNTS = torch.tensor([9, 4, 2])


@pytest.fixture(scope="module")
def plain():
    return Backbone("test_vit", classes=3, channels=3, image_size=32, head="cosine")().eval()


@pytest.fixture
def make(plain):
    cls = registry.method("lift")
    return lambda width: cls(lambda **kwargs: deepcopy(plain), ClassPrior(COUNTS), cls.Config(bottleneck=width))


@pytest.fixture
def method(make):
    return make(4)


@pytest.fixture(scope="module")
def data():
    labels = np.repeat(np.arange(3), COUNTS.numpy())
    images = np.random.default_rng(0).integers(0, 256, (len(labels), 3, 32, 32)).astype(np.uint8)
    return InMemoryLoader(LabelledImages(images, labels), (0.5,) * 3, (0.25,) * 3, torch.device("cpu"))


def test_the_width_is_the_published_one():
    # Twelve blocks: 100 / 24 = 4.2, 1000 / 24 = 42, 8142 / 24 = 339, 10 / 24 < 1.
    assert [bottleneck(classes, 12) for classes in (100, 1000, 8142, 10)] == [4, 32, 256, 1]


def test_an_adapter_by_hand():
    # x = (1, -1) is its own norm; down 2 * 1 + 1 * -1 + 0.5 = 1.5, relu 1.5, up (1.5, -1.5 + 1), times 3.
    adapter = Adapter(2, 1)
    adapter.down.weight.data, adapter.down.bias.data = torch.tensor([[2.0, 1.0]]), torch.tensor([0.5])
    adapter.up.weight.data, adapter.up.bias.data = torch.tensor([[1.0], [-1.0]]), torch.tensor([0.0, 1.0])
    adapter.scale.data = torch.tensor([3.0])
    assert adapter(torch.tensor([[1.0, -1.0]])).tolist()[0] == pytest.approx([4.5, -1.5], abs=1e-3)
    assert adapter(torch.tensor([[-1.0, 1.0]])).tolist()[0] == pytest.approx([0.0, 3.0])  # below zero: up's bias


def test_every_block_has_an_adapter_that_starts_at_zero(method, plain, data):
    adapted = [module for module in method.network.modules() if isinstance(module, AdaptedBlock)]
    assert len(adapted) == BLOCKS
    assert {len(module.adapter.down.weight) for module in adapted} == {4}
    images = next(data.eval_batches()).images
    with torch.no_grad():
        assert torch.equal(method.network.features(images), plain.features(images))
        for module in adapted:
            before = method.network.features(images)
            module.adapter.up.bias += 0.1 * torch.randn(64, generator=torch.Generator().manual_seed(0))
            assert not torch.allclose(method.network.features(images), before)


def test_only_adapters_and_classifier_train(make, data):
    method = make(32)  # of four units all can be below zero for every image, and nothing before them would move
    batch = next(data.eval_batches())
    method(batch, at_rest(Stage())).mean.backward()
    own = {name for name, _ in method.named_parameters() if ".adapter." in name or "heads" in name}
    assert {name for name, weight in method.named_parameters() if weight.grad is not None} == own
    assert len(own) == 7 * BLOCKS + 1
    before = {name: weight.detach().clone() for name, weight in method.named_parameters()}
    recipe = Recipe(epochs=3, batch_size=8, lr=0.1)
    fit(method, data, recipe, seed=0)
    assert {name for name, weight in method.named_parameters() if not torch.equal(weight, before[name])} == own


def test_the_classifier_starts_at_the_class_means(method, plain, data):
    method.begin(Stage(), data)
    batch = next(data.eval_batches())
    with torch.no_grad():
        features = plain.features(batch.images)[0]
    means = torch.stack([features[batch.labels == label].mean(0) for label in range(3)])
    torch.testing.assert_close(method.network.heads[0].weight.detach(), F.normalize(means, dim=1))
    assert method.network.heads[0].scale == 25


def test_the_prior_is_in_the_loss(method_of_resnet, data):
    # Two logits alike but for the prior: CE(z + log pi) of zero features is -log pi_y.
    method, batch = method_of_resnet
    method.network.heads[0].weight.data.zero_()
    counts = torch.tensor([16, 9, 5, 3])
    want = -(counts / counts.sum()).log()[batch.labels].mean()
    torch.testing.assert_close(method(batch, at_rest(Stage())).mean, want)


def test_without_transformer_blocks_norms_and_classifier_train(method_of_resnet):
    method, batch = method_of_resnet
    method(batch, at_rest(Stage())).mean.backward()
    trained = {name for name, weight in method.named_parameters() if weight.grad is not None}
    assert trained == {name for name, _ in method.named_parameters() if "bn" in name or "heads" in name}


@pytest.fixture
def method_of_resnet():
    subject = Subject(registry.method("lift"))
    return subject.make(), next(subject.train.eval_batches())


def test_a_local_vision_transformer_is_adapted(tmp_path):
    file = tmp_path / "vit.safetensors"
    pretrained = timm.create_model("test_vit", num_classes=5).state_dict()  # of another number of classes
    save_file(pretrained, file)
    found = resolve(RunConfig(method="lift", backbone="test_vit", weights=str(file), dataset="folder-lt"))
    method = build_method(
        registry.method("lift"), found, [4, 2, 1], (3, found.image_size, found.image_size), torch.device("cpu")
    )
    assert found.image_size == timm.get_pretrained_cfg("test_vit").input_size[1]
    weights = dict(method.named_parameters())
    frozen = {name for name, weight in weights.items() if not weight.requires_grad}
    model = "network.branches.0.model."
    for name, expected in pretrained.items():
        if name.startswith("head."):
            continue
        ours = model + re.sub(r"(blocks\.\d+)\.", r"\1.block.", name)
        assert torch.equal(weights[ours], expected), name
        assert ours in frozen
    assert {name.rpartition(".adapter.")[0] for name in weights.keys() - frozen if ".adapter." in name} == {
        f"{model}blocks.{block}" for block in range(6)
    }
