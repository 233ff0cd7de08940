"""The command that makes a result again which ltbench has not trained."""

import pytest

from ltbench.results.external import command


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, []),
        ({"data_seed": 3}, ["--data-seed 3"]),
        ({"imbalance": "step"}, ["--imbalance step"]),
        ({"class_order": "drawn", "data_seed": 1}, ["--class-order drawn", "--data-seed 1"]),
    ],
)
def test_what_is_unusual_about_the_draw_is_in_the_command(make_result, settings, words):
    result = make_result("theirs", settings=settings)
    shown = command(result.model_copy(update={"provenance": {"scored": {"file": "mine.npz"}}}))
    assert shown is not None
    assert shown.startswith("ltbench score mine.npz --name theirs --dataset digits-lt --imbalance-ratio 20")
    for word in ("--data-seed 3", "--imbalance step", "--class-order drawn", "--data-seed 1"):
        assert (word in shown) == (word in words)


def test_a_run_of_ltbench_has_another_command(make_result):
    assert command(make_result()) is None


def test_names_and_numbers_are_those_of_the_result(make_result):
    result = make_result("resnet-v1.0", settings={"imbalance_ratio": 100.0})
    shown = command(result.model_copy(update={"provenance": {"scored": {"file": "p.npz", "train_counts": "counts.0"}}}))
    assert "--name resnet-v1.0 " in shown
    assert "--train-counts counts.0 " in shown
    assert "--imbalance-ratio 100 " in shown
