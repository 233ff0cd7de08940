"""RIDE against the published implementation, and its parts."""

import numpy as np
import pytest
import torch

from ltbench.config import RunConfig
from ltbench.conformance import COUNTS, RECIPE, Subject
from ltbench.method import ClassPrior, Stage, at_rest
from ltbench_methods.ride import RIDE, class_temperatures, divergences, diversity
from tests.fixed_logits import FixedLogits, same, same_loss


@pytest.mark.parametrize(("case", "stage"), [("ride", Stage()), ("ride_drw", Stage("deferred"))])
def test_the_loss_and_gradient_are_the_published_ones(case, stage, golden_losses, method_with_logits, batch_of):
    want = golden_losses(case)
    settings = {"diversity": float(want["diversity_factor"]), "reweight": 0.05}
    method = method_with_logits("ride", want["logits"], want["class_counts"], **settings)
    method.begin(stage, None)
    loss = method(batch_of(want["targets"]), at_rest(stage)).mean
    loss.backward()
    same_loss(loss, want["loss"])
    same(method.network.logits.grad, want["grad"])


@pytest.mark.parametrize(
    ("stage", "want", "gradient"),
    [
        (Stage(), 98.8109408544, [-0.6954666732, 0.3852827101, 0.2806765163, 0.0215693128, 0.0079381340]),
        (Stage("deferred"), 140.6210970309, [-0.0837540132, 0.1342305641, -0.0800572297, 0.0066158948, 0.0068741248]),
    ],
)
def test_distillation_is_the_published_one(stage, want, gradient, method_with_logits, batch_of):
    # Values of RIDELossWithDistill of the published code in float64, with the settings of its CIFAR configuration.
    logits = 4 * torch.sin(torch.arange(60.0).reshape(3, 4, 5))
    method = method_with_logits("ride", logits.numpy(), np.array([50, 20, 10, 5, 2]), distill=True)
    method.teacher = FixedLogits(4 * torch.cos(torch.arange(20.0).reshape(1, 4, 5)))
    method.network.requires_grad_(True)  # one network stands for the method's and for the teacher's until here
    method.begin(stage, None)
    loss = method(batch_of(np.array([0, 1, 4, 0])), at_rest(stage)).mean
    loss.backward()
    assert loss.item() == pytest.approx(want, rel=1e-5)
    np.testing.assert_allclose(method.network.logits.grad[0, 0].numpy(), gradient, rtol=1e-4, atol=1e-5)


def test_temperatures_by_hand():
    # Counts (3, 1): C pi = (3/2, 1/2); with eta 1/2, 3/4 + 1/2 = 5/4 and 1/4 + 1/2 = 3/4; over the largest, 1 and 3/5.
    prior = ClassPrior(torch.tensor([3, 1]))
    torch.testing.assert_close(class_temperatures(prior, 0.5), torch.tensor([1.0, 0.6]))
    torch.testing.assert_close(class_temperatures(prior, 0.0), torch.ones(2))


def test_divergence_by_hand():
    # Temperature 2: target logits (2 ln 3, 0) give (3/4, 1/4), the expert's (0, 0) give (1/2, 1/2);
    # 2^2 (3/4 ln 3/2 + 1/4 ln 1/2) = 3 ln 3 - 4 ln 2.
    target = torch.tensor([[2 * float(np.log(3)), 0.0]])
    got = divergences(target, torch.zeros(1, 1, 2), 2.0)
    assert got.item() == pytest.approx(3 * np.log(3) - 4 * np.log(2), rel=1e-5)


def test_the_mean_of_the_experts_is_taken_as_given():
    logits = torch.tensor([[[1.0, 0.0]], [[-1.0, 0.0]]], requires_grad=True)
    diversity(logits, torch.ones(2)).sum().backward()
    # KL(p || q) has the gradient q - p by the logits of q; p is the softmax of (0, 0), q = s(1) or s(-1).
    lean = float(1 / (1 + np.exp(-1.0)) - 0.5)
    torch.testing.assert_close(logits.grad, torch.tensor([[[lean, -lean]], [[-lean, lean]]]))


def test_re_weighting_begins_after_four_fifths():
    first, late = Subject(RIDE).make().stages(RECIPE.model_copy(update={"epochs": 200}))
    assert (first.epochs, late.name) == (160, "deferred")


@pytest.mark.slow
def test_the_teacher_stays_as_it_is(tmp_path):
    run = RunConfig(method="ride", hyperparameters={"distill": True, "mixup": 0.1, "width": 1.0, "diversity": -0.3})
    used = RIDE.uses(run)["teacher"]
    assert used.hyperparameters == {"distill": False, "experts": 6, "mixup": 0.1, "width": 1.0, "diversity": -0.3}
    assert RIDE.uses(used) == {}
    subject = Subject(RIDE)
    prior = ClassPrior(torch.tensor(COUNTS))
    teacher = RIDE(subject.build, prior, RIDE.Config(experts=6))
    method = RIDE(subject.build, prior, RIDE.Config(distill=True))
    plain = RIDE(subject.build, prior, RIDE.Config())
    method.start_from({"teacher": teacher})
    plain.network.load_state_dict(method.network.state_dict())
    batch, progress = subject.batch(method, Stage())
    with torch.no_grad():
        assert method(batch, progress).mean > plain(batch, progress).mean
    method.start_from({"teacher": teacher})
    subject.fit(method, tmp_path / "checkpoint.pt")
    for name, value in teacher.network.state_dict().items():
        assert torch.equal(value, method.teacher.state_dict()[name]), name
    assert not any(module.training for module in method.teacher.modules())
