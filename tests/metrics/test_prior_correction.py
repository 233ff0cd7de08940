"""Correction for another test prior, against Bayes' rule."""

import hypothesis.extra.numpy as npst
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ltbench.errors import LtbenchError
from ltbench.metrics.prior_correction import corrected, estimated

positive = st.floats(0.01, 1)
likelihoods = npst.arrays(np.float64, (6, 4), elements=positive)
priors = npst.arrays(np.float64, (4,), elements=positive)


def posterior(likelihood, prior):
    joint = likelihood * prior
    return joint / joint.sum(1, keepdims=True)


@given(likelihoods, priors, priors, st.floats(-1, 2), npst.arrays(np.float64, (6, 1), elements=st.floats(-5, 5)))
def test_it_is_bayes_rule(likelihood, train, test, exponent, constants):
    logits = np.log(likelihood) + exponent * np.log(train) + constants  # constants of an image are no information
    found = corrected(torch.from_numpy(logits), exponent, torch.from_numpy(train), torch.from_numpy(test))[:]
    np.testing.assert_allclose(found.softmax(1).numpy(), posterior(likelihood, test), rtol=1e-8)


def test_by_hand_and_for_a_class_that_the_test_set_lacks():
    # Balanced probabilities (1/2, 1/4, 1/4), test counts 10, 30, 0: 5 to 7.5 to 0, so .4, .6, 0.
    logits = torch.tensor([[0.5, 0.25, 0.25]]).log()
    found = corrected(logits, 0.0, torch.tensor([100, 10, 1]), torch.tensor([10, 30, 0]))[:].softmax(1)
    assert found[0].tolist() == pytest.approx([0.4, 0.6, 0.0])


def test_an_unknown_exponent_is_refused():
    with pytest.raises(LtbenchError, match="cannot be corrected"):
        corrected(torch.zeros(1, 2), None, torch.ones(2), torch.ones(2))


def test_an_estimate_by_hand():
    # Likelihoods 4:1, 4:1, 1:4 under prior (1/2, 1/2). One step: (.8 + .8 + .2) / 3 = .6. The maximum of
    # prod(p l1 + (1 - p) l2) = (.2 + .6 p)^2 (.8 - .6 p): derivative zero at 2 (.8 - .6 p) = .2 + .6 p, p = 7/9.
    logits = torch.tensor([[0.8, 0.2], [0.8, 0.2], [0.2, 0.8]]).log()
    even = torch.tensor([5.0, 5.0])
    assert estimated(logits, 0.0, even, steps=1).tolist() == pytest.approx([0.6, 0.4])
    assert estimated(logits, 0.0, even).tolist() == pytest.approx([7 / 9, 2 / 9], abs=1e-4)


def test_the_training_prior_that_is_left_in_the_logits_does_not_matter():
    balanced = torch.randn(50, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    train = torch.tensor([100.0, 10.0, 1.0], dtype=torch.float64)
    biased = balanced + 0.7 * train.log()
    expected = estimated(balanced, 0.0, train)
    assert estimated(biased, 0.7, train).tolist() == pytest.approx(expected.tolist())
    assert float(expected.sum()) == pytest.approx(1.0)


def test_a_prior_cannot_be_estimated_without_the_exponent():
    with pytest.raises(LtbenchError, match="cannot be corrected"):
        estimated(torch.zeros(1, 2), None, torch.ones(2))
