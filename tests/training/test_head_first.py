"""Recipes whose first epochs train the head of a pre-trained network alone."""

import pytest
import timm
import torch
from safetensors.torch import save_file

import ltbench
from ltbench.config import Recipe, RunConfig
from ltbench.conformance import Subject
from ltbench.errors import LtbenchError
from ltbench.registry import method
from ltbench.runs.estimate import estimate
from ltbench.runs.options import RunOptions
from ltbench.runs.resolve import resolve
from ltbench.training.options import TrainOptions
from ltbench.training.trainer import fit

BACKBONE = "cifar_resnet8"
RECIPE = Recipe(name="mine", epochs=1, head_epochs=2, batch_size=16, lr=0.02)


@pytest.fixture
def config(tmp_path):
    torch.manual_seed(1)
    path = tmp_path / "weights.safetensors"
    save_file(timm.create_model(BACKBONE, num_classes=5, in_chans=1).state_dict(), path)
    return RunConfig(method="ce", backbone=BACKBONE, weights=str(path), recipe=RECIPE, imbalance_ratio=100)


@pytest.mark.parametrize("name", ["balpoe", "bcl"])
def test_the_backbone_stands_still_until_the_head_is_trained(name):
    subject = Subject(method(name))
    trained, last = subject.make(), {}
    initial = {key: value.clone() for key, value in trained.state_dict().items()}

    def keep(update):
        if update.message.startswith("train"):
            raise KeyboardInterrupt
        last.update({key: value.clone() for key, value in trained.state_dict().items()})

    with pytest.raises(KeyboardInterrupt):
        fit(trained, subject.train, RECIPE, seed=0, options=TrainOptions(listener=keep))
    backbone = ("network.trunk.", "network.branches.")
    moved = {key for key in initial if not torch.equal(initial[key], last[key])}
    heads = {key for key, _ in trained.named_parameters() if not key.startswith(backbone)}
    assert heads <= moved
    assert not [key for key in moved if key.startswith(backbone)], "neither weights nor running statistics"


def test_a_run_tells_its_stages(config, tmp_path):
    result = ltbench.run(config, RunOptions(out=tmp_path / "runs", device="cpu"))
    assert [(point.stage, point.epoch) for point in result.curve] == [("head", 0), ("head", 1), ("train", 0)]
    assert [point.lr for point in result.curve] == [0.02] * 3
    assert result.config.recipe.head_epochs == 2


def test_an_estimate_counts_the_epochs_of_the_head(config, tmp_path):
    (share,) = estimate(config, RunOptions(out=tmp_path, device="cpu"), rounds=1).processes
    head, whole = share.stages
    assert (head.name, whole.name) == ("head", "train")
    assert head.steps == 2 * whole.steps > 0


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"weights": None}, "there are no weights"),
        ({"train": "head"}, "--train head trains nothing else"),
    ],
)
def test_there_must_be_weights_and_something_else_to_train(config, changes, reason):
    with pytest.raises(LtbenchError, match=reason) as error:
        resolve(config.replace(**changes))
    assert "head_epochs" in str(error.value)
