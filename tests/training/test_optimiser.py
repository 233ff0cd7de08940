"""Optimisers of recipes: their steps, rates by layer, weight decay, and resuming."""

import copy
import signal

import pytest
import timm
import torch
from timm.optim import param_groups_layer_decay

from ltbench import registry
from ltbench.config import Recipe, RunConfig
from ltbench.config.run_config import settings_text
from ltbench.errors import LtbenchError
from ltbench.method import Stage
from ltbench.method.build import build_method
from ltbench.runs.options import RunOptions
from ltbench.runs.resolve import resolve
from ltbench.runs.run import run
from ltbench.training.optimiser import StageSetup, set_lr

OPTIMIZERS = ["sgd", "adamw", "nadamw", "lamb", "lion"]
CPU = torch.device("cpu")


@pytest.fixture
def made():
    """The method of a run on three classes, and the optimiser of its only stage."""

    def make(name="ce", **recipe):
        config = RunConfig(method=name, backbone="cifar_resnet8", recipe=Recipe(name="own", **recipe))
        found = resolve(config)
        method = build_method(registry.method(name), found, [9, 3, 1], (1, 8, 8), CPU)
        setup = StageSetup(method, found.recipe, CPU, recorded=False)
        setup.freeze(Stage("all"))
        return method, setup.optimiser(Stage("all"))

    return make


