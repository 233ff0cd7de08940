"""The search that chose a run's settings, in words."""

from ltbench.report.search_budget import search_budget


def test_no_search_has_no_words():
    assert search_budget(None) == search_budget({}) == ""


def test_a_search_of_an_older_version_says_what_it_has():
    assert search_budget({"trials": 20}) == "20 trials"


def test_a_search_says_its_budget_and_what_it_was_for():
    tuning = {"trials": 20, "failed": 1, "pruned": 7, "sampler": "random", "pruner": "median", "objective": "macro"}
    assert search_budget(tuning) == "20 trials (1 failed, 7 pruned), sampler random, pruner median, for macro"
    front = {"trials": 9, "failed": 0, "sampler": "tpe", "pruner": "none", "front": [3, 1], "best_trial": 3}
    assert search_budget(front) == "9 trials, sampler tpe, trial 4, one of 2 of the Pareto front"
