"""Learning rates against the published configurations, and stages that share the epochs."""

import math

import pytest
import torch

from ltbench import registry
from ltbench.config import Recipe, RunConfig, recipes
from ltbench.errors import LtbenchError
from ltbench.method import Stage, StageSchedule, deferred
from ltbench.method.build import build_method
from ltbench.runs.resolve import resolve
from ltbench.training.schedule import plan, recipe_lr, stages_of


def method_of(name):
    """A method as a run on three classes builds it."""
    run = resolve(RunConfig(method=name, backbone="cifar_resnet8"))
    return build_method(registry.method(name), run, [9, 3, 1], (1, 8, 8), torch.device("cpu"))


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


def tenths(share, epochs):
    """Share in tenths, in whole numbers: a half is rounded up."""
    return (share * epochs + 5) // 10


@pytest.mark.parametrize(
    ("epochs", "rates"),
    [
        (1, [0]),
        (2, [0, 1]),
        (3, [0, 0, 1]),
        (4, [0, 0, 0, 1]),
        (5, [0, 0, 0, 0, 1]),
        (6, [0, 0, 0, 0, 1, 2]),
        (7, [0, 0, 0, 0, 0, 1, 2]),
        (8, [0, 0, 0, 0, 0, 0, 1, 2]),
        (25, [0] * 20 + [1] * 3 + [2] * 2),
    ],
)
def test_the_rate_falls_once_at_a_time_however_short_the_run(epochs, rates):
    recipe = Recipe(epochs=epochs, lr=1.0, warmup=0)
    assert [recipe_lr(recipe, epoch) for epoch in range(epochs)] == pytest.approx([0.1**drops for drops in rates])


def test_milestones_of_every_length_are_rounded_half_up_and_kept_apart():
    together = {1: (1, 2), 2: (1, 2), 6: (4, 5), 7: (5, 6)}  # where both would be rounded to one epoch
    for epochs in range(1, 401):
        expected = together.get(epochs, (tenths(8, epochs), tenths(9, epochs)))
        assert Recipe(epochs=epochs).milestone_epochs == expected, epochs
    assert [epochs for epochs in range(1, 401) if tenths(8, epochs) == tenths(9, epochs)] == sorted(together)
    assert Recipe(epochs=200).milestone_epochs == (160, 180)
    assert Recipe(epochs=400).milestone_epochs == (320, 360)


@pytest.mark.parametrize(
    ("milestones", "epochs", "expected"),
    [
        ((1 / 3, 2 / 3), 1, (1, 2)),  # not 0 and 1: the first epoch would have the second rate
        ((1 / 3, 2 / 3), 2, (1, 2)),
        ((0.7,), 15, (11,)),  # 10.5, in binary 10.499999999999999
        ((0.9, 0.8), 20, (16, 18)),
        ((0.0, 0.5), 4, (0, 2)),  # from the start, as asked
        ((0.5, 0.5), 5, (3, 3)),  # two at once, as asked
        ((0.9, 1.0), 4, (3, 4)),
        ((0.5, 0.75, 0.95), 3, (1, 2, 3)),
        ((0.8, 0.8001), 200, (159, 160)),
        ((), 5, ()),
    ],
)
def test_milestones_at_odd_places(milestones, epochs, expected):
    assert Recipe(epochs=epochs, milestones=milestones).milestone_epochs == expected


@pytest.mark.slow
def test_the_warm_up_of_every_length_is_rounded_half_up_and_lasts_an_epoch():
    for epochs in range(1, 401):
        recipe = Recipe(epochs=epochs, warmup=0.025, milestones=(), lr=1.0)
        length = max(1, (epochs + 20) // 40)
        rates = [recipe_lr(recipe, epoch) for epoch in range(epochs)]
        assert rates == pytest.approx([min(1.0, (epoch + 1) / length) for epoch in range(epochs)]), epochs


@pytest.mark.slow
def test_a_deferred_stage_of_every_length_begins_with_the_first_milestone_or_never():
    for epochs in range(2, 401):
        first, late = plan(deferred(Recipe(epochs=epochs)), Recipe(epochs=epochs))
        progress = {2: 1}.get(epochs, tenths(8, epochs))
        assert (first.epochs, late.epochs) == (progress, epochs - progress)
        assert (
            epochs in (6, 7) or progress == Recipe(epochs=epochs).milestone_epochs[0]
        )  # there the milestone makes room
    assert len(deferred(Recipe(epochs=1))) == 1
    assert len(deferred(Recipe(epochs=10), start=1.0)) == 1
    assert [stage.epochs for stage in deferred(Recipe(epochs=5), start=0.5)] == [3, None]


def test_one_open_stage_takes_what_the_others_leave():
    stages = (Stage("first", epochs=3), Stage("middle"), Stage("last", epochs=3))
    planned = plan(stages, Recipe(epochs=10, warmup=0, milestones=(0.8,)))
    assert [one.epochs for one in planned] == [3, 4, 3]
    joined = [rate for one in planned for rate in one.lrs]
    assert joined == pytest.approx([0.1] * 8 + [0.01] * 2), "the recipe's schedule runs on through the stages"


def test_a_stage_with_its_own_schedule_comes_on_top():
    stages = (Stage("features"), Stage("classifier", epochs=2, schedule=StageSchedule(0.2, "cosine")))
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


def test_the_head_of_a_pre_trained_network_can_be_trained_first():
    recipe = Recipe(epochs=4, head_epochs=2, lr=0.01, schedule="cosine", warmup=0.25)
    head, whole = plan(stages_of(method_of("balpoe"), recipe), recipe)
    assert (head.stage.name, head.stage.trains, head.lrs) == ("head", ("network.heads",), (0.01, 0.01))
    assert whole == plan([Stage(after_head=True)], recipe.model_copy(update={"head_epochs": 0}))[0], (
        "its epochs are the recipe's"
    )


def test_what_a_method_has_beside_the_network_trains_with_the_head():
    method = method_of("bcl")
    head = stages_of(method, Recipe(head_epochs=1))[0]
    trained = {name for name, _ in method.named_parameters() if name.startswith(head.trains)}
    backbone = {name for name, _ in method.named_parameters() if name.startswith(("network.trunk", "network.branches"))}
    assert trained and trained.isdisjoint(backbone)
    assert trained | backbone == {name for name, _ in method.named_parameters()}


def test_a_second_stage_has_no_head_to_train_first():
    method, recipe = method_of("crt"), Recipe(epochs=4, head_epochs=2)
    assert list(stages_of(method, recipe)) == list(method.stages(recipe))
