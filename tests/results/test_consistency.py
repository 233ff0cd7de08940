"""A result that cannot be is refused by the schema, with what contradicts what; all that are stored are not."""

import json
from pathlib import Path

import pytest

from ltbench.errors import LtbenchError
from ltbench.results.store import read

RESULTS = Path(__file__).parents[2] / "results"
TEST = ("metrics", "test")


def test_every_stored_result_holds():
    paths = sorted(RESULTS.rglob("*.json"))
    assert len(paths) > 300
    assert {type(read(path)).__name__ for path in paths} == {"Result"}


@pytest.fixture
def said(tmp_path):
    """What is wrong with a stored result, one of whose values is another."""
    tree = json.loads(min((RESULTS / "suites/digits-lt/balpoe").glob("*.json")).read_text())

    def say(*changes):
        changed = json.loads(json.dumps(tree))
        for *place, value in changes:
            holder = changed
            for part in place[:-1]:
                holder = holder[part]
            holder[place[-1]] = value(holder[place[-1]]) if callable(value) else value
        path = tmp_path / "result.json"
        path.write_text(json.dumps(changed))
        with pytest.raises(LtbenchError, match="not a valid result: ") as caught:
            read(path)
        assert str(path) in str(caught.value)
        return str(caught.value)

    return say


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("top1", 150.0), ("top1", -1.0), ("macro", 100.1), ("many", 101.0), ("few", -0.1), ("worst_class", 200.0),
        ("ece", -5.0),
        ("ece", 100.5), ("mce", -1.0), ("overconfidence", 101.0), ("adaptive_ece", -2.0), ("classwise_ece", 300.0),
        ("nll", -0.5), ("brier", 2.5), ("brier", -0.1), ("top1", 1e308),
    ],
)  # fmt: skip
def test_a_figure_out_of_its_range(said, name, value):
    assert f"metrics.test.{name}: Input should be" in said((*TEST, name, value))


@pytest.mark.parametrize("name", ["top1", "macro", "many", "medium", "few", "worst_class", "ece", "mce"])
def test_a_figure_that_its_counts_or_bins_do_not_give(said, name):
    source = "the bins" if name in ("ece", "mce") else "correct and total"
    assert f"metrics.test.{name} is " in (text := said((*TEST, name, lambda value: abs(value - 0.02))))
    assert f"but by {source} " in text


def test_a_figure_may_be_rounded_to_two_digits(tmp_path):
    tree = json.loads(min((RESULTS / "suites/digits-lt/balpoe").glob("*.json")).read_text())
    test = tree["metrics"]["test"]
    test.update({name: round(value, 2) for name, value in test.items() if isinstance(value, float)})
    (tmp_path / "x.json").write_text(json.dumps(tree))
    assert read(tmp_path / "x.json").test.top1 == round(test["top1"], 2)


