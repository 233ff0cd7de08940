"""Temperatures for other class frequencies than those of the validation images."""

import math

import pytest
import torch

from ltbench.metrics.calibration import fit_temperature
from ltbench.metrics.temperature import Prior, Training, class_weights, fit_for_prior
from ltbench.results.schema import Metrics

BALANCED = Prior("balanced", torch.ones(2))


def weights(target, images):
    return class_weights(torch.tensor(target).double(), torch.tensor(images).double()).tolist()


def test_weights_are_target_over_validation_frequency():
    # frequencies .8 and .2 of ten images; .5 / .8 and .5 / .2
    assert weights([0.5, 0.5], [8, 2]) == pytest.approx([0.625, 2.5])
    assert weights([0.25, 0.75], [1, 3]) == pytest.approx([1, 1])
    assert weights([0.0, 1.0], [3, 1]) == pytest.approx([0, 4])


def test_a_class_without_validation_images_lends_its_weight_to_those_with_the_fewest():
    # targets a quarter each; the third class has none, its quarter is shared by the two classes of two images:
    # 3/8 over 2/8 of the images each, and 1/4 over 4/8
    assert weights([0.25] * 4, [4, 2, 0, 2]) == pytest.approx([0.5, 1.5, 0, 1.5])


def two_class(right, wrong, label):
    """Logits (3, 0) for the label or against it."""
    sure = torch.tensor([[3.0, 0.0] if label == 0 else [0.0, 3.0]])
    return sure.repeat(right, 1), (-sure + 3).repeat(wrong, 1)


def table():
    """Class 0 right on 90 of 100 images, class 1 on 6 of 10; all with the same margin."""
    logits = torch.cat([*two_class(90, 10, 0), *two_class(6, 4, 1)])
    return logits, torch.tensor([0] * 100 + [1] * 10)


def test_the_weighted_temperature_by_hand():
    # At margin m the likelihood is best where sigmoid(m / T) is the accuracy: T = 3 / logit(accuracy).
    # As they are 96 / 110, balanced (.9 + .6) / 2 = .75.
    logits, labels = table()
    assert fit_temperature(logits, labels) == pytest.approx(3 / math.log(96 / 14), rel=1e-3)
    found = fit_for_prior(logits, labels, BALANCED)
    assert found.value == pytest.approx(3 / math.log(3), rel=1e-3)
    # weights .5 / (10/11) = .55 and .5 / (1/11) = 5.5: (55 + 55)^2 / (100 .55^2 + 10 5.5^2) = 12100 / 332.75
    assert found.fitted_for.effective_images == pytest.approx(12100 / 332.75)
    assert found.fitted_for.model_dump(exclude={"effective_images"}) == {
        "prior": "balanced", "validation_images": 110, "classes_without_images": 0,
    }  # fmt: skip


def test_validation_images_with_the_targets_frequencies_have_weights_of_one():
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(300, 3, generator=generator)
    labels = torch.arange(300) % 3
    training = Training(torch.tensor([500, 50, 5]), 1.0)
    found = fit_for_prior(logits, labels, Prior("balanced", torch.ones(3)), training)
    assert found.value == fit_temperature(logits, labels)
    assert found.fitted_for.effective_images == pytest.approx(300)


def test_classes_that_the_target_lacks_do_not_count():
    logits, labels = table()
    only_first = Prior("forward-50", torch.tensor([7.0, 0.0]))
    found = fit_for_prior(logits, labels, only_first)
    assert found.value == pytest.approx(3 / math.log(9), rel=1e-3)  # accuracy .9
    corrected = fit_for_prior(logits, labels, only_first, Training(torch.tensor([9, 1]), 0.0), corrected=True)
    assert math.isfinite(corrected.value)


@pytest.mark.parametrize(("logit_prior", "corrected"), [(1.0, True), (0.0, False), (0.0, True)])
def test_the_steepness_of_logits_whose_posterior_is_known_is_found(simulation, logit_prior, corrected):
    # Corrected for the target, or balanced for a balanced one, softmax(z / 1.5) is the posterior.
    generator = torch.Generator().manual_seed(0)
    world, held = simulation("temperature").World.make(10, 100, 5000, logit_prior, trained=False, generator=generator)
    training = Training(world.trained_on, logit_prior)
    found = fit_for_prior(
        *world.draw(held, generator), Prior("balanced", torch.ones(10)), training, corrected=corrected
    )
    assert found.value == pytest.approx(simulation("temperature").STEEPNESS, rel=0.08)


def test_what_is_said_of_the_logits_does_not_count_where_the_images_say_otherwise(simulation):
    # Cross entropy said to be balanced: the weighted images contradict it by many standard errors.
    generator = torch.Generator().manual_seed(0)
    world, held = simulation("temperature").World.make(20, 50, 2000, 1.0, trained=False, generator=generator)
    drawn = world.draw(held, generator)
    prior = Prior("balanced", torch.ones(20))
    weighted, lied_to = fit_for_prior(*drawn, prior).value, fit_for_prior(*drawn, prior, Training(held, 0.0)).value
    unweighted = fit_temperature(*drawn)
    assert abs(lied_to - weighted) < 0.2 * abs(unweighted - weighted)


def test_a_temperature_reaches_what_the_test_images_themselves_would_give(simulation):
    # As benchmarks/statistics/temperature.md, smaller: cross entropy, 100 classes, imbalance ratio 100.
    errors = simulation("temperature").errors
    seeds = [
        errors(100, 100, 500, 1.0, trained=trained, seed=seed, test_images=4000)
        for trained in (False, True)
        for seed in range(3)
    ]
    _, unweighted, _, fitted, best = torch.tensor(seeds).mean(0).tolist()
    assert fitted <= 1.2 * best
    assert unweighted > 3 * fitted


def test_old_results_say_that_their_temperature_is_for_the_validation_images(make_result):
    old = make_result().test.model_dump()
    old["temperature_scaled"] = {"temperature": 1.5, "ece": 3.0}
    found = Metrics.model_validate(old).temperature_scaled
    assert (found["temperature"], found["ece"], found["fitted_for"].prior) == (1.5, 3.0, "validation")
    assert make_result().test.temperature_scaled is None
