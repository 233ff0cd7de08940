"""The figures of a run in one line, or in a few on a narrow terminal."""

from pathlib import Path

import pytest
from rich.text import Text

from ltbench.cli.result_line import metrics_line, result_line


def test_of_a_balanced_test_set_top_1_is_first(make_result):
    test = make_result(top1=61.25).test.model_copy(update={"total": [40, 40], "correct": [20, 29]})
    assert metrics_line(test).startswith("top-1 61.25  ")
    assert "macro" not in metrics_line(test)


def test_of_an_unbalanced_one_the_mean_over_classes_is_with_the_worst_class_beside_it(make_result):
    figures = {"total": [90, 10], "correct": [90, 0], "macro": 50.0, "worst_class": 0.0}
    test = make_result(top1=90.0).test.model_copy(update=figures)
    assert metrics_line(test).startswith("macro 50.00  worst class 0.00  top-1 90.00  ")


def test_a_class_without_images_does_not_make_it_unbalanced(make_result):
    test = make_result(top1=61.25).test.model_copy(update={"total": [40, 0, 40], "correct": [20, 0, 29]})
    assert metrics_line(test).startswith("top-1 61.25  ")


def test_figures_that_are_not_there_are_left_out(make_result):
    test = make_result(top1=61.25).test.model_copy(update={"many": None, "medium": 70.0, "few": None, "mce": None})
    assert "  medium 70.00  ECE " in metrics_line(test)
    assert "n/a" not in metrics_line(test)
    assert "MCE" not in metrics_line(test)


@pytest.fixture
def lines(make_result):
    """The lines of a result on a terminal of a width, without styles."""
    figures = {"total": [90, 10], "correct": [90, 0], "macro": 62.5, "worst_class": 0.0, "many": None}

    def broken(width, method="ce"):
        result = make_result(method, top1=84.62, ece=12.34, mce=45.67)
        metrics = {"test": result.test.model_copy(update={**figures, "medium": 87.5, "few": 37.5})}
        result = result.model_copy(update={"metrics": metrics})
        return Text.from_markup(result_line(result, Path("runs/a.json"), width=width)).plain.splitlines()

    return broken


def test_lines_of_a_terminal_break_between_figures(lines):
    accuracies = "macro 62.50  worst class 0.00  top-1 84.62  medium 87.50  few 37.50"
    [whole, path] = lines(None)
    assert whole.startswith(f"ce on digits-lt, seed 0: {accuracies}  ECE 12.34")
    assert path == "  runs/a.json"
    assert lines(len(whole)) == [whole, path]
    calibration = whole[whole.index("ECE") :]
    assert lines(100) == [f"ce on digits-lt, seed 0: {accuracies}", f"  {calibration}", path]
    first, second, path = lines(80)
    assert first == "ce on digits-lt, seed 0: macro 62.50  worst class 0.00  top-1 84.62"
    assert second == f"  medium 87.50  few 37.50  {calibration}"
    assert all(len(line) <= 80 for line in lines(80, "label_aware_smoothing"))
    for narrow in range(1, 80):
        assert " ".join(" ".join(lines(narrow)[:-1]).split()) == " ".join(whole.split())
