"""The page about the methods."""

import re
from pathlib import Path

import pandas as pd
import pytest

from ltbench import registry
from ltbench.cli.methods_page import FAMILIES, _wrapped, relative_costs, render
from ltbench.report.frame import load_results
from ltbench.results.store import Store

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def page():
    """The page without costs."""
    return render([])


@pytest.mark.slow
def test_the_page_in_docs_is_the_one_of_the_methods_and_the_stored_runs():
    assert (ROOT / "docs" / "methods.md").read_text() == render([ROOT / "results" / "costs"])


@pytest.mark.parametrize("name", registry.method_names())
def test_every_method_has_a_family_an_idea_and_a_place_on_the_page(name, page):
    cls = registry.method(name)
    assert cls.family in set(FAMILIES) - {"other"}
    idea = (cls.__doc__ or "").strip().split("\n\n")[0]
    assert len(idea.splitlines()) <= 3
    assert page.count(f"[{name}](#{name})") == page.count(f"### {name}\n") == 1


def test_the_page_fits_100_columns_and_has_no_lists_but_its_own(page):
    assert max(map(len, page.splitlines())) <= 100
    items = [line for line in page.splitlines() if re.match(r"[-+*>#]+ |1[.)] ", line)]
    kinds = {line.partition(":")[0] for line in items if not line.startswith("#")}
    assert kinds == {"- Hyper-parameters", "- Published"}
    assert len([line for line in items if line.startswith("- Hyper")]) == len(registry.method_names())
    assert _wrapped("a " * 50 + "- c").splitlines() == [" ".join(["a"] * 49), "a - c"], "not a list of one item"


def test_costs_are_ratios_of_the_shortest_runs_of_equal_length(tmp_path, make_result):
    def stored(method, seed, seconds, epochs=60, **settings):
        recipe = {"epochs": epochs}
        Store(tmp_path).save(make_result(method, seed, recipe=recipe, cost={"training_seconds": seconds}, **settings))

    stored("ce", 0, 10.0)
    stored("ce", 1, 8.0)
    stored("balpoe", 0, 20.0)
    stored("balpoe", 1, 24.0)
    stored("sade", 0, 30.0, epochs=10)  # there is no cross entropy of this length
    costs = relative_costs(load_results(tmp_path))
    assert costs["digits-lt"].dropna().to_dict() == {"ce": 1.0, "balpoe": 2.5}


def test_the_page_tells_values_by_data_set_and_imbalance_ratio(page):
    said = "on cifar10-lt: smooth_head 0.3, smooth_tail 0; on cifar10-lt at imbalance ratio 50: smooth_head 0.2; on"
    assert f"Its authors' values, taken where none are given, {said}" in " ".join(page.split())
    assert "### ce\n" in page and "values, taken" not in page.split("### ce\n")[1].split("###")[0]


def test_times_are_compared_on_one_machine_alone(tmp_path, make_result):
    slow, fast = ({"hardware": {"processor": name}} for name in ("slow", "fast"))
    for method, seconds, provenance in (
        ("ce", 10.0, fast), ("balpoe", 30.0, fast), ("sade", 90.0, slow), ("ce", 50.0, slow), ("ncl", 99.0, {}),
    ):  # fmt: skip
        seed = 1 if provenance is slow else 0
        result = make_result(method, seed, cost={"training_seconds": seconds})
        Store(tmp_path).save(result.model_copy(update={"provenance": provenance}))
    assert relative_costs(load_results(tmp_path))["digits-lt"].dropna().to_dict() == {
        "ce": 1.0, "balpoe": 3.0, "sade": 1.8,
    }  # fmt: skip


def test_costs_are_relative_to_plain_cross_entropy(tmp_path, make_result):
    for name, seconds, settings in (
        ("ce", 10.0, {"mixup": 0.0}), ("ce", 2.0, {"mixup": 0.4}), ("ce", 4.0, {"mixup": 0.0, "sam": 0.05}),
        ("balpoe", 30.0, {"mixup": 0.4}),
    ):  # fmt: skip
        Store(tmp_path).save(
            make_result(name, settings={"hyperparameters": settings}, cost={"training_seconds": seconds})
        )
    assert relative_costs(load_results(tmp_path))["digits-lt"].dropna().to_dict() == {"ce": 1.0, "balpoe": 3.0}


def test_without_cross_entropy_there_are_no_costs(tmp_path, make_result):
    Store(tmp_path).save(make_result("balpoe", 0))
    assert isinstance(relative_costs(load_results(tmp_path)), pd.DataFrame)
    assert not len(relative_costs(load_results(tmp_path)))


def test_the_command_prints_the_page(cli, page):
    assert cli("list", "methods", "--format", "md").out == page
    refused = cli("list", "datasets", "--format", "md")
    assert refused.code == 2
    assert "there is no page about datasets" in refused.err
