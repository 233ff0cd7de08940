"""The paper's claim, where the truth is known: three Gaussian classes, so that every posterior can be written down."""

import numpy as np
import pytest
import torch
from torch import nn

from ltbench import registry
from ltbench.method import Batch, ClassPrior, Stage, at_rest

MEANS = torch.tensor([[0.0, 0.0], [1.5, 0.0], [0.0, 1.5]])
COUNTS = torch.tensor([30_000, 3_000, 300])
GRID = torch.cartesian_prod(torch.linspace(-1, 2.5, 8), torch.linspace(-1, 2.5, 8))


class LinearExperts(nn.Module):
    """Experts that are linear in x: for Gaussians of equal covariance, the true posteriors are of this form."""

    def __init__(self, experts):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(experts, 2, 3))
        self.bias = nn.Parameter(torch.zeros(experts, 1, 3))

    def experts(self, x):
        return x @ self.weight + self.bias


def fitted(taus):
    """BalPoE on these classes, trained to the optimum of its own loss."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.repeat_interleave(torch.arange(3), COUNTS)
    x = MEANS[labels] + torch.randn(len(labels), 2, generator=generator)
    cls = registry.method("balpoe")
    config = cls.Config(taus=taus, mixup=0)
    method = cls(lambda experts, **_: LinearExperts(experts), ClassPrior(COUNTS), config)
    batch, progress = Batch((x,), torch.arange(len(x)), labels), at_rest(Stage())
    optimiser = torch.optim.LBFGS(method.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def closure():
        optimiser.zero_grad()
        loss = method(batch, progress).mean
        loss.backward()
        return loss

    optimiser.step(closure)
    return method


def truth(exponent):
    """p(x|y) pi(y)^exponent, normalised over y, on the grid: (64, 3)."""
    log_density = -0.5 * (GRID.unsqueeze(1) - MEANS).square().sum(2)
    return (log_density + exponent * ClassPrior(COUNTS).log).softmax(1)


def distance(probs, wanted):
    return (probs - wanted).abs().max().item()


@pytest.fixture(scope="module")
def balanced():
    return fitted((0.0, 1.0, 2.0))


@pytest.mark.parametrize(("expert", "tau"), [(0, 0.0), (1, 1.0), (2, 2.0)])
def test_each_expert_learns_its_own_prior(balanced, expert, tau):
    with torch.no_grad():
        probs = balanced.experts(GRID)[expert].softmax(1)
    assert distance(probs, truth(1 - tau)) < 0.06
    for other in {-1.0, 0.0, 1.0} - {1 - tau}:
        assert distance(probs, truth(other)) > 0.2


def test_experts_whose_taus_average_to_one_combine_to_the_balanced_bayes_rule(balanced):
    with torch.no_grad():
        probs = balanced.predict(GRID).softmax(1)
    assert distance(probs, truth(0.0)) < 0.06
    assert balanced.logit_prior == 0


@pytest.mark.slow
@pytest.mark.parametrize("taus", [(0.0, 0.5, 1.0), (1.0, 1.5, 2.0)])
@pytest.mark.filterwarnings("ignore::ltbench.errors.LtbenchWarning")
def test_experts_whose_taus_do_not_average_to_one_stay_biased(taus):
    method = fitted(taus)
    with torch.no_grad():
        probs = method.predict(GRID).softmax(1)
    left = 1 - np.mean(taus)
    assert method.logit_prior == pytest.approx(left)
    assert distance(probs, truth(left)) < 0.06
    assert distance(probs, truth(0.0)) > 0.2


def test_taus_that_do_not_average_to_one_are_remarked_on():
    from ltbench.errors import LtbenchWarning

    with pytest.warns(LtbenchWarning, match=r"average to 1\.5"):
        fitted((1.0, 2.0))
