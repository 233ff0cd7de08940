"""Methods whose files call them the same by construction have the same loss, gradient and class prior."""

import numpy as np
import pytest
import torch

from ltbench.errors import LtbenchError
from ltbench.method import Stage, at_rest
from ltbench.registry import add_method_file, check_paper, declared

PAIRS = [(name, other) for name in sorted(declared._methods()) for other in declared.same_as(name)]


@pytest.mark.parametrize(("name", "other"), PAIRS, ids=str)
def test_they_train_the_same(method_with_logits, batch_of, name, other):
    logits = np.random.default_rng(0).normal(size=(1, 6, 3)) * 3
    counts, targets = np.array([100, 10, 1]), np.array([0, 1, 2, 0, 2, 2])
    made = method_with_logits(name, logits, counts), method_with_logits(other.method, logits, counts, **other.settings)
    losses = []
    for one in made:
        loss = one(batch_of(targets), at_rest(Stage())).mean
        loss.backward()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    torch.testing.assert_close(made[0].network.logits.grad, made[1].network.logits.grad)
    assert made[0].logit_prior == made[1].logit_prior


def test_there_are_such_methods():
    assert ("balanced_softmax", "logit_adjustment") in [(name, other.method) for name, other in PAIRS]


def test_a_method_that_there_is_not_is_refused(tmp_path):
    code = "class Mine(Method):\n    def forward(self, batch, progress): ...\n"
    (tmp_path / "same_mine.py").write_text(f"from ltbench.method import Method\n\n\n{code}")
    (tmp_path / "same_mine.toml").write_text('name = "Mine"\n\n[same_as.logit_adjustmnt]\ntau = 1.0\n')
    add_method_file(tmp_path / "same_mine.py")
    with pytest.raises(LtbenchError, match="unknown method 'logit_adjustmnt'") as caught:
        check_paper("same_mine")
    assert "[same_as.logit_adjustmnt]" in str(caught.value)
