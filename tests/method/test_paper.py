"""What is published about a method, as the TOML file beside its own says."""

import pytest

from ltbench import registry
from ltbench.config import RunConfig, recipes
from ltbench.errors import LtbenchError
from ltbench.method.claims import fitting_claims, paper_record
from ltbench.method.paper import Paper, paper_of
from ltbench.runs.resolve import resolve

TITLE = "Balanced Product of Calibrated Experts"
METHOD = """
from ltbench.method import Method, MethodConfig, hyperparameter

class Mine(Method):
    class Config(MethodConfig):
        tau: float = hyperparameter(1.0, ge=0, description="strength")
"""
WHOLE = """
title = "A Title"
authors = ["Ann Other", "Bo Third"]
venue = "A Conference"
year = 2024
checkpoint = "last epoch"
reported = ["Mine|CIFAR-100-LT|100|ResNet-32|200"]

[[variant]]
settings = { tau = 2 }
unstated = ["mixup"]
differs = ["another network"]
reported = ["Mine+|CIFAR-100-LT|100|ResNet-32|200"]

[defaults.cifar100-lt]
tau = 0.5

[recipe.cifar]
epochs = 300
augment = "cifar-rotated"
contrast = { flip = true }

[recipe.imagenet-lt]
like = "cifar"
epochs = 90
"""


@pytest.fixture
def mine(tmp_path):
    """Write a method of a user's own, with a TOML file beside it, and give its class."""

    def write(text, method=METHOD):
        (tmp_path / "mine.py").write_text(method)
        if text is not None:
            (tmp_path / "mine.toml").write_text(text)
        registry.add_methods_dir(tmp_path)
        return registry.method("mine")

    return write


def test_bibtex_has_the_first_author_as_key():
    authors = ("Emanuel Sanchez Aimar", "Arvi Jonnarth")
    paper = Paper(title=TITLE, authors=authors, venue="A Conference", year=2023)
    assert paper.bibtex == (
        "@inproceedings{aimar2023,\n"
        "  title = {Balanced Product of Calibrated Experts},\n"
        "  author = {Emanuel Sanchez Aimar and Arvi Jonnarth},\n"
        "  booktitle = {A Conference},\n"
        "  year = {2023}\n}"
    )


def test_a_journal_is_no_conference():
    venue = "IEEE Transactions on Pattern Analysis"
    entry = Paper(title=TITLE, authors=("Li-Wei O'Brien",), venue=venue, year=2024).bibtex
    assert entry.startswith("@article{obrien2024,")
    assert "  journal = {IEEE Transactions on Pattern Analysis}," in entry


@pytest.mark.parametrize("name", registry.method_names())
def test_every_method_has_a_paper_whose_data_sets_and_recipe_tables_are_known(name):
    paper = paper_of(registry.method(name))
    assert paper.bibtex.count("{") == paper.bibtex.count("}") == 5
    assert set(paper.defaults) <= set(registry.dataset_names())
    assert set(paper.recipe) <= set(recipes.tables("standard"))


def test_a_users_method_needs_no_toml_file(mine):
    cls = mine(None)
    assert paper_of(cls) == Paper()
    assert paper_record(cls, resolve(RunConfig(method="mine")).config, "digits") is None


def test_the_toml_file_beside_a_users_method_is_used(mine):
    cls = mine(WHOLE)
    run = resolve(RunConfig(method="mine", dataset="cifar100-lt", recipe="paper")).config
    assert (run.hyperparameters["tau"], run.recipe.epochs, run.recipe.augment.rotation) == (0.5, 300, 15)
    assert run.recipe.contrast.flip
    record = paper_record(cls, run, "cifar")
    assert (record.title, record.authors, record.recipe) == ("A Title", "Ann Other and Bo Third", run.recipe)
    assert record.claims == ["Mine|CIFAR-100-LT|100|ResNet-32|200"]
    other = resolve(RunConfig(method="mine", dataset="cifar100-lt", hyperparameters={"tau": 2, "mixup": 0.3})).config
    assert fitting_claims(cls, other) == {
        "Mine+|CIFAR-100-LT|100|ResNet-32|200": ["mixup 0.3 (reported: not stated)", "another network"]
    }


def test_a_recipe_that_is_like_another_says_what_differs(mine):
    cifar, imagenet = (paper_of(mine(WHOLE)).recipe[table] for table in ("cifar", "imagenet-lt"))
    assert imagenet == cifar.model_copy(update={"epochs": 90})
    assert (imagenet.name, cifar.name) == ("paper", "paper")


def test_a_file_with_defaults_alone_is_no_paper(mine):
    cls = mine("defaults.digits-lt.tau = 3.0")
    run = resolve(RunConfig(method="mine")).config
    assert run.hyperparameters["tau"] == 3
    assert paper_record(cls, run, "digits") is None


