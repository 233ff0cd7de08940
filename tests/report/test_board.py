"""What a leaderboard knows beyond means: intervals, ranks, why there are several."""

import numpy as np
import pandas as pd
import pytest

from ltbench.errors import LtbenchWarning
from ltbench.report.board import leaderboards
from ltbench.report.collection import Collection
from ltbench.report.compare import intervals, resample_images
from ltbench.report.reasons import split_reasons

LABELS = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2])


def stored(*results):
    return Collection(
        {result.run_id: result for result in results}, {result.run_id: f"{result.run_id}.json" for result in results}
    )


def outcomes(make_full_result, method, seed, right, **other):
    """A result whose test images are right where it is said, with a confidence of 0.8."""
    predicted = np.where(right, LABELS, (LABELS + 1) % 3)
    return make_full_result(method, seed, labels=LABELS, predicted=predicted, confidence=np.full(9, 0.8), **other)


def test_intervals_are_those_of_the_stored_outcomes(make_full_result):
    right = np.array([[1, 1, 1, 1, 1, 0, 1, 1, 0], [1, 1, 0, 1, 1, 1, 1, 0, 0]], bool)
    (board,) = leaderboards(stored(*(outcomes(make_full_result, "ce", seed, right[seed]) for seed in (0, 1))))
    expected = intervals(right, resample_images(LABELS))
    for metric, (low, high) in expected.items():
        assert (board.rows[f"{metric}_low"].item(), board.rows[f"{metric}_high"].item()) == pytest.approx(
            (low, high), abs=1e-3
        )


def test_where_an_outcome_is_not_known_there_is_no_interval(make_full_result, make_result):
    right = np.arange(9) > 2
    (board,) = leaderboards(
        stored(
            outcomes(make_full_result, "ce", 0, right),
            make_result("ce", 1, top1=70.0),
            outcomes(make_full_result, "balpoe", 0, right),
        )
    )
    assert board.rows.set_index("label")["top1_low"].isna().to_dict() == {"ce": True, "balpoe": False}


def test_damaged_outcomes_are_named_and_the_row_stays(make_full_result):
    good, damaged, other = (outcomes(make_full_result, name, 0, np.arange(9) > 2) for name in ("ce", "sade", "ride"))
    damaged = damaged.model_copy(update={"outcomes": damaged.outcomes.model_copy(update={"predicted": "!"})})
    metrics = other.test.model_copy(update={"top1": 12.0})
    other = other.model_copy(update={"metrics": {"test": metrics}})
    with pytest.warns(LtbenchWarning) as warned:
        (board,) = leaderboards(stored(good, damaged, other))
    assert board.rows.set_index("label")["top1_high"].isna().to_dict() == {"ce": False, "sade": True, "ride": True}
    said = sorted(str(one.message) for one in warned)
    assert len(said) == 2
    assert any(line.startswith(f"{damaged.run_id}.json: the outcomes of the test images are damaged") for line in said)
    assert any("give an accuracy of 66.67 and not 12.00; its row has no interval" in line for line in said)


def test_comparisons_are_over_common_seeds_and_ranks_over_those_of_most_rows(make_result):
    scores = {"ce": (50.0, 52.0, 51.0), "sade": (60.0, 61.0, 62.0), "ride": (60.0, 63.0, 62.0), "focal": (70.0,)}
    (board,) = leaderboards(
        stored(*(make_result(name, seed, top1=top1) for name, all_ in scores.items() for seed, top1 in enumerate(all_)))
    )
    rows = board.rows.set_index("label")
    assert rows.index.tolist() == ["focal", "ride", "sade", "ce"]
    # against the only run of focal, seed 0: 70 - 60, 70 - 60, 70 - 50
    assert rows["behind"].to_dict() == {"focal": 0.0, "ride": 10.0, "sade": 10.0, "ce": 20.0}
    assert rows["behind_n"].tolist() == [1, 1, 1, 1]
    assert rows["p"].isna().all()
    assert not rows["told_apart"].any()
    # seeds 0 to 2 without focal, which lacks two of them: ride 1.5, 1, 1.5; sade 1.5, 2, 1.5; ce 3, 3, 3
    assert board.blocks == 3
    assert rows["rank"].to_dict() == pytest.approx(
        {"focal": np.nan, "ride": 4 / 3, "sade": 5 / 3, "ce": 3.0}, nan_ok=True
    )
    # Nemenyi for three rows and three blocks: 2.343 sqrt(3 * 4 / (6 * 3))
    assert board.critical_difference == pytest.approx(2.343 * np.sqrt(2 / 3), abs=1e-3)
    # ride beats ce thrice, sade once, ties with it twice, loses to focal: 3 + 2 of 7
    assert rows["wins"].to_dict() == pytest.approx({"focal": 1.0, "ride": 5 / 7, "sade": 4 / 7, "ce": 0.0})


