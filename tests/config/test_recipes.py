"""Recipes: those that come along, those of papers, and a user's own."""

import pytest

from ltbench import registry
from ltbench.config import Augment, Recipe, RunConfig, recipes, run_id
from ltbench.errors import LtbenchError
from ltbench.method.paper import paper_of
from ltbench.runs.resolve import resolve
from ltbench.training.schedule import recipe_lr

TABLES = ("cifar", "digits", "folder", "imagenet-lt", "inaturalist2018", "places-lt")


@pytest.mark.parametrize("name", ["standard", "long"])
@pytest.mark.parametrize("table", TABLES)
def test_every_recipe_loads_for_every_kind_of_data(name, table):
    assert recipes.recipe(name, table).name == name
    heads = ["linear-probing"] if name == "standard" else []  # on frozen features, of any data
    assert sorted(recipes.tables(name)) == sorted([*TABLES, *heads])
    assert recipes.names() == ["finetune", "long", "standard"]


@pytest.mark.parametrize("table", TABLES)
def test_fine_tuning_is_the_same_for_every_kind_of_data(table):
    recipe = recipes.recipe("finetune", table)
    assert (recipe.name, recipe.optimizer, recipe.head, recipe.decay_norms) == ("finetune", "adamw", "linear", False)
    assert recipe.model_copy(update={"augment": Augment()}) == recipes.recipe("finetune", "cifar").model_copy(
        update={"augment": Augment()}
    )


def test_fine_tuning_is_about_whole_networks():
    with pytest.raises(LtbenchError, match="recipe 'finetune' has no settings for linear-probing"):
        recipes.recipe("finetune", "linear-probing")
    with pytest.raises(LtbenchError, match="there are no weights") as error:
        resolve(RunConfig(method="ce", recipe="finetune"))
    assert "--weights FILE" in str(error.value)


