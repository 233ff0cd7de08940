"""Which settings a figure shows."""

import pytest

from ltbench.errors import LtbenchError
from ltbench.report.collection import Collection
from ltbench.report.figures.material import gather


def labels(settings):
    return [setting.label for setting in settings]


def test_methods_from_the_best_to_the_worst_in_even_steps(run, material):
    made = material(*(run(f"m{place}", top1=90.0 - place) for place in range(9)))
    assert labels(made.chosen(5)) == ["m0", "m2", "m4", "m6", "m8"]
    assert labels(made.chosen(3)) == ["m0", "m4", "m8"]
    assert len(made.chosen(20)) == 9


def test_the_methods_of_the_poster_unless_others_are_named(run, material):
    names = ("ce", "balanced_softmax", "ride", "sade", "balpoe")
    runs = [run(name, top1=80.0 + place) for place, name in enumerate(names)]
    assert labels(material(*runs).chosen(5)) == ["BalPoE", "SADE", "Balanced Softmax"]
    assert labels(material(*runs, asked=True).chosen(5)) == [
        "BalPoE",
        "SADE",
        "RIDE",
        "Balanced Softmax",
        "Cross Entropy",
    ]
    assert labels(material(*runs[:3]).chosen(5)) == [
        "RIDE",
        "Balanced Softmax",
        "Cross Entropy",
    ]  # one is no comparison


def test_the_title_says_data_training_and_seeds(run, material):
    made = material(*(run("ce", seed) for seed in (0, 1, 2)), run("focal", 0), run("focal", 1))
    told = "digits-lt · IR 20 · ResNet-20 · standard recipe, 200 of 60 epochs · fp32"
    assert made.title(made.ranked()) == f"{told} · n = 2 to 3 seeds"
    assert made.title(made.ranked()[:1], measure="mean ± SD") == f"{told} · mean ± SD · n = 3 seeds"
    assert made.title(made.ranked(), seeds=1) == f"{told} · n = 1 seed"
    assert made.title(made.ranked(), measure="mean ± SD", seeds=1) == f"{told} · n = 1 seed"  # which has no deviation
    few = material(run("ce"), run("focal"), asked=True)
    assert few.title(few.ranked()[:1]) == f"{told} · 1 of 2 methods · n = 1 seed"


def test_of_each_method_the_setting_of_its_row(run, material):
    made = material(
        run("a", hyperparameters={"mixup": 0.0}, top1=90.0),
        run("a", hyperparameters={"mixup": 0.4}, top1=80.0),
        run("b", hyperparameters={"mixup": 0.0}, top1=70.0),
        run("b", hyperparameters={"mixup": 0.4}, top1=75.0),
    )
    assert labels(made.chosen(5)) == ["a, mixup=0", "b, mixup=0"]


def test_a_setting_that_lacks_seeds_is_not_the_best_of_its_method(run, material):
    # The mean of mixup=0.4 is the highest, on an easy seed of its own.
    made = material(
        *(run("a", seed, hyperparameters={"mixup": 0.0}, top1=80.0) for seed in (0, 1)),
        *(run("b", seed, hyperparameters={"mixup": 0.0}, top1=70.0) for seed in (0, 1)),
        run("b", 0, hyperparameters={"mixup": 0.4}, top1=75.0),
    )
    assert labels(made.settings) == ["a, mixup=0", "b, mixup=0", "b, mixup=0.4"]
    assert labels(made.chosen(5)) == ["a, mixup=0", "b, mixup=0"]


def test_methods_that_were_asked_for_have_one_setting_each(run, material):
    runs = [run("a", hyperparameters={"mixup": mixup}, top1=90.0 - mixup) for mixup in (0.0, 0.2, 0.4)]
    made = material(*runs, run("b", hyperparameters={"mixup": 0.0}, top1=50.0), asked=True)
    assert labels(made.chosen(3)) == ["a, mixup=0", "b, mixup=0"]


def test_the_prior_of_a_class_without_images_is_that_of_half_an_image(run, material):
    (setting,) = material(run(data={"trained_on": [9, 0]})).settings
    assert list(setting.prior) == pytest.approx([9 / 9.5, 0.5 / 9.5])


def test_no_finished_run():
    with pytest.raises(LtbenchError, match="no finished run is stored"):
        gather(Collection(), None).chosen()
