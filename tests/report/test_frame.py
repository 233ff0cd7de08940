"""Stored results as a frame: one row a run, and which rows belong together."""

import json

import pytest

from ltbench.errors import LtbenchError
from ltbench.report.collection import collect
from ltbench.report.find import find_run
from ltbench.report.frame import COSTS, METRICS, TABLE_KEYS, load_results
from ltbench.report.leaderboard import leaderboards
from ltbench.results.store import Store


def test_a_run_is_a_row(tmp_path, make_result):
    result = make_result("balpoe", 3, top1=61.5, few=None, settings={"hyperparameters": {"taus": [0, 2], "mixup": 0.4}})
    path = Store(tmp_path).save(result)
    (row,) = load_results(tmp_path).to_dict("records")
    assert row["run_id"] == result.run_id
    assert (row["method"], row["dataset"], row["seed"], row["status"]) == ("balpoe", "digits-lt", 3, "done")
    assert (row["recipe.name"], row["recipe.lr"], row["recipe.augment.flip"]) == ("standard", 0.1, False)
    assert (row["hyperparameters.mixup"], row["hyperparameters.taus"]) == (0.4, "[0, 2]")
    assert (row["top1"], row["macro"], row["few"]) == (61.5, 61.5, None)
    assert (row["parameters"], row["training_seconds"]) == (270_000, 12.0)
    assert row["path"] == str(path)
    assert set(METRICS) | set(COSTS) | set(TABLE_KEYS) <= set(row)


def same(frame, column):
    return frame[column].nunique() == 1


def test_runs_that_differ_in_their_seed_share_setting_and_table(tmp_path, make_result):
    for seed in (0, 1):
        Store(tmp_path).save(make_result(seed=seed))
    frame = load_results(tmp_path)
    assert len(frame) == 2
    assert same(frame, "setting")
    assert same(frame, "table")


@pytest.mark.parametrize(
    "change",
    [
        {"recipe": {"lr": 0.2}},
        {"recipe": {"augment": {"flip": True}}},
        {"settings": {"hyperparameters": {"mixup": 0.4}}},
        {"revision": "2"},
        {"method": "balpoe"},
    ],
    ids=str,
)
def test_runs_that_differ_otherwise_have_settings_of_their_own_in_one_table(tmp_path, make_result, change):
    Store(tmp_path).save(make_result())
    Store(tmp_path).save(make_result(**change))
    frame = load_results(tmp_path)
    assert not same(frame, "setting")
    assert same(frame, "table")


def test_experts_that_divide_the_backbone_otherwise_are_never_averaged(tmp_path, make_result):
    for seed, parameters in enumerate((270_000, 270_000, 180_000)):
        Store(tmp_path).save(make_result("balpoe", seed, cost={"parameters": parameters}))
    (board,) = leaderboards(collect([tmp_path]))
    assert dict(zip(board.rows["label"], board.rows["seeds"], strict=True)) == {
        "BalPoE, 270,000 parameters": "0,1",
        "BalPoE, 180,000 parameters": "2",
    }


@pytest.mark.parametrize(
    "change",
    [
        {"recipe": {"name": "long"}},
        {"settings": {"validation": True}},
        {"settings": {"data_seed": 1}},
        {"settings": {"imbalance": "step"}},
        {"settings": {"class_order": "drawn"}},
        {"settings": {"dataset": "cifar10-lt"}},
        {"settings": {"weights": "sha256:0123"}},
        {"data": "bbbbbbbbbbbbbbbb"},
        {"transductive": True},
        {"track": "foundation model"},
    ],
    ids=str,
)
def test_runs_that_cannot_be_compared_are_in_tables_of_their_own(tmp_path, make_result, change):
    Store(tmp_path).save(make_result())
    Store(tmp_path).save(make_result("balpoe", **change))
    assert not same(load_results(tmp_path), "table")


def test_a_run_in_several_folders_counts_once_but_not_with_other_numbers(tmp_path, make_result):
    here, there = tmp_path / "here", tmp_path / "there"
    Store(here).save(make_result(seed=0, top1=10.0))
    Store(there).save(make_result(seed=0, top1=90.0))
    for folder in (here, there):
        Store(folder).save(make_result(seed=1, top1=20.0))
    for folders in ((here, there), (there, here)):
        frame = load_results(*folders)
        assert frame.set_index("seed")["top1"].to_dict() == {1: 20.0}
        assert len(frame.attrs["problems"]) == 2
        assert all("with other numbers" in problem for problem in frame.attrs["problems"])
    assert len(load_results(here, here)) == 2