def test_the_standard_recipe_of_cifar_is_the_published_one():
    recipe = recipes.recipe("standard", "cifar")
    # 200 epochs; 5 of warm-up; steps after epochs 160 and 180, to a tenth and a hundredth (BalPoE, section 4.1).
    rates = [recipe_lr(recipe, epoch) for epoch in (0, 4, 5, 159, 160, 179, 180, 199)]
    assert rates == pytest.approx([0.02, 0.1, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
    assert (recipe.epochs, recipe.batch_size, recipe.weight_decay, recipe.momentum) == (200, 128, 5e-4, 0.9)
    assert recipe.nesterov
    # padding by 4 of 32 pixels
    assert (recipe.augment.padding, recipe.augment.flip, recipe.augment.rotation) == (4 / 32, True, 15)


def test_the_long_recipe_is_twice_as_long_with_autoaugment():
    for table in TABLES:
        long, standard = recipes.recipe("long", table), recipes.recipe("standard", table)
        assert long.epochs >= 2 * standard.epochs
        assert (long.milestones, long.gamma, long.schedule) == (standard.milestones, standard.gamma, standard.schedule)
    assert recipes.recipe("long", "cifar").augment.policy == "cifar10"


@pytest.mark.parametrize("name", ["standard", "long"])
def test_large_natural_image_sets_are_trained_with_a_cosine(name):
    for table in ("imagenet-lt", "inaturalist2018"):
        recipe = recipes.recipe(name, table)
        assert (recipe.schedule, recipe.warmup) == ("cosine", 0)
        assert recipe_lr(recipe, 0) == recipe.lr
        assert recipe_lr(recipe, recipe.epochs // 2) == pytest.approx(recipe.lr / 2)


def test_large_natural_images_are_varied_as_published():
    # I0 of BalPoE and SADE on ImageNet-LT, the same without jitter on iNaturalist; long training adds RandAugment
    tables = {"imagenet-lt": (0.4, 0.4, 0.4, 0), "inaturalist2018": (0, 0, 0, 0), "places-lt": (0.4, 0.4, 0.4, 0)}
    for table, jitter in tables.items():
        how = recipes.recipe("standard", table).augment
        assert (how.crop, how.flip, how.jitter, how.policy) == ((0.08, 1), True, jitter, None)
        how = recipes.recipe("long", table).augment
        assert (how.crop, how.flip, how.jitter, how.policy) == ((0.08, 1), True, (0.4, 0.4, 0.4, 0), "randaugment")


def test_places_is_fine_tuned_for_thirty_epochs():
    # SADE: 30 epochs from 0.01, a tenth of it after 10, a hundredth after 20
    recipe = recipes.recipe("standard", "places-lt")
    rates = [recipe_lr(recipe, epoch) for epoch in (0, 9, 10, 19, 20, 29)]
    assert rates == pytest.approx([0.01, 0.01, 1e-3, 1e-3, 1e-4, 1e-4])


def test_digits_are_never_mirrored():
    assert not any(recipes.recipe(name, "digits").augment.flip for name in recipes.names())


def test_an_unknown_recipe_and_one_without_the_data_set_are_refused():
    with pytest.raises(LtbenchError, match=r"unknown recipe 'standart'\n.*\n.*did you mean standard"):
        recipes.recipe("standart", "digits")
    with pytest.raises(LtbenchError, match="recipe 'standard' has no settings for sound"):
        recipes.recipe("standard", "sound")


@pytest.mark.parametrize("name", registry.method_names())
def test_the_recipe_of_a_methods_authors_loads_for_every_table_they_name(name):
    own = paper_of(registry.method(name)).recipe
    assert set(own) <= {"cifar", "folder", "imagenet-lt", "inaturalist2018", "places-lt"}
    for table in own:
        recipe = recipes.of_paper(name, own, table)
        assert recipe.name == "paper"
        assert recipe.epochs >= 10


def test_the_paper_recipe_is_the_methods_own():
    config = resolve(RunConfig(method="balanced_softmax", dataset="cifar100-lt", recipe="paper")).config
    assert (config.recipe.batch_size, config.recipe.head, config.recipe.augment.cutout) == (512, "linear", 0.5)
    with pytest.raises(LtbenchError, match=r"the authors of 'ce' have no recipe for cifar"):
        resolve(RunConfig(method="ce", dataset="cifar100-lt", recipe="paper"))


def test_a_head_that_a_method_cannot_do_without_is_on_record():
    assert resolve(RunConfig(method="vs")).recipe.head == "linear"
    assert resolve(RunConfig(method="ldam", recipe=Recipe(head="linear"))).recipe.head == "cosine"


def test_the_contrast_view_is_mirrored_where_the_recipe_mirrors():
    for flip in (False, True):
        view = Recipe(augment={"flip": flip}).views["contrast"]
        assert (view.flip, view.crop, view.jitter, view.grey) == (flip, (0.2, 1.0), (0.4, 0.4, 0.4, 0.1), 0.2)
    own = Recipe(contrast={"blur": 0.5}).views
    assert (own["contrast"].blur, own["contrast"].crop) == (0.5, None)
    assert own["plain"] == Augment()


def test_a_recipe_file_is_named_after_itself_and_filled_with_defaults(tmp_path):
    path = tmp_path / "short.toml"
    path.write_text("epochs = 7\naugment = { flip = true }\n")
    recipe = resolve(RunConfig(recipe=str(path))).recipe
    assert (recipe.name, recipe.epochs, recipe.lr, recipe.augment.flip) == ("short", 7, 0.1, True)


def test_where_a_recipe_file_lies_does_not_change_the_run_id(tmp_path):
    ids = set()
    for folder in ("one", "two"):
        path = tmp_path / folder / "short.toml"
        path.parent.mkdir()
        path.write_text("epochs = 7\n")
        ids.add(run_id(resolve(RunConfig(recipe=str(path))).config, "1", "data"))
    assert len(ids) == 1


def test_a_recipe_file_with_an_unknown_key_is_refused(tmp_path):
    path = tmp_path / "short.toml"
    path.write_text("epoch = 7\n")
    with pytest.raises(LtbenchError, match="unknown setting 'epoch'") as caught:
        resolve(RunConfig(recipe=str(path)))
    assert str(path) in str(caught.value)
    assert "did you mean epochs" in str(caught.value)


def test_a_recipe_in_a_run_may_name_its_augmentation():
    recipe = RunConfig(recipe={"epochs": 3, "augment": "cifar-rotated"}).recipe
    assert (recipe.augment.rotation, recipe.augment.padding) == (15, 0.125)
    with pytest.raises(LtbenchError, match=r"unknown augmentation 'cifar-rotate'(?s:.*)did you mean cifar-rotated"):
        Recipe(augment="cifar-rotate")


@pytest.mark.parametrize("crop", [(0.9, 0.1), (0.0, 0.0), (0.0, 1.0)])
def test_a_crop_keeps_something(crop):
    with pytest.raises(ValueError, match="the smaller fraction above 0 comes first"):
        Augment(crop=crop)
