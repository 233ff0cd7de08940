"""Temperatures for other class frequencies than those of the validation images."""

import math
from dataclasses import replace

import pytest
import torch

from ltbench.metrics.calibration import fit_temperature, least_temperature
from ltbench.metrics.temperature import TargetPrior, TrainingPrior, _Posterior, class_weights, fit_for_prior
from ltbench.results.records import Metrics

BALANCED = TargetPrior("balanced", torch.ones(2))


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
    # As they are 96 / 110, balanced (.9 + .6) / 2 = .75. Posteriors of two kinds of images with a slope and a prior of
    # their own are the observed frequencies, so that they and the labels agree.
    logits, labels = table()
    assert fit_temperature(logits, labels) == pytest.approx(3 / math.log(96 / 14), rel=1e-3)
    found = fit_for_prior(logits, labels, BALANCED)
    assert found.value == pytest.approx(3 / math.log(3), rel=1e-3)
    # weights .5 / (10/11) = .55 and .5 / (1/11) = 5.5: (55 + 55)^2 / (100 .55^2 + 10 5.5^2) = 12100 / 332.75
    assert found.fitted_for.effective_images == pytest.approx(12100 / 332.75)
    assert found.fitted_for.model_dump(exclude={"effective_images"}) == {
        "prior": "balanced", "validation_images": 110, "classes_without_images": 0, "estimator": 2,
    }  # fmt: skip


def test_validation_images_with_the_targets_frequencies_have_weights_of_one():
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(300, 3, generator=generator)
    labels = torch.arange(300) % 3
    training = TrainingPrior(torch.tensor([500, 50, 5]), 1.0)
    found = fit_for_prior(logits, labels, TargetPrior("balanced", torch.ones(3)), training)
    assert found.value == fit_temperature(logits, labels)
    assert found.fitted_for.effective_images == pytest.approx(300)


def test_classes_that_the_target_lacks_do_not_count():
    logits, labels = table()
    only_first = TargetPrior("forward-50", torch.tensor([7.0, 0.0]))
    found = fit_for_prior(logits, labels, only_first)
    assert found.value == pytest.approx(3 / math.log(9), rel=1e-3)  # accuracy .9
    corrected = fit_for_prior(logits, labels, only_first, TrainingPrior(torch.tensor([9, 1]), 0.0), corrected=True)
    assert math.isfinite(corrected.value)


@pytest.mark.parametrize(("logit_prior", "corrected"), [(1.0, True), (0.0, False), (0.0, True)])
def test_the_steepness_of_logits_whose_posterior_is_known_is_found(simulation, logit_prior, corrected):
    # Corrected for the target, or balanced for a balanced one, softmax(z / 1.5) is the posterior.
    study = simulation("temperature")
    generator = torch.Generator().manual_seed(0)
    world, held = study.World.make(study.Case("exact", 10, 100, 5000, logit_prior), generator)
    drawn = world.draw(held, generator)
    balanced = TargetPrior("balanced", torch.ones(10))
    found = fit_for_prior(*drawn, balanced, TrainingPrior(world.trained_on, logit_prior), corrected=corrected)
    assert found.value == pytest.approx(study.STEEPNESS, rel=0.08)
    if not corrected:  # nor need it be known what is left of the training frequencies
        assert fit_for_prior(*drawn, balanced, TrainingPrior(world.trained_on, None)).value == pytest.approx(
            1.5, rel=0.08
        )


def test_the_posterior_of_logits_that_are_made_by_one_is_found():
    # Labels are drawn from softmax(.5 z + f z / 4 + f / 2) with f the centred log frequency, largest value one.
    generator = torch.Generator().manual_seed(1)
    frequency = torch.tensor([1.0, 0.2, -0.4, -0.8], dtype=torch.float64)
    scores = 3 * torch.randn(60_000, 4, generator=generator, dtype=torch.float64)
    scores -= scores.mean(1, keepdim=True)
    labels = torch.multinomial(((0.5 + frequency / 4) * scores + frequency / 2).softmax(1), 1, generator=generator)
    start = torch.zeros(3, dtype=torch.float64)
    found = _Posterior(start, torch.zeros(4), frequency).fitted(scores, labels.squeeze(1))
    torch.testing.assert_close(found.parameters, torch.tensor([0.5, 0.5, 0.25], dtype=torch.float64), rtol=0, atol=0.02)
    # of the sum of the slopes nothing is left at a maximum, and the numerical derivative agrees with the one used
    slopes, curvature = found.derivatives(scores, labels.squeeze(1))
    assert slopes.sum(0).abs().max() < 1e-2
    moved = replace(found, parameters=found.parameters + torch.tensor([0.0, 1e-3, 0.0]))
    change = (moved.derivatives(scores, labels.squeeze(1))[0].sum(0) - slopes.sum(0)) / 1e-3
    torch.testing.assert_close(change, -curvature[1], rtol=1e-2, atol=1.0)


