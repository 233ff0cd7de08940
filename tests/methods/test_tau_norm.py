"""Tau-normalisation by hand, and its choice of tau."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from ltbench import registry
from ltbench.config import RunConfig
from ltbench.errors import LtbenchError
from ltbench.method import ClassPrior
from ltbench.models.experts import ExpertNetwork
from ltbench.runs.resolve import resolve


def method_with(weight, **settings):
    """The method on a network whose features are the pixels."""
    weight = torch.tensor(weight)
    head = nn.Linear(weight.shape[1], len(weight))
    head.weight.data, head.bias.data = weight, torch.full((len(weight),), 100.0)
    network = ExpertNetwork(nn.Identity(), [nn.Flatten()], [head])
    cls = registry.method("tau_norm")
    return cls(lambda **kwargs: network, ClassPrior(torch.tensor([3, 1])), cls.Config(**settings))


def pixels(*features):
    return torch.tensor(features).view(len(features), 1, 1, -1)


@pytest.mark.parametrize(("tau", "logits"), [(0, (7, 2)), (1, (7 / 5, 1)), (2, (7 / 25, 1 / 2))])
def test_by_hand(tau, logits):
    # Weights (3, 4) of length 5 and (0, 2) of length 2, features (1, 1): products 7 and 2; the bias is dropped.
    method = method_with([[3.0, 4.0], [0.0, 2.0]], tau=tau)
    torch.testing.assert_close(method.predict(pixels((1.0, 1.0))), torch.tensor([logits], dtype=torch.float32))


def test_the_best_tau_on_the_validation_part_that_is_nearest_to_1():
    # Weights (10, 0) and (1, 1). Image (1, 3) of class 1 is right if 4 / 2^(tau/2) > 10^(1 - tau), from tau = 0.5 on
    # (3.36 > 3.16, but at 0.4 3.48 < 3.98); image (1, 0.5) of class 0 if 10^(1 - tau) > 1.5 / 2^(tau/2), up to 0.9
    # (1.26 > 1.10, but at 1 1 < 1.06). So 0.5 to 0.9 are right on both.
    images = SimpleNamespace(images=pixels((1.0, 3.0), (1.0, 0.5)))
    validation = SimpleNamespace(labels=torch.tensor([1, 0]), eval_batches=lambda: iter([images]))
    weight = [[10.0, 0.0], [1.0, 1.0]]
    chosen, given = method_with(weight, select_tau=True), method_with(weight, tau=0.3)
    with torch.no_grad():
        chosen.select(validation)
        given.select(validation)
    assert (float(chosen.tau), float(given.tau)) == pytest.approx((0.9, 0.3))


def test_logits_are_float32_whatever_the_precision_around_them():
    """In bfloat16 many would tie, and the lowest label would win."""
    torch.manual_seed(0)
    method, features = method_with(torch.randn(100, 2).tolist()), torch.randn(500, 2)
    with torch.autocast("cpu", torch.bfloat16):
        logits = method._logits(features.bfloat16(), 1.0)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, method._logits(features.bfloat16().float(), 1.0))


@pytest.mark.parametrize("method", ["tau_norm", "logit_adjustment_posthoc"])
def test_a_tau_that_would_be_overwritten_is_refused(method):
    config = RunConfig(method=method, validation=True, hyperparameters={"select_tau": True, "tau": 0.5})
    with pytest.raises(LtbenchError, match="tau has no effect where select_tau chooses it"):
        resolve(config)


def test_it_starts_from_a_run_with_a_linear_head():
    run = resolve(RunConfig(method="tau_norm", epochs=7)).config
    start = resolve(registry.method("tau_norm").uses(run)["ce"]).config
    assert (run.recipe.head, start.method, start.recipe) == ("linear", "ce", run.recipe)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["tau_norm", "logit_adjustment_posthoc"])
def test_tau_cannot_be_chosen_without_validation_images(cli, method):
    words = ("run", "--method", method, "--set", "select_tau=true", "--backbone", "cifar_resnet8", "--epochs", 1)
    refused = cli(*words)
    assert refused.code == 2
    assert "select_tau needs validation images to choose on" in refused.err
    assert "add --validation" in refused.err
    assert cli(*words, "--batch-size", 8, "--lr", 0.03, "--validation").code == 0
