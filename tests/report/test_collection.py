"""The results of some folders, read once."""

import shutil
from pathlib import Path

import pytest

from ltbench.errors import LtbenchError, LtbenchWarning
from ltbench.report import collection
from ltbench.report.collection import LONG, collect, of_methods
from ltbench.results.store import Store, read


def test_the_runs_of_some_methods(tmp_path, make_result):
    for method in ("ce", "balpoe", "sade"):
        Store(tmp_path).save(make_result(method))
    (tmp_path / "damaged.json").write_text("{")
    stored = collect([tmp_path])
    some = of_methods(stored, ["ce", "sade"])
    assert {result.config.method for result in some.results.values()} == {"ce", "sade"}
    assert set(some.paths) == set(some.results)
    assert some.problems == stored.problems != []
    assert of_methods(stored, []) == stored
    with pytest.raises(LtbenchError, match=r"unknown method 'balpo'(?s:.*)did you mean balpoe"):
        of_methods(stored, ["balpo"])


def test_results_share_what_is_equal_in_them_and_nothing_else(tmp_path, make_result):
    first, second = make_result("ce", 0, top1=90.0), make_result("ce", 1, top1=80.0)
    revised = make_result("ce", 2, revision="7")
    for result in (first, second, revised):
        Store(tmp_path).save(result)
    stored = collect([tmp_path]).results
    assert [stored[one.run_id] for one in (first, second, revised)] == [first, second, revised]
    one, other, third = (stored[each.run_id] for each in (first, second, revised))
    assert one.data is other.data is third.data
    assert one.config.recipe is other.config.recipe
    assert one.method is other.method
    assert third.method.revision == "7"
    assert (one.config.seed, other.config.seed) == (0, 1)
    assert one.model_dump_json() == first.model_dump_json()


def test_copies_that_contradict_each_other_in_what_is_not_needed_are_in_conflict(tmp_path):
    result = read(min((Path(__file__).parents[2] / "results" / "suites" / "digits-lt" / "balpoe").iterdir()))
    top1 = [one / 2 for one in result.shift.top1]
    other = result.model_copy(update={"shift": result.shift.model_copy(update={"top1": top1})})
    for folder, one in (("a", result), ("b", other)):
        Store(tmp_path / folder).save(one)
    for without in ([], LONG):
        stored = collect([tmp_path], without)
        assert not stored.results and len(stored.conflicts) == 2
    assert collect([tmp_path / "a"], ["shift"]).results[result.run_id].shift is None


def test_a_run_under_two_ids_counts_once_and_not_with_other_numbers(tmp_path, make_result):
    first, same, other = make_result(top1=10.0), make_result(top1=10.0), make_result(top1=90.0)
    kept = make_result(seed=1)
    for one, run_id in ((first, first.run_id), (same, "e" * 12), (other, "f" * 12), (kept, kept.run_id)):
        Store(tmp_path / run_id).save(one.model_copy(update={"run_id": run_id}))
    agreeing = collect([tmp_path / run_id for run_id in (first.run_id, "e" * 12, kept.run_id)])
    assert agreeing.conflicts == []
    stored = collect([tmp_path])
    assert set(stored.results) == set(stored.paths) == {kept.run_id}
    assert len(stored.conflicts) == 3
    assert all("with other numbers" in conflict for conflict in stored.conflicts)
    assert {conflict.partition("run ")[2][:12] for conflict in stored.conflicts} == {first.run_id, "e" * 12, "f" * 12}


def test_long_fields_are_read_where_they_are_needed(real_results):
    whole, lean = collect([real_results]), collect([real_results], LONG)
    for run_id, result in whole.results.items():
        assert result.curve and result.shift is not None
        assert not lean.results[run_id].curve and lean.results[run_id].shift is None
        assert lean.curve(run_id) == whole.curve(run_id) == result.curve
        assert lean.shift(run_id) == whole.shift(run_id) == result.shift


def test_a_file_that_went_away_since_has_no_long_fields(tmp_path, real_results):
    shutil.copytree(real_results, tmp_path / "runs")
    stored = collect([tmp_path / "runs"], LONG)
    run_id, path = next(iter(stored.paths.items()))
    path.unlink()
    with pytest.warns(LtbenchWarning, match=f"curve of run {run_id} is left out: cannot read the result"):
        assert stored.curve(run_id) == []


def test_many_files_are_read_by_two_processes_as_by_one(tmp_path, real_results, monkeypatch):
    shutil.copytree(real_results, tmp_path / "runs")
    (tmp_path / "runs" / "z.json").write_text("{}")  # of the second process, as the last one
    (tmp_path / "runs" / "0.json").write_text("[]")
    one = collect([tmp_path], LONG)
    assert len(one.problems) == 2
    monkeypatch.setattr(collection, "MANY", 2)
    assert collect([tmp_path], LONG) == one


@pytest.fixture
def real_results():
    """Stored runs of one method, with training curves and label shift."""
    return Path(__file__).parents[2] / "results" / "suites" / "digits-lt" / "mislas"


@pytest.mark.slow
def test_the_page_has_curves_and_label_shift(real_results, cli):
    shown = cli("report", "--results", real_results, "--format", "html")
    assert shown.code == 0, shown.err
    assert "no stored run has a training curve" not in shown.out
    assert "backward-" in shown.out


def test_label_shift_and_figures_are_read_where_they_are_asked_for(real_results, tmp_path, cli):
    tables = cli("report", "--results", real_results, "--parts", "shift", "--explain").out
    assert "Accuracy under label shift" in tables
    drawn = cli("report", "--results", real_results, "--figures", "training,shift", "--output", tmp_path / "figures")
    assert {path.stem for path in (tmp_path / "figures").iterdir()} == {"training", "shift"}, drawn.err


def test_of_the_copies_of_a_run_the_one_with_most_figures_counts(tmp_path, make_result):
    tested = make_result("ce")
    for folder, one in (("a", tested.model_copy(update={"metrics": {}})), ("b", tested)):
        Store(tmp_path / folder).save(one)
    for order in ("ab", "ba"):
        stored = collect([tmp_path / name for name in order])
        assert [one.test for one in stored.results.values()] == [tested.test]
        assert stored.conflicts == []
