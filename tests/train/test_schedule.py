"""Learning rates against the published configurations, and stages that share the epochs."""

import math

import pytest

from ltbench import recipes
from ltbench.config import Recipe
from ltbench.errors import LtbenchError
from ltbench.method import Schedule, Stage
from ltbench.train.schedule import plan, recipe_lr


def test_the_standard_cifar_schedule():
    recipe = recipes.recipe("standard", "cifar")
    rates = [recipe_lr(recipe, epoch) for epoch in range(200)]
    assert rates[:6] == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1, 0.1])
    assert (rates[159], rates[160], rates[179], rates[180], rates[199]) == pytest.approx((0.1, 0.01, 0.01, 1e-3, 1e-3))


def test_the_long_cifar_schedule():
    recipe = recipes.recipe("long", "cifar")
    rates = [recipe_lr(recipe, epoch) for epoch in range(400)]
    assert rates[:11] == pytest.approx([0.01 * (epoch + 1) for epoch in range(10)] + [0.1])
    assert (rates[319], rates[320], rates[359], rates[360]) == pytest.approx((0.1, 0.01, 0.01, 1e-3))


def test_the_imagenet_schedule_is_a_cosine_without_warm_up():
    recipe = recipes.recipe("standard", "imagenet-lt")
    rates = [recipe_lr(recipe, epoch) for epoch in range(180)]
    assert (rates[0], rates[90]) == pytest.approx((0.025, 0.0125))
    assert rates[179] == pytest.approx(0.025 * 0.5 * (1 + math.cos(math.pi * 179 / 180)))


def test_ten_epochs_are_a_small_copy_of_two_hundred():
    recipe = recipes.recipe("standard", "cifar").model_copy(update={"epochs": 10})
    assert [recipe_lr(recipe, epoch) for epoch in range(10)] == pytest.approx([0.1] * 8 + [0.01, 0.001])


def test_one_open_stage_takes_what_the_others_leave():
    stages = (Stage("first", epochs=3), Stage("middle"), Stage("last", epochs=3))
    planned = plan(stages, Recipe(epochs=10, warmup=0, milestones=(0.8,)))
    assert [one.epochs for one in planned] == [3, 4, 3]
    joined = [rate for one in planned for rate in one.lrs]
    assert joined == pytest.approx([0.1] * 8 + [0.01] * 2), "the recipe's schedule runs on through the stages"


def test_a_stage_with_its_own_schedule_comes_on_top():
    stages = (Stage("features"), Stage("classifier", epochs=2, schedule=Schedule(0.2, "cosine")))
    planned = plan(stages, Recipe(epochs=4))
    assert [one.epochs for one in planned] == [4, 2]
    assert planned[1].lrs == pytest.approx((0.2, 0.1))


@pytest.mark.parametrize(
    "stages",
    [
        (Stage("a", epochs=3), Stage("b", epochs=3)),
        (Stage("a"), Stage("b")),
        (Stage("a", epochs=5), Stage("b")),
        (Stage("a", epochs=1), Stage("a", epochs=1)),
        (Stage("a", epochs=3),),
        (Stage("a"), Stage("b", epochs=0)),
    ],
    ids=["too long", "two open", "nothing left", "same name", "too short", "no epochs"],
)
def test_stages_that_do_not_fit_are_refused(stages):
    with pytest.raises(LtbenchError, match="stages"):
        plan(stages, Recipe(epochs=5))
