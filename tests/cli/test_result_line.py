"""The figures of a run in one line."""

from ltbench.cli.result_line import metrics_line


def test_of_a_balanced_test_set_top_1_is_first(make_result):
    test = make_result(top1=61.25).test.model_copy(update={"total": [40, 40], "correct": [20, 29]})
    assert metrics_line(test).startswith("top-1 61.25  many ")
    assert "macro" not in metrics_line(test)


def test_of_an_unbalanced_one_the_mean_over_classes_is_with_the_worst_class_beside_it(make_result):
    figures = {"total": [90, 10], "correct": [90, 0], "macro": 50.0, "worst_class": 0.0}
    test = make_result(top1=90.0).test.model_copy(update=figures)
    assert metrics_line(test).startswith("macro 50.00  worst class 0.00  top-1 90.00  many ")


def test_a_class_without_images_does_not_make_it_unbalanced(make_result):
    test = make_result(top1=61.25).test.model_copy(update={"total": [40, 0, 40], "correct": [20, 0, 29]})
    assert metrics_line(test).startswith("top-1 61.25  ")
