"""Fusing batch norm into convolutions changes no prediction, and is left alone where it cannot be done."""

import itertools
import os
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

from ltbench import registry
from ltbench.errors import LtbenchError
from ltbench.evaluation.predict import Predictions, fused_batch_norm
from ltbench.method import ClassPrior
from ltbench.models.backbone import Backbone


def method(backbone="cifar_resnet20", name="balpoe", size=32):
    """A method whose batch norms have something to say."""
    torch.manual_seed(0)
    cls = registry.method(name)
    build = Backbone(backbone, classes=10, channels=3, image_size=size, head="cosine")
    made = cls(build, ClassPrior(torch.arange(1, 11)), cls.Config())
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0, 0.3)
            nn.init.uniform_(module.running_var, 0.3, 3)
            nn.init.normal_(module.bias, 0, 0.3)
    return made.eval()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "name"),
    [("cifar_resnet32", "balpoe"), ("cifar_resnet20", "ce"), ("resnet18", "balpoe"), ("mobilenetv3_small_050", "ce")],
)
@torch.no_grad()
def test_predictions_are_those_of_the_network_as_it_was_trained(backbone, name):
    made = method(backbone, name)
    images = torch.randn(64, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    expected = made.experts(images)
    own = made.network
    with fused_batch_norm(made, images[:1]) as execution:
        found = made.experts(images)
        norms = sum(isinstance(module, nn.BatchNorm2d) for module in made.network.modules())
    assert execution == "batch norm folded"
    assert made.network is own, "the method has its own network back"
    assert torch.equal(found.argmax(2), expected.argmax(2))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)
    assert torch.equal(made.experts(images), expected)
    if name == "balpoe" or backbone.startswith("cifar"):
        assert norms == 0


def test_a_network_without_batch_norm_runs_as_it_is():
    made = method("vit_tiny_patch16_224", "ce", size=224)
    with fused_batch_norm(made, torch.randn(1, 3, 224, 224)) as execution:
        assert execution == "no batch norm to fold"


class Branching(nn.Module):
    """Decides by its data, which cannot be traced."""

    def __init__(self, branch):
        super().__init__()
        self.branch = branch

    def forward(self, x):
        return self.branch(x if x.mean() < 1e9 else x.clamp(max=1e9))


class Counting(nn.Module):
    """Another function at every call: tracing it keeps one of them."""

    def __init__(self, branch):
        super().__init__()
        self.branch, self.calls = branch, itertools.count()

    def __deepcopy__(self, memo):
        return self

    def forward(self, x):
        return self.branch(x).roll(next(self.calls), 1)


@pytest.mark.parametrize(("wrap", "words"), [(Branching, "TraceError"), (Counting, "tracing changed the network")])
@torch.no_grad()
def test_what_cannot_be_fused_is_left_alone(wrap, words):
    made = method()
    made.network.branches[0] = wrap(made.network.branches[0])
    own = made.network
    with fused_batch_norm(made, torch.randn(1, 3, 32, 32)) as execution:
        assert made.network is own
    assert execution == f"batch norm not folded: {words}"


def test_an_error_while_predicting_gives_the_network_back():
    made = method()
    own = made.network
    with pytest.raises(ZeroDivisionError), fused_batch_norm(made, torch.randn(1, 3, 32, 32)):
        raise ZeroDivisionError
    assert made.network is own


@pytest.mark.parametrize("fault", ["nested", "pipe", "packed", "text", "transposed", "fewer", "about"])
def test_stored_logits_that_are_damaged_are_named_and_nobody_waits_for_a_pipe(tmp_path, fault):
    path = tmp_path / "test.npz"
    arrays = {"logits": np.zeros((2, 3)), "experts": np.zeros((1, 2, 3)), "labels": np.zeros(2, dtype=np.int64)}
    if fault == "text":
        arrays["logits"] = np.full((2, 3), "x")
    if fault == "transposed":
        arrays["logits"] = arrays["logits"].T
    if fault == "fewer":
        arrays["labels"] = arrays["labels"][:1]
    about = {"nested": "[" * 100_000, "about": "3"}.get(fault, "{}")
    np.savez_compressed(path, about=np.array(about), **arrays)
    if fault == "packed":
        with zipfile.ZipFile(path) as archive:
            member = archive.getinfo("logits.npy")
        content = bytearray(path.read_bytes())
        place = member.header_offset + 30 + len("logits.npy")
        content[place : place + 40] = bytes(40 * [255])
        path.write_bytes(content)
    if fault == "pipe":
        path.unlink()
        os.mkfifo(path)
    with pytest.raises(LtbenchError, match="the stored logits cannot be read"):
        Predictions.load(path)
