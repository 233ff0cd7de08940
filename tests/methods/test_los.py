"""LOS by hand, and what its second stage trains."""

import numpy as np
import pytest
import torch

from ltbench import registry
from ltbench.config import RunConfig
from ltbench.conformance import RECIPE, Subject
from ltbench.method import Stage, at_rest
from ltbench.runs.resolve import resolve


def test_the_loss_by_hand(method_with_logits, batch_of):
    # p = (1/4, 3/4), target 0 and delta 0.9: 0.1 ln 4 + 0.9 (ln 4 + ln 4/3) / 2.
    method = method_with_logits("los", np.log([[[1.0, 3.0]]]), np.array([2, 1]), smoothing=0.9)
    loss = method(batch_of(np.array([0])), at_rest(Stage())).mean
    assert loss.item() == pytest.approx(0.1 * np.log(4) + 0.45 * (np.log(4) + np.log(4 / 3)), rel=1e-5)


def test_the_best_logits_give_the_true_class_little_more_than_its_share():
    # 1 - delta + delta / C of the label: with C = 10 and delta = 0.98, 0.118 for the class and 0.098 for others.
    method = registry.method("los")
    label = 1 - method.Config().smoothing + method.Config().smoothing / 10
    assert label == pytest.approx(0.118)


def test_only_the_classifier_trains_without_weight_decay_at_a_rate_of_its_own(tmp_path):
    subject = Subject(registry.method("los"))
    method = subject.make(epochs=2)
    (stage,) = method.stages(RECIPE)
    assert (stage.weight_decay, stage.schedule.lr) == (0.0, 0.0005)
    before = {name: value.clone() for name, value in method.network.state_dict().items()}
    subject.fit(method, tmp_path / "checkpoint.pt")
    moved = {name for name, value in method.network.state_dict().items() if not torch.equal(value, before[name])}
    trained = {"heads.0.weight", "heads.0.bias"}
    assert trained <= moved
    assert all("running" in name or "num_batches" in name for name in moved - trained)


def test_it_starts_from_a_run_of_cross_entropy_with_a_linear_head():
    run = resolve(RunConfig(method="los", hyperparameters={"mixup": 0.2})).config
    (start,) = registry.method("los").uses(run).values()
    assert (start.method, start.recipe.head, start.hyperparameters) == ("ce", "linear", {"mixup": 0.2})
