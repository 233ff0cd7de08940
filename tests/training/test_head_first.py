"""Recipes whose first epochs train the head of a pre-trained network alone."""

from dataclasses import replace

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
from ltbench.training.optimiser import StageSetup
from ltbench.training.options import TrainOptions
from ltbench.training.schedule import stages_of
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


def test_the_time_of_a_method_begins_with_the_whole_network():
    """BBN and GLMC turn to the tail and MDCS distils as ``stage_fraction`` grows: once, not twice."""
    subject = Subject(method("ce"))
    trained, seen = subject.make(), {"head": [], "train": []}
    trained.after_step = lambda progress: seen[progress.stage.name].append(progress.stage_fraction.item())
    fit(trained, subject.train, RECIPE, seed=0)
    assert set(seen["head"]) == {0.0}
    assert seen["train"] == pytest.approx(torch.arange(len(seen["train"])).div(len(seen["train"])).tolist())
    assert len(seen["train"]) > 1


def test_norms_of_a_copy_that_never_learns_stand_still_with_those_it_copies():
    subject = Subject(method("paco"))
    trained = subject.make()
    setup = StageSetup(trained, RECIPE, torch.device("cpu"), recorded=False)
    head, whole = stages_of(trained, RECIPE)
    for stage, trains in ((head, False), (whole, True)):
        setup.freeze(stage)
        modes = {name: one.training for name, one in trained.named_modules() if isinstance(one, torch.nn.BatchNorm2d)}
        assert any("key" in name for name in modes)
        assert set(modes.values()) == {trains}


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


def test_the_head_begins_with_the_loss_that_the_network_goes_on_with():
    """Weight balancing has another one in its second stage."""
    subject = Subject(method("weight_balancing"))
    made = subject.make(mixup=0.4).eval()
    head, first, second = stages_of(made, RECIPE)
    assert [head.name, first.name, second.name] == ["head", "train", "classifier"]
    batch, progress = subject.batch(made, second)  # which is not mixed yet
    losses = [made(batch, replace(progress, stage=stage)).mean for stage in (head, first, second)]
    assert torch.equal(losses[0], losses[1])
    assert not torch.equal(losses[0], losses[2])
    mixed = [made.prepare(batch, replace(progress, stage=stage)).mixed_labels for stage in (head, first, second)]
    assert [labels is not None for labels in mixed] == [True, True, False]


def test_what_the_head_has_learnt_is_kept():
    """LIFT points its classifier to the class means before anything trains, and not again after the head."""
    subject = Subject(method("lift"))
    made = subject.make()
    head, first, *_ = stages_of(made, RECIPE)
    made.begin(head, subject.train)
    with torch.no_grad():
        made.network.heads[0].weight.add_(1.0)
    learnt = made.network.heads[0].weight.clone()
    made.begin(first, subject.train)
    assert torch.equal(made.network.heads[0].weight, learnt)
    made.begin(made.stages(RECIPE)[0], subject.train)  # without epochs of the head
    assert not torch.equal(made.network.heads[0].weight, learnt)