def test_the_influence_of_an_image_is_what_leaving_it_out_changes():
    generator = torch.Generator().manual_seed(2)
    scores = 2 * torch.randn(400, 3, generator=generator, dtype=torch.float64)
    labels = torch.multinomial((scores / 2).softmax(1), 1, generator=generator).squeeze(1)
    by_class, frequency = torch.tensor([0.5, 1.0, 2.0]).double(), torch.tensor([1.0, 0.0, -1.0]).double()

    def fitted(keep):
        posterior = _Posterior(torch.tensor([0.5, 0.0, 0.0]).double(), torch.zeros(3), frequency)
        posterior = posterior.fitted(scores[keep], labels[keep])
        return posterior, least_temperature(posterior.expected_likelihood(scores[keep], by_class, None))

    everyone = torch.ones(400, dtype=torch.bool)
    posterior, value = fitted(everyone)
    influence = posterior.influence(scores, labels, by_class, value, None)
    for image in influence.abs().topk(3).indices.tolist():
        without = everyone.clone()
        without[image] = False
        change = math.log(value) - math.log(fitted(without)[1])
        assert change == pytest.approx(float(influence[image]), rel=0.1)


def test_what_is_said_of_the_logits_does_not_count_where_the_images_say_otherwise(simulation):
    # Cross entropy said to be balanced: the weighted images contradict it by many standard errors.
    study = simulation("temperature")
    generator = torch.Generator().manual_seed(0)
    world, held = study.World.make(study.Case("exact", 20, 50, 2000, 1.0), generator)
    drawn = world.draw(held, generator)
    prior = TargetPrior("balanced", torch.ones(20))
    told = fit_for_prior(*drawn, prior, TrainingPrior(world.trained_on, 1.0)).value
    lied_to = fit_for_prior(*drawn, prior, TrainingPrior(world.trained_on, 0.0)).value
    assert abs(lied_to - told) < 0.2 * abs(fit_temperature(*drawn) - told)


def test_labels_that_contradict_every_posterior_are_followed():
    # Logits of class 2 are noise for half of its images: no slope by frequency is that, as class 1 is as rare.
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(3).repeat_interleave(torch.tensor([20_000, 2_000, 2_000]))
    scores = 4.0 * torch.nn.functional.one_hot(labels, 3) + torch.randn(24_000, 3, generator=generator)
    scores[22_000:23_000] = 4 * torch.nn.functional.one_hot(torch.arange(1000) % 2, 3) + torch.randn(
        1000, 3, generator=generator
    )
    prior, training = TargetPrior("balanced", torch.ones(3)), TrainingPrior(torch.tensor([10, 1, 1]), 1.0)
    by_labels = fit_temperature(scores, labels, class_weights(torch.full((3,), 1 / 3), training.counts)[labels])
    assert fit_for_prior(scores, labels, prior, training).value == pytest.approx(by_labels, rel=0.05)


@pytest.mark.slow
def test_a_temperature_reaches_what_the_test_images_themselves_would_give(simulation):
    # As benchmarks/statistics/temperature.md, smaller: cross entropy, 100 classes, imbalance ratio 100.
    study = simulation("temperature")
    rows = [
        study.Row.of(case, [study.simulate(case, seed, 4000) for seed in range(3)])
        for case in (study.Case("exact", 100, 100, 500, 1), study.Case("trained", 100, 100, 500, 1))
    ]
    assert sum(row.ece[3] for row in rows) <= 1.2 * sum(row.ece[4] for row in rows)
    assert all(row.ece[1] > 3 * row.ece[3] for row in rows)
    assert all(row.apart < math.log(1.2) for row in rows)


def test_a_temperature_at_the_end_of_the_search_is_a_fault():
    # Every image is right, so that the likelihood rises without end as T falls; logits that say nothing: as T grows.
    labels = torch.arange(40) % 2
    right = torch.nn.functional.one_hot(labels, 2).float()
    assert "0.05, where the search ends" in fit_for_prior(right, labels, BALANCED).fault
    assert "19.97, where the search ends" in fit_for_prior(1 - right, labels, BALANCED).fault
    assert fit_for_prior(*table(), BALANCED).fault is None


def test_old_results_say_that_their_temperature_is_for_the_validation_images(make_result):
    old = make_result().test.model_dump()
    old["temperature_scaled"] = {"temperature": 1.5, "ece": 3.0}
    found = Metrics.model_validate(old).temperature_scaled
    assert (found["temperature"], found["ece"], found["fitted_for"].prior) == (1.5, 3.0, "validation")
    assert make_result().test.temperature_scaled is None