def scales(method, optimiser):
    """The learning-rate factor and the weight decay of every parameter."""
    names = {weight: name for name, weight in method.named_parameters()}
    return {
        names[weight]: (group["scale"], group["weight_decay"])
        for group in optimiser.param_groups
        for weight in group["params"]
    }


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_step_is_that_of_the_library(name, made):
    method, optimiser = made(optimizer=name, lr=0.01, weight_decay=0.1)
    reference = copy.deepcopy(list(method.parameters()))
    if name == "sgd":
        other = torch.optim.SGD(reference, lr=0.01, momentum=0.9, nesterov=True, weight_decay=0.1)
    elif name == "adamw":
        other = torch.optim.AdamW(reference, lr=0.01, weight_decay=0.1)
    else:
        other = timm.optim.create_optimizer_v2(reference, opt=name, lr=0.01, weight_decay=0.1)
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        for ours, theirs in zip(method.parameters(), reference, strict=True):
            ours.grad = torch.randn(ours.shape, generator=generator)
            theirs.grad = ours.grad.clone()
        optimiser.step()
        other.step()
    for ours, theirs in zip(method.parameters(), reference, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_rates_fall_from_layer_to_layer_as_timm_has_them(made):
    method, optimiser = made(optimizer="adamw", layer_decay=0.5, weight_decay=0.1, decay_norms=False)
    found = scales(method, optimiser)
    network = timm.create_model("cifar_resnet8", num_classes=0, in_chans=1)
    expected = param_groups_layer_decay(network, weight_decay=0.1, layer_decay=0.5)
    names = {weight: name for name, weight in network.named_parameters()}
    for group in expected:
        for weight in group["params"]:
            name = names[weight]
            assert found.pop(f"network.branches.0.model.{name}") == (group["lr_scale"], group["weight_decay"]), name
    # stem, one block in each of three stages: 0.5 ** 3 to 1, and the head at the full rate
    assert {scale for scale, _ in scales(method, optimiser).values()} == {0.125, 0.25, 0.5, 1.0}
    assert found == {"network.heads.0.weight": (1.0, 0.1)}


def test_experts_on_a_shared_trunk_have_the_same_rates(made):
    method, optimiser = made("balpoe", layer_decay=0.5, lr=0.1)
    found = scales(method, optimiser)
    assert found["network.trunk.model.conv1.weight"][0] == 0.125
    for expert in range(3):
        assert found[f"network.branches.{expert}.model.layer2.0.conv1.weight"][0] == 0.5
        assert found[f"network.branches.{expert}.model.layer3.0.conv1.weight"][0] == 1.0
        assert found[f"network.heads.{expert}.weight"][0] == 1.0


def test_norms_and_biases_decay_unless_a_recipe_spares_them(made):
    for spared in (False, True):
        method, optimiser = made("mislas", weight_decay=0.1, decay_norms=not spared)
        weights = dict(method.named_parameters())
        for name, (_, decay) in scales(method, optimiser).items():
            assert decay == (0.0 if spared and weights[name].ndim == 1 else 0.1), name


def test_a_stage_of_its_own_rates_keeps_them(made):
    method, _ = made(layer_decay=0.5)
    setup = StageSetup(method, Recipe(layer_decay=0.5), CPU, recorded=False)
    stage = Stage("all", lr_scale={"network.branches": 0.1})
    setup.freeze(stage)
    found = scales(method, setup.optimiser(stage))
    assert found["network.branches.0.model.conv1.weight"][0] == pytest.approx(0.0125)
    assert found["network.heads.0.weight"][0] == 1.0


def test_rates_are_the_same_whether_steps_are_recorded_or_not(made):
    """Recorded steps read each group's rate from a tensor, which must be the group's own."""
    method, _ = made()
    stage = Stage("all", lr_scale={"network.heads": 0.2})
    rates = []
    for recorded in (False, True):
        setup = StageSetup(method, Recipe(), CPU, recorded=recorded)
        setup.freeze(stage)
        optimiser = setup.optimiser(stage)
        for lr in (0.1, 0.01):
            set_lr(optimiser, lr)
            rates.append({group["scale"]: pytest.approx(float(group["lr"])) for group in optimiser.param_groups})
    assert rates[:2] == rates[2:]
    assert set(rates[0]) == {1.0, 0.2}
    assert rates[0][0.2] != rates[0][1.0]


def test_a_network_without_layers_has_no_rates_by_layer(made, monkeypatch):
    monkeypatch.delattr("ltbench.models.resnet_cifar.CifarResNet.group_matcher")
    made(layer_decay=1.0)
    with pytest.raises(LtbenchError, match="the layers of the backbone are not known") as error:
        made(layer_decay=0.5)
    assert "layer_decay" in str(error.value)


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIMIZERS[1:])
def test_a_stopped_run_resumes_exactly(name, tmp_path, monkeypatch):
    recipe = Recipe(
        name="own", optimizer=name, lr=1e-3, layer_decay=0.8, decay_norms=False, epochs=2, batch_size=256,
    )  # fmt: skip
    config = RunConfig(method="crt", backbone="cifar_resnet8", recipe=recipe)
    whole = run(config, RunOptions(out=tmp_path / "whole", device="cpu"))
    monkeypatch.setenv("LTBENCH_CACHE", str(tmp_path / "cache"))
    left = iter(range(3))

    def stop(update):
        if update.message and next(left, None) is None:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(config, RunOptions(out=tmp_path / "stopped", device="cpu", checkpoint_every=0, listener=stop))
    resumed = run(config, RunOptions(out=tmp_path / "stopped", device="cpu"))
    assert resumed.status == "done"
    assert resumed.metrics == whole.metrics
    assert [point.loss for point in resumed.curve] == [point.loss for point in whole.curve]


def test_the_checkpoints_of_older_versions_fit():
    config = resolve(RunConfig(method="ce")).config
    text = settings_text(config)
    for name in ("optimizer", "layer_decay", "decay_norms", "weights"):
        assert f'"{name}"' not in text
    changed = config.replace(recipe=config.full_recipe.model_copy(update={"layer_decay": 0.5}))
    assert '"layer_decay":0.5' in settings_text(changed)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"optimizer": "adam_w"}, "optimizer"),
        ({"layer_decay": 0}, "layer_decay"),
        ({"layer_decay": 1.5}, "layer_decay"),
        ({"momentum": 0}, "add nesterov = false"),
    ],
)
def test_settings_that_cannot_be(change, said, tmp_path, cli):
    file = tmp_path / "own.toml"
    ((name, value),) = change.items()
    file.write_text(f"epochs = 1\n{name} = {value!r}\n".replace("'", '"'))
    done = cli("run", "--method", "ce", "--recipe", str(file))
    assert done.code == 2
    assert said in done.err
