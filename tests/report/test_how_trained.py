"""What a table says about its training."""

import pytest

from ltbench.data.datasets.digits import Digits
from ltbench.registry.declared import recipe_of
from ltbench.report.collection import Collection
from ltbench.report.how_trained import backbone_name
from ltbench.report.leaderboard import leaderboards
from ltbench.report.split_reasons import split_reasons
from ltbench.results.store import read


@pytest.fixture
def trained(make_result):
    """What the table of one run says about its training."""

    def make(dataset, *, recipe="standard", epochs=None, folder=None, **settings):
        known = recipe_of("standard" if recipe == "mine" else recipe, dataset).model_dump()
        values = {**known, "name": recipe, **({"epochs": epochs} if epochs else {})}
        result = make_result(recipe=values, settings={"dataset": dataset, "imbalance_ratio": 100, **settings})
        if folder:
            result = result.model_copy(update={"data": result.data.model_copy(update={"folder": folder})})
        (board,) = leaderboards(Collection({result.run_id: result}, {result.run_id: "x"}))
        return board.trained

    return make


CIFAR = {"image_size": 32, "backbone": "cifar_resnet32"}


def test_a_short_training_is_in_the_title_and_in_a_warning(trained):
    about = trained("cifar100-lt", epochs=10, precision="bf16", **CIFAR)
    assert about.title == "cifar100-lt · IR 100 · ResNet-32 · standard recipe, 10 of 200 epochs · bf16"
    assert about.warning == "Warning: not as the recipe has it: 10 of 200 epochs."
    assert about.fraction == 0.05


def test_a_training_as_the_recipe_has_it_has_no_warning(trained):
    about = trained("cifar100-lt", **CIFAR)
    assert about.title == "cifar100-lt · IR 100 · ResNet-32 · standard recipe, 200 epochs · fp32"
    assert (about.warning, about.fraction) == ("", 1.0)
    assert trained("cifar100-lt", recipe="long", **CIFAR).title.endswith("long recipe, 400 epochs · fp32")


def test_another_size_backbone_or_rate_is_in_the_warning(trained):
    about = trained("cifar100-lt", image_size=16, backbone="cifar_resnet8")
    assert about.title == "cifar100-lt · IR 100 · 16 pixels · ResNet-8 · standard recipe, 200 epochs · fp32"
    assert about.warning == (
        "Warning: not as the recipe has it: images of 16 pixels instead of 32; backbone ResNet-8 instead of ResNet-32."
    )


def test_what_is_trained_as_the_recipe_has_it_comes_first(make_result):
    known = recipe_of("standard", "cifar100-lt").model_dump()
    settings = {"dataset": "cifar100-lt", "imbalance_ratio": 100, **CIFAR}
    results = [make_result(recipe={**known, "epochs": epochs}, settings=settings) for epochs in (10, 200)]
    boards = leaderboards(Collection({one.run_id: one for one in results}, {one.run_id: "x" for one in results}))
    assert [board.trained.fraction for board in boards] == [1.0, 0.05]


def test_a_setting_that_all_rows_have_otherwise_than_the_recipe_is_in_the_warning(make_result):
    recipe = {**recipe_of("standard", "digits-lt").model_dump(), "lr": 0.05, "batch_size": 32}
    results = [make_result(method, recipe=recipe) for method in ("ce", "sade")]
    (board,) = leaderboards(Collection({one.run_id: one for one in results}, {one.run_id: "x" for one in results}))
    assert board.trained.warning == "Warning: not as the recipe has it: another batch size, lr."


def test_a_folder_has_its_name_classes_images_and_size(trained):
    # make_result has 20 images of one class and one of another
    about = trained("folder-lt", folder="my birds", image_size=64, backbone="cifar_resnet32", imbalance_ratio=None)
    assert about.title == (
        "my birds · 2 classes · 21 training images · 64 pixels · as it is · ResNet-32 · standard recipe, 200 epochs"
        " · fp32"
    )


def test_a_recipe_of_a_users_own_has_no_length_to_be_compared_with(trained):
    about = trained("digits-lt", recipe="mine", epochs=7, imbalance_ratio=20)
    assert about.title == "digits-lt · IR 20 · ResNet-20 · mine recipe, 7 epochs · fp32"
    assert (about.warning, about.fraction) == ("", None)


def test_trainings_of_other_lengths_backbones_and_precisions_have_tables_of_their_own(make_result):
    results = [
        make_result(),
        make_result(recipe={"epochs": 6}),
        make_result(settings={"precision": "bf16"}),
        make_result("sade", settings={"backbone": "cifar_resnet8"}),
    ]
    boards = leaderboards(Collection({one.run_id: one for one in results}, {one.run_id: "x" for one in results}))
    assert len({board.title for board in boards}) == 4


def test_authors_recipes_stand_in_one_table(make_result):
    lengths = {"ce": 200, "paco": 400}
    results = [make_result(name, recipe={"name": "paper", "epochs": epochs}) for name, epochs in lengths.items()]
    (board,) = leaderboards(Collection({one.run_id: one for one in results}, {one.run_id: "x" for one in results}))
    assert "authors' recipes, 200 to 400 epochs" in board.title


def test_pretrained_and_untrained_networks_and_authors_recipes_stand_side_by_side(make_result):
    weights = "sha256:0123456789abcdef"
    results = [
        make_result(),
        make_result(settings={"weights": weights, "image_size": 64}),
        make_result(settings={"weights": weights, "train": "head", "image_size": None}),
        make_result(recipe={"name": "paper"}),
    ]
    boards = leaderboards(Collection({one.run_id: one for one in results}, {one.run_id: "x" for one in results}))
    assert {(board.key["weights"], board.key["image_size"]) for board in boards} == {
        (None, results[0].config.image_size),
        (weights, 64),
        (weights, None),
    }
    assert ["weights 01234567" in board.title for board in boards].count(True) == 2
    assert not any(".0 pixels" in board.title for board in boards)
    (line,) = split_reasons(boards)
    assert "01234567" in line
    assert "epochs (each its own / 200)" in line


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("cifar_resnet32", "ResNet-32"),
        ("resnet50", "ResNet-50"),
        ("resnext50_32x4d", "ResNeXt-50-32x4d"),
        ("vit_base_patch16_clip_224.openai", "vit_base_patch16_clip_224.openai"),
        ("resnet50.a1_in1k", "resnet50.a1_in1k"),
    ],
)
def test_backbones_have_the_names_of_papers(name, shown):
    assert backbone_name(name) == shown


@pytest.mark.slow
def test_a_users_method_has_the_recipe_of_the_authors_whose_method_it_extends(tmp_path, cli, monkeypatch):
    monkeypatch.setattr(Digits, "recipe_table", "cifar")  # which BalPoE's authors have one for
    (tmp_path / "own").mkdir()
    text = "from ltbench_methods.balpoe import BalPoE\n\nclass Mine(BalPoE):\n    pass\n"
    (tmp_path / "own" / "mine.py").write_text(text)
    words = ("--method", "mine", "--methods-dir", "own", "--recipe", "paper", "--backbone", "cifar_resnet8")
    assert cli("run", *words, "--epochs", 1, "--lr", 0.5).code == 0
    [path] = (tmp_path / "runs").rglob("*.json")
    method = read(path).method
    assert (method.paper, method.name) == (None, None)
    assert method.authors_recipe.epochs > 1
    shown = cli("report").out
    assert "Warning: not as the recipe has it: 1 of " in shown