def test_of_a_run_in_several_folders_the_one_that_is_done_counts(tmp_path, make_result):
    here, there = tmp_path / "here", tmp_path / "there"
    Store(here).save(make_result(status="failed", reason="nan"))
    Store(there).save(make_result(top1=90.0))
    assert load_results(here, there)["top1"].tolist() == load_results(there, here)["top1"].tolist() == [90.0]


def test_a_damaged_file_is_skipped_and_named(tmp_path, make_result):
    store = Store(tmp_path)
    store.save(make_result(seed=0))
    damaged = store.save(make_result(seed=1))
    damaged.write_text(damaged.read_text()[:100])
    (tmp_path / "report.json").write_text(json.dumps([1]))
    frame = load_results(tmp_path)
    assert frame["seed"].tolist() == [0]
    assert len(frame.attrs["problems"]) == 2
    assert any(str(damaged) in problem for problem in frame.attrs["problems"])


def test_a_file_that_is_being_written_is_passed_over(tmp_path, make_result):
    path = Store(tmp_path).save(make_result())
    (path.parent / f".{path.name}.tmp").write_text("{")
    (path.parent / ".hidden.json").write_text("{")
    frame = load_results(tmp_path)
    assert (len(frame), frame.attrs["problems"]) == (1, [])


def test_an_empty_folder_is_an_empty_frame_and_a_missing_one_an_error(tmp_path):
    assert len(load_results(tmp_path)) == 0
    with pytest.raises(LtbenchError, match="results folder does not exist") as caught:
        load_results(tmp_path / "none")
    assert str(tmp_path / "none") in str(caught.value)


def test_a_run_is_found_by_file_id_or_first_digits(tmp_path, make_result):
    result = make_result()
    path = Store(tmp_path).save(result)
    for name in (str(path), result.run_id, result.run_id[:4]):
        assert find_run(name, [tmp_path]) == (result, path)
    assert find_run(result.run_id, [tmp_path / "none", tmp_path]) == (result, path)


def test_of_a_run_in_several_folders_the_first_is_shown(tmp_path, make_result):
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        Store(folder).save(make_result())
    run_id = make_result().run_id
    assert find_run(run_id, [here, there])[1].is_relative_to(here)
    assert find_run(run_id, [there, here])[1].is_relative_to(there)


@pytest.mark.parametrize("name", ["ffffffffffff", "/no/such/result.json", "no/such.json", "*", "[", ".."])
def test_a_run_that_is_not_there_is_named(tmp_path, make_result, name):
    Store(tmp_path).save(make_result())
    with pytest.raises(LtbenchError) as caught:
        find_run(name, [tmp_path])
    assert f"no run '{name}'" in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_digits_that_fit_several_runs_are_refused(tmp_path, make_result):
    for seed in (0, 1):
        Store(tmp_path).save(make_result(seed=seed))
    with pytest.raises(LtbenchError, match="'' fits 2 runs: ") as caught:
        find_run("", [tmp_path])
    assert make_result().run_id in str(caught.value)
    assert "give more digits" in str(caught.value)


def test_seeds_are_averaged_only_where_as_many_images_shared_batch_norm_statistics(make_result, tmp_path):
    ways = {
        0: [{"processes": 1, "accumulate": 1, "batch_norm_images": 128}],
        1: [{"processes": 2, "accumulate": 1, "batch_norm_images": 128}],  # synchronised
        2: [{"processes": 2, "accumulate": 1, "batch_norm_images": 64}],
        3: [{"processes": 4, "accumulate": 1, "batch_norm_images": None}],  # no batch norm
    }
    for seed, divisions in ways.items():
        Store(tmp_path).save(make_result(seed=seed, cost={"divisions": divisions}))
    rows = load_results(tmp_path).set_index("seed")
    assert rows.loc[[0, 1, 3], "setting"].nunique() == 1
    assert rows.loc[2, "setting"] != rows.loc[0, "setting"]
    assert rows.loc[2, "batch_norm_images"] == "64"


def test_a_run_whose_copies_contradict_each_other_is_not_shown_by_its_id(tmp_path, make_result):
    here, there = tmp_path / "here", tmp_path / "there"
    path = Store(here).save(make_result(top1=10.0))
    Store(there).save(make_result(top1=90.0))
    run_id = make_result().run_id
    with pytest.raises(LtbenchError, match=f"run '{run_id}' stands in 2 files with different numbers") as caught:
        find_run(run_id, [here, there])
    assert str(here) in str(caught.value)
    assert str(there) in str(caught.value)
    assert find_run(str(path), [there])[0].test.top1 == 10.0
    Store(tmp_path / "stopped").save(make_result(status="interrupted", reason="stopped"))
    assert find_run(run_id, [tmp_path / "stopped", here])[0].status == "done"