def test_one_row_is_compared_with_nothing(make_result):
    (board,) = leaderboards(stored(make_result()))
    (row,) = board.rows.to_dict("records")
    assert (row["behind"], row["told_apart"], board.holds) == (0.0, False, frozenset())
    assert board.critical_difference is board.friedman is None
    assert pd.isna(row["p"])
    assert pd.isna(row["wins"])


def test_why_tables_are_split(make_result):
    boards = leaderboards(
        stored(
            make_result(),
            make_result(recipe={"name": "paper"}),
            make_result(data="bbbbbbbbbbbbbbbb"),
            make_result(settings={"validation": True}),
            make_result(settings={"dataset": "cifar10-lt"}),
        )
    )
    (line,) = split_reasons(boards)
    assert line.startswith("digits-lt has 4 tables, since results differ with: ")
    for words in ("recipe (paper / standard)", "train data (aaaaaa / bbbbbb)",
                  "trained without the validation part (no / yes)"):  # fmt: skip
        assert words in line
    assert split_reasons(boards[:1]) == []


def test_settings_are_named_as_they_are_set(make_result):
    settings = [{"taus": [0.0, 1.0, 2.0]}, {"taus": [0.5, 1.5]}, {"taus": [[1.0, 0.5], 1.0]}, {"hard": True}]
    runs = [make_result("balpoe", settings={"hyperparameters": one}) for one in settings]
    (board,) = leaderboards(stored(*runs))
    shown = {"balpoe, taus=0,1,2", "balpoe, taus=0.5,1.5", "balpoe, taus=[[1.0, 0.5], 1.0]", "balpoe, hard=true"}
    assert set(board.rows["label"]) == shown


def test_runs_on_scaled_copies_are_a_row_of_their_own_and_say_so(make_result):
    plain = [make_result(seed=seed, top1=60.0) for seed in (0, 1)]
    copied = [make_result(seed=seed, top1=40.0, settings={"cache_resized": 256}) for seed in (0, 1)]
    (board,) = leaderboards(stored(*plain, *copied))
    assert board.rows.set_index("label")["top1"].to_dict() == {"ce": 60.0, "ce, cache_resized=256": 40.0}
    (board,) = leaderboards(stored(*copied))  # though nothing differs
    assert board.rows["label"].tolist() == ["ce, cache_resized=256"]


def test_runs_decoded_on_a_gpu_are_a_row_of_their_own_and_say_so(make_result):
    (board,) = leaderboards(stored(make_result(top1=60.0), make_result(top1=40.0, settings={"decode": "gpu"})))
    assert board.rows["label"].tolist() == ["ce", "ce, decode=gpu"]


def test_the_table_that_most_look_for_is_first_and_those_of_one_data_set_follow_each_other(make_result):
    other = {"settings": {"dataset": "cifar10-lt"}}
    runs = [
        make_result("a", transductive=True), make_result("b", track="foundation model"), make_result("ce"),
        make_result("c", transductive=True, **other), make_result("d", **other),
    ]  # fmt: skip
    assert [board.rows["method"].item() for board in leaderboards(stored(*runs))] == ["d", "c", "ce", "b", "a"]