def longer(values):
    return [*values, values[-1]]


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        ((*TEST, "correct"), longer, "has not 10 entries, one a class"),
        ((*TEST, "total"), longer, "has not 10 entries, one a class"),
        ((*TEST, "mean_probability"), longer, "has not 10 entries, one a class"),
        ((*TEST, "expert_mean_probability", 0), longer, "has not 10 entries, one a class"),
        ((*TEST, "mean_probability", 0), 1.5, "less than or equal to 1"),
        ((*TEST, "mean_probability"), lambda values: [1.0] * len(values), "mean_probability has the sum 10"),
        ((*TEST, "expert_mean_probability", 1), lambda values: [0.0] * len(values), "has the sum 0 and not 1"),
        ((*TEST, "temperature_scaled"), {"temperature": 1.5, "ece": -5.0}, "temperature_scaled.ece is -5"),
        ((*TEST, "temperature_scaled"), {"temperature": 1.5, "mce": 150}, "temperature_scaled.mce is 150"),
        ((*TEST, "temperature_scaled"), {"temperature": 1.5, "brier": 3.0}, "temperature_scaled.brier is 3"),
        ((*TEST, "temperature_scaled"), {"temperature": 1.5, "nll": -0.1}, "temperature_scaled.nll is -0.1"),
        ((*TEST, "temperature_scaled"), {"temperature": -1.0}, "temperature_scaled.temperature is -1"),
        ((*TEST, "temperature_scaled"), {"temperature": 0}, "temperature_scaled.temperature is 0"),
        ((*TEST, "correct", 0), 10**6, "correct has more images of a class than total"),
        ((*TEST, "correct", 0), -1, "greater than or equal to 0"),
        ((*TEST, "total"), lambda total: [0] * len(total), "than total"),
        ((*TEST, "total", 0), 10**400, "metrics.test.total.0"),
        ((*TEST, "bins", "count"), longer, "bins: the columns have different numbers"),
        ((*TEST, "bins", "count", 0), 10**6, "bins.count has"),
        ((*TEST, "bins", "confidence", 0), 1.2, "less than or equal to 1"),
        ((*TEST, "bins", "count"), [], "bins.count: List should have at least 1 item"),
        ((*TEST, "few"), None, "few is null, but by correct and total"),
        (("data", "classes"), longer, "data has 11 classes, 10 counts and 10 entries in trained_on"),
        (("data", "counts"), longer, "11 counts"),
        (("data", "trained_on", 0), 10**6, "data.trained_on has more images"),
        (("data", "groups", "few"), [10], "names a class that is not there"),
        (("data", "groups", "few"), [0, 0], "data.groups has a class twice"),
        (("data", "groups"), {"many": [], "medium": [], "few": [0]}, "has class 0 as few-shot, but by shots"),
        (("data", "groups", "few"), [], "data.groups lacks a class"),
        (("data", "groups"), {"some": []}, "data.groups must have many, medium, few"),
        (("data", "shots"), {"many": 1}, "data.shots must have many and few"),
        (("data", "without_validation"), [99], "names a class that is not there"),
        (("shift", "top1"), longer, "shift: the columns have different numbers of entries"),
        (("shift", "ece", 0), 101.0, "shift.ece.0"),
        (("outcomes", "images"), 3, "outcomes has 3 images, metrics.test.total "),
        (("run_id",), "../../etc/passwd", "run_id: String should match pattern"),
        (("run_id",), "37D44DF276C6", "run_id: String should match pattern"),
        (("config", "hyperparameters", "mixup"), float("nan"), "config.hyperparameters.mixup is nan"),
        (("config", "hyperparameters", "mixup"), [[1e999]], "config.hyperparameters.mixup is inf"),
        (("config", "hyperparameters", "mixup"), 10**30, "config.hyperparameters.mixup has more than 64 bits"),
        (("config", "recipe", "epochs"), 10**300, "config.recipe"),
        (("provenance", "versions", "torch"), -(10**30), "provenance.versions.torch has more than 64 bits"),
        (("tuning",), {"trials": "many"}, "tuning.trials is no number of trials"),
        (("experts", "count"), -4, "experts.count: Input should be greater"),
        (("experts", "count"), 0, "experts.count: Input should be greater"),
        (("experts", "count"), 10**30, "experts.count: Input should be less"),
        (("curve", 0, "epoch"), 10**30, "curve.0.epoch: Input should be less"),
        (("curve", 0, "epoch"), -1, "curve.0.epoch: Input should be greater"),
        (("curve", 0, "lr"), -0.1, "curve.0.lr: Input should be greater"),
        (
            ("cost", "divisions"),
            [{"processes": 10**30, "accumulate": 1, "batch_norm_images": None}],
            "cost.divisions.0.processes: Input should be less",
        ),
        (("cost", "parameters"), 10**30, "cost.parameters: Input should be less"),
        (("cost", "training_seconds"), -1.0, "cost.training_seconds"),
    ],
    ids=lambda value: ".".join(map(str, value)) if isinstance(value, tuple) else "",
)  # fmt: skip
def test_what_cannot_be(said, place, value, words):
    assert words in said((*place, value))


def test_bins_of_other_predictions(said):
    # The same ECE and MCE, and an accuracy of the bins that is not that of the classes.
    def mirrored(values):
        return [1 - value for value in values]

    text = said((*TEST, "bins", "accuracy", mirrored), (*TEST, "bins", "confidence", mirrored))
    assert "top1 is " in text
    assert "but by the bins" in text
