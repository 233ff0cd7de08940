"""SADE's test-time aggregation."""

import numpy as np
import pytest
import torch

from ltbench.config import RunConfig
from ltbench.conformance import Subject
from ltbench.method import Batch, Stage, at_rest
from ltbench_methods.sade_tta import SADETTA


class TwoViews(torch.nn.Module):
    """Experts whose logits (M, B, C) are given by the value of a view's first pixel."""

    def __init__(self, logits: list[torch.Tensor]) -> None:
        super().__init__()
        self.logits = logits

    def experts(self, images: torch.Tensor) -> torch.Tensor:
        return self.logits[int(images[0, 0, 0, 0])]


def aggregator(method_with_logits, *views):
    method = method_with_logits("sade_tta", np.zeros((3, 1, 2)), np.array([5, 2]))
    method.network = TwoViews([torch.tensor(view, dtype=torch.float32).unsqueeze(1) for view in views])
    images = tuple(torch.full((1, 1, 1, 1), float(i)) for i in range(len(views)))
    return method, Batch(images, torch.tensor([0]), torch.tensor([-1]))


def test_the_loss_by_hand(method_with_logits):
    # Equal weights. View 1: every expert (ln 3, 0), so p = (3/4, 1/4). View 2: logits (3 ln 3, 0) once and (0, 0)
    # twice turned round: the mean is (0, ln 3), p = (1/4, 3/4). Cosine: (2 * 3/16) / (10/16) = 3/5.
    ln3 = float(np.log(3))
    method, batch = aggregator(method_with_logits, [[ln3, 0.0]] * 3, [[0.0, 3 * ln3], [0.0, 0.0], [0.0, 0.0]])
    assert method(batch, at_rest(Stage())).mean.item() == pytest.approx(-0.6, rel=1e-5)


def test_a_steady_expert_gains_weight(method_with_logits):
    steady, first, second = [2.0, 0.0], [3.0, -3.0], [-3.0, 3.0]
    method, batch = aggregator(method_with_logits, [first, steady, first], [second, steady, second])
    method(batch, at_rest(Stage())).mean.backward()
    assert method.aggregation.grad.argmin() == 1  # a step goes against the gradient


def test_it_stops_before_a_weight_is_too_small(method_with_logits):
    method, _ = aggregator(method_with_logits, [[0.0, 0.0]] * 3)
    progress = at_rest(Stage())
    steps = ((0.05, 0.15, 0.8), (0.0451, 0.15, 0.8), (0.044, 0.2, 0.756), (1 / 3, 1 / 3, 1 / 3))
    kept = []
    with torch.no_grad():
        for shares in steps:
            method.aggregation.copy_(torch.tensor(shares).log())
            method.after_step(progress)
            kept.append(method.aggregation.softmax(0)[0].item())
    # 4.51 / 99.51 = 4.53 % is rounded to 5 %, 4.4 % is not; after that nothing moves any more.
    assert kept == pytest.approx([0.05, 0.0451 / 0.9951, 0.0451 / 0.9951, 0.0451 / 0.9951], rel=1e-4)


@pytest.mark.slow
def test_it_uses_the_sade_run_of_its_settings_and_changes_only_the_weights(tmp_path):
    settings = {"tau": 1.5, "width": 1.0, "mixup": 0.2, "epochs": 3}
    used = SADETTA.uses(RunConfig(method="sade_tta", hyperparameters=settings))["sade"]
    assert (used.method, used.hyperparameters) == ("sade", {"tau": 1.5, "width": 1.0, "mixup": 0.2})
    subject = Subject(SADETTA)
    method = subject.make()
    before = {name: value.clone() for name, value in method.network.state_dict().items()}
    subject.fit(method, tmp_path / "checkpoint.pt")
    assert all(torch.equal(value, before[name]) for name, value in method.network.state_dict().items())
    assert not torch.equal(method.aggregation, torch.full((3,), 1 / 3))
