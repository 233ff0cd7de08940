"""What is read from the files of methods and data sets without running them is what they have when they run."""

import pytest

from ltbench import registry
from ltbench.config import RunConfig
from ltbench.method.paper import paper_of
from ltbench.registry import declared
from ltbench.registry.declared import SameAs
from ltbench.runs.resolve import resolve

OWN = sorted(declared._methods())


@pytest.mark.parametrize(("dataset", "ratio"), [("digits-lt", 20.0), ("cifar10-lt", 50.0)])
def test_the_defaults_are_those_that_a_run_without_settings_gets(dataset, ratio):
    for method in OWN:
        if registry.method(method).comparison_group is None:  # LIFT has a backbone of its own
            run = resolve(RunConfig(method=method, dataset=dataset, imbalance_ratio=ratio)).config
            assert declared.hyperparameter_defaults(method, dataset, ratio) == run.hyperparameters, method


def test_defaults_of_a_data_set_count_before_the_methods_own():
    assert declared.hyperparameter_defaults("balpoe", "cifar100-lt", 100.0) == {
        "mixup": 0.4,
        "taus": [0.0, 1.0, 2.0],
        "width": 1.0,
    }
    assert declared.hyperparameter_defaults("balpoe", "cifar10-lt", 100.0)["mixup"] == 0.8
    assert declared.hyperparameter_defaults("label_aware_smoothing", "cifar10-lt", 50.0)["smooth_head"] == 0.2
    assert declared.hyperparameter_defaults("label_aware_smoothing", "cifar10-lt", 100.0)["smooth_head"] == 0.3


def test_nothing_is_known_of_a_method_of_a_users_own():
    assert declared.hyperparameter_defaults("mine", "digits-lt", 20.0) is None
    assert declared.display_name("mine") == "mine"
    assert declared.same_as("mine") == []


def test_every_method_has_the_name_that_papers_have_for_it():
    names = {method: declared.display_name(method) for method in OWN}
    assert [names[method] for method in ("balpoe", "balanced_softmax", "ldam_drw")] == [
        "BalPoE",
        "Balanced Softmax",
        "LDAM-DRW",
    ]
    assert len(set(names.values())) == len(OWN)
    assert {method: paper_of(registry.method(method)).name for method in OWN} == names
    assert all(declared.method_named(name) == method for method, name in names.items())
    assert declared.method_named("balpoe") == "balpoe"
    assert declared.method_named("mine") == "mine"


def test_data_sets_have_their_recipe_backbone_and_size():
    known = declared.data_set("cifar100-lt")
    assert (known.recipe_table, known.backbone, known.image_size) == ("cifar", "cifar_resnet32", 32)
    assert declared.data_set("theirs") is None


def test_a_recipe_is_found_by_the_name_of_the_data_set():
    assert declared.recipe_of("standard", "cifar100-lt").epochs == 200
    assert declared.recipe_of("standard", "digits-lt").epochs == 60
    assert declared.recipe_of("mine", "digits-lt") is None
    assert declared.recipe_of("standard", "theirs") is None


def test_methods_that_are_the_same_by_construction():
    assert declared.same_as("balanced_softmax") == [SameAs("logit_adjustment", {"tau": 1.0})]