@pytest.mark.parametrize(
    ("line", "changed", "said"),
    [
        ('title = "A Title"', 'titel = "A Title"', ["unknown setting 'titel'", "did you mean title"]),
        ("year = 2024", "", ["year must be given, too"]),
        ("year = 2024", 'year = "soon"', ["year", "'soon'"]),
        ("reported = [\"Mine|", "reportd = [\"Mine|", ["unknown setting 'reportd'", "did you mean reported"]),
        ("settings = { tau = 2 }", "settings = { tua = 2 }", ["[[variant]] 1", "unknown hyper-parameter 'tua'"]),
        ("settings = { tau = 2 }", "settings = { tau = -2 }", ["[[variant]] 1", "tau", "(got -2)"]),
        ('unstated = ["mixup"]', 'unstated = ["mxiup"]', ["[[variant]] 1", "unknown hyper-parameter 'mxiup'"]),
        ("differs =", "difers =", ["[[variant]] 1", "unknown setting 'difers'", "did you mean differs"]),
        ("tau = 0.5", "tua = 0.5", ["[defaults.cifar100-lt]", "unknown hyper-parameter 'tua'", "did you mean tau"]),
        ("tau = 0.5", "imbalance_ratio.50 = 1", ["[defaults.cifar100-lt]", "imbalance_ratio.50]"]),
        ("tau = 0.5", "imbalance_ratio.x.tau = 1", ["[defaults.cifar100-lt]", "a table of that number"]),
        ("tau = 0.5", "imbalance_ratio.50.tua = 1", ["imbalance_ratio.50]", "unknown hyper-parameter 'tua'"]),
        ("epochs = 300", "epoch = 300", ["[recipe.cifar]", "unknown setting 'epoch'", "did you mean epochs"]),
        ('"cifar-rotated"', '"cifar-rotate"', ["[recipe.cifar]", "unknown augmentation", "mean cifar-rotated"]),
        ('like = "cifar"', 'like = "cifra"', ["[recipe.imagenet-lt]", "unknown recipe 'cifra'", "did you mean cifar"]),
        ("[recipe.imagenet-lt]", "[recipe.imagenet_lt]", ["[recipe.imagenet_lt]", "did you mean imagenet-lt"]),
        ('"last epoch"', '"last"', ["checkpoint", "'last epoch'", "(got 'last')"]),
        ("[recipe.imagenet-lt]", "[recipes.imagenet-lt]", ["unknown setting 'recipes'", "did you mean recipe"]),
        ("[[variant]]", "[variant]", ["'variant' must be a list of tables", "write [[variant]]"]),
        ('year = 2024', 'year = = 2024', ["not a valid TOML file"]),
    ],
)  # fmt: skip
def test_a_slip_in_the_file_is_named_with_file_and_key(mine, tmp_path, line, changed, said):
    assert line in WHOLE
    cls = mine(WHOLE.replace(line, changed, 1))
    with pytest.raises(LtbenchError) as caught:
        paper_of(cls)
    for words in (str(tmp_path / "mine.toml"), *said):
        assert words in str(caught.value)


def test_a_subclass_has_the_authors_settings_of_the_method_that_it_extends_but_is_not_that_method(mine):
    cls = mine(None, "from ltbench_methods.balpoe import BalPoE\n\nclass Mine(BalPoE):\n    pass\n")
    theirs = paper_of(registry.method("balpoe"))
    assert theirs.name and theirs.claims and theirs.same_as is not None and theirs.defaults and theirs.recipe
    assert paper_of(cls) == Paper(defaults=theirs.defaults, recipe=theirs.recipe)
    run = resolve(RunConfig(method="mine", dataset="cifar10-lt", imbalance_ratio=100)).config
    assert run.hyperparameters["mixup"] == 0.8  # BalPoE's authors' for this data set
    assert paper_record(cls, run, "cifar") is None  # nothing to compare its results with, or to cite for them


def test_a_subclass_with_other_hyper_parameters_has_none_of_it(mine):
    text = METHOD.replace("class Mine(Method)", "class Mine(RIDE)") + "\n"
    assert paper_of(mine(None, "from ltbench_methods.ride import RIDE\n" + text)) == Paper()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("tau: float", "space: ClassVar = {}\n        tau: float", "hyperparameter(1.0, search=Range(0.5, 2.0))"),
        ("tau: float", "dataset_defaults: ClassVar = {}\n        tau: float", "[defaults.DATASET]"),
        ("class Config", "paper = None\n    class Config", "the TOML file beside the method"),
        ("class Config", "coupled = True\n    class Config", "couples_batch"),
        ("class Config", "gathers = True\n    class Config", "gathers_across_processes"),
        ("class Config", "track = 'x'\n    class Config", "comparison_group"),
        ("class Config", "space = {}\n    class Config", "on its hyper-parameter"),
    ],
)
def test_what_has_moved_to_the_toml_file_or_the_hyper_parameter_is_refused(mine, old, new, said):
    with pytest.raises(LtbenchError, match="cannot be loaded: TypeError") as caught:
        mine(None, "from typing import ClassVar\n" + METHOD.replace(old, new, 1))
    assert said in str(caught.value)


def test_ltbench_check_reads_the_toml_file_and_knows_its_data_sets(cli, mine, tmp_path):
    with registry.temporary_methods():
        mine(WHOLE.replace("[defaults.cifar100-lt]", "[defaults.cifar100]"))
    done = cli("check", tmp_path / "mine.py")
    assert (done.code, done.out) == (2, "")
    assert "unknown data set 'cifar100'" in done.err
    assert f"where: {tmp_path / 'mine.toml'}, [defaults.cifar100]" in done.err
    assert "did you mean cifar100-lt" in done.err


def test_a_run_refuses_defaults_for_a_data_set_that_there_is_not(mine, tmp_path):
    mine(WHOLE.replace("[defaults.cifar100-lt]", "[defaults.cifar100_lt]"))
    with pytest.raises(LtbenchError, match="unknown data set 'cifar100_lt'") as caught:
        resolve(RunConfig(method="mine"))
    assert f"{tmp_path / 'mine.toml'}, [defaults.cifar100_lt]" in str(caught.value)


def test_ltbench_check_knows_the_rows_of_published_figures(cli, mine, tmp_path):
    with registry.temporary_methods():
        mine('reported = ["CE|CIFAR-100-LT|100|ResNet-32|200", "CE|CIFAR-100-LT|100|ResNet-32|201"]')
    done = cli("check", tmp_path / "mine.py")
    assert done.code == 2
    assert "there is no row 'CE|CIFAR-100-LT|100|ResNet-32|201'" in done.err
