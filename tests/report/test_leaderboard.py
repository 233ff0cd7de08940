"""What a leaderboard knows beyond means: intervals, ranks, why there are several."""

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ltbench.errors import LtbenchWarning
from ltbench.report.collection import Collection
from ltbench.report.compare import accuracy_interval, class_balanced_weights
from ltbench.report.leaderboard import leaderboards
from ltbench.report.leaderboard_table import leaderboard_table
from ltbench.report.split_reasons import split_reasons
from ltbench.report.table import Bold
from ltbench.results.predictions import PackedPredictions
from ltbench.results.records import BinTable

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
    expected = {"top1": accuracy_interval(right), "macro": accuracy_interval(right, class_balanced_weights(LABELS))}
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
    assert board.rows.set_index("label")["top1_low"].isna().to_dict() == {"Cross Entropy": True, "BalPoE †": False}


def test_damaged_outcomes_are_named_and_the_row_stays(make_full_result):
    good, damaged, other = (outcomes(make_full_result, name, 0, np.arange(9) > 2) for name in ("ce", "sade", "ride"))
    damaged = damaged.model_copy(update={"outcomes": damaged.outcomes.model_copy(update={"predicted": "!"})})
    metrics = other.test.model_copy(update={"top1": 12.0})
    other = other.model_copy(update={"metrics": {"test": metrics}})
    with pytest.warns(LtbenchWarning) as warned:
        (board,) = leaderboards(stored(good, damaged, other))
    assert board.rows.set_index("label")["top1_high"].isna().to_dict() == {
        "Cross Entropy": False,
        "SADE": True,
        "RIDE": True,
    }
    said = sorted(str(one.message) for one in warned)
    assert len(said) == 2
    assert any(
        line.startswith(f"{damaged.run_id}.json: the packed predictions (outcomes) are damaged") for line in said
    )
    assert any("give an accuracy of 66.67 and not 12.00; its row has no interval" in line for line in said)


def test_outcomes_of_other_classes_than_the_counts_are_named_and_the_row_stays(make_full_result):
    right = np.arange(9) > 2
    good, other = (outcomes(make_full_result, name, 0, right) for name in ("ce", "sade"))
    turned = PackedPredictions.of(LABELS[::-1], np.where(right, LABELS, (LABELS + 1) % 3)[::-1], np.full(9, 0.8))
    assert turned.right().mean() == other.outcomes.right().mean()
    swapped = np.array([1, 0, 2])  # as many images are right, but those of class 0 and not of class 1
    renamed = PackedPredictions.of(swapped[LABELS], swapped[np.where(right, LABELS, (LABELS + 1) % 3)], np.full(9, 0.8))
    unknown = PackedPredictions.of(LABELS, np.where(right, LABELS, 7), np.full(9, 0.8))
    for packed, has_interval in ((turned, True), (renamed, False), (unknown, False)):
        changed = other.model_copy(update={"outcomes": packed})
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always", LtbenchWarning)
            (board,) = leaderboards(stored(good, changed))
        assert board.rows.set_index("label")["top1_low"].notna().to_dict() == {
            "Cross Entropy": True,
            "SADE": has_interval,
        }
        said = (
            [] if has_interval else ["contradict the figures of the classes (correct, total); its row has no interval"]
        )
        assert [str(one.message).partition("(outcomes) ")[2] for one in warned] == said


def runs_of(make_result, scores):
    """Results by label: an accuracy a seed, None for no run."""
    return [
        make_result(name, seed, top1=top1)
        for name, all_ in scores.items()
        for seed, top1 in enumerate(all_)
        if top1 is not None
    ]


def test_comparisons_are_over_common_seeds_and_ranks_over_those_of_most_rows(make_result):
    scores = {"ce": (50.0, 52.0, 51.0), "sade": (60.0, 61.0, 62.0), "ride": (60.0, 63.0, 62.0), "focal": (55.0,)}
    (board,) = leaderboards(stored(*runs_of(make_result, scores)))
    rows = board.rows.set_index("label")
    assert rows.index.tolist() == ["RIDE", "SADE", "Cross Entropy", "Focal Loss †"]
    assert (board.seeds, board.leads, board.reference) == ((0, 1, 2), True, rows["setting"]["RIDE"])
    # against ride: (0 + 2 + 0) / 3; on seed 0 60 - 55; (10 + 11 + 11) / 3
    assert rows["behind"].to_dict() == pytest.approx(
        {"RIDE": 0.0, "SADE": 2 / 3, "Focal Loss †": 5.0, "Cross Entropy": 32 / 3}
    )
    assert rows["behind_n"].tolist() == [3, 3, 3, 1]
    assert rows["lacks_seeds"].tolist() == ["", "", "", "1,2"]
    assert rows["p"].isna().tolist() == [True, False, False, True]
    # ride has 185 / 3 on the mean; focal, on seed 0 five points less
    assert rows["comparable"].tolist() == pytest.approx([185 / 3, 61.0, 51.0, 185 / 3 - 5])
    # seeds 0 to 2 without focal, which lacks two of them: ride 1.5, 1, 1.5; sade 1.5, 2, 1.5; ce 3, 3, 3
    assert board.blocks == 3
    assert rows["rank"].to_dict() == pytest.approx(
        {"RIDE": 4 / 3, "SADE": 5 / 3, "Focal Loss †": np.nan, "Cross Entropy": 3.0}, nan_ok=True
    )
    # Nemenyi for three rows and three blocks: 2.343 sqrt(3 * 4 / (6 * 3))
    assert board.critical_difference == pytest.approx(2.343 * np.sqrt(2 / 3), abs=1e-3)
    # ride beats ce thrice, sade once, focal once, ties with sade twice: 5 + 1 of 7
    assert rows["wins"].to_dict() == pytest.approx(
        {"RIDE": 6 / 7, "SADE": 5 / 7, "Focal Loss †": 1 / 3, "Cross Entropy": 0.0}
    )


def test_the_loser_of_every_shared_seed_is_not_first_for_seeds_of_its_own(make_result):
    # a is behind b by 10 on each of seeds 0 to 2, and has a mean of 76 thanks to two easy seeds of its own.
    scores = {"a": (60.0, 61.0, 62.1, 98.0, 99.0), "b": (70.0, 71.2, 72.0), "c": (40.0, 41.0, 42.3)}
    (board,) = leaderboards(stored(*runs_of(make_result, scores)))
    assert board.rows["label"].tolist() == ["b", "a", "c"]
    assert board.rows["top1"].tolist() == pytest.approx([71.066, 76.02, 41.1], abs=0.001)
    assert board.rows["significantly_worse"].tolist() == [False, True, True]
    assert board.bold["top1"] == board.best["top1"] == board.reference == board.rows["setting"][0]


def test_no_row_is_first_where_one_that_lacks_seeds_is_ahead_of_the_best_of_the_others(make_result):
    scores = {"a": (60.0, 61.0, 62.0), "b": (50.0, 51.1, 52.0), "c": (60.5, 61.5)}
    (board,) = leaderboards(stored(*runs_of(make_result, scores)))
    assert (board.leads, board.best.get("top1"), board.bold) == (False, None, {})
    assert board.rows["label"].tolist() == ["a", "b", "c †"]
    assert board.rows["behind"].tolist() == pytest.approx([0.0, 29.9 / 3, -0.5])
    assert board.rows["place"].tolist() == pytest.approx([2, 3, np.nan], nan_ok=True)  # and none has rank 1


def test_of_two_rows_the_loser_of_every_shared_seed_is_not_first_either(make_result):
    scores = {"a": (60.0, 61.0, 62.1, 98.0, 99.0), "b": (70.0, 71.2, 72.0)}
    (board,) = leaderboards(stored(*runs_of(make_result, scores)))
    assert board.rows["label"].tolist() == ["b", "a"]
    assert (board.seeds, board.leads, board.rows["place"].tolist()) == ((0, 1, 2), True, [1, 2])
    assert board.rows["behind"].tolist() == pytest.approx([0, (10 + 10.2 + 9.9) / 3])
    assert board.bold["top1"] == board.best["top1"] == board.reference == board.rows["setting"][0]


def test_rows_that_share_no_seeds_are_not_compared(make_result):
    scores = {"a": (60.0, 61.0, 62.0), "b": (None, None, None, 50.0, 51.0, 52.0)}
    (board,) = leaderboards(stored(*runs_of(make_result, scores)))
    assert (board.reference, board.leads, board.seeds, dict(board.bold)) == (None, False, (), {})
    assert board.rows["label"].tolist() == ["a", "b"]  # by their own means
    assert board.rows["behind"].isna().all()


def test_the_best_of_other_metrics_is_that_of_the_shared_seeds_too(make_result):
    # On the seeds of both, b has the lower ECE; the mean over its own seeds is lower for a.
    ece = {"a": (9.0, 9.1, 9.2, 1.0, 1.0), "b": (8.0, 8.2, 8.1), "c": (12.0, 12.3, 12.0)}
    runs = [make_result(name, seed, ece=value) for name, all_ in ece.items() for seed, value in enumerate(all_)]
    (board,) = leaderboards(stored(*runs))
    labels = board.rows.set_index("setting")["label"]
    assert board.rows.set_index("label")["ece"]["a"] == pytest.approx(5.86)
    assert labels[board.bold["ece"]] == "b"


def test_an_ece_that_is_lower_for_its_noise_alone_is_not_bold(make_result):
    """A sure row is out by 3 points; an unsure one is calibrated, and measures 6 points of noise on 400 images."""
    runs = []
    for seed in range(4):
        for method, confidence, gap in (("sure", 0.98, 0.030), ("unsure", 0.5, 0.060)):
            result = make_result(method, seed, ece=100 * gap + 0.01 * seed)
            tables = {  # fifteen bins about the confidence, half of them too high and half too low where it is noise
                "sure": ([400], [confidence], [confidence - gap]),
                "unsure": ([40] * 10, [confidence] * 10, [confidence + gap, confidence - gap] * 5),
            }
            bins = BinTable(**dict(zip(("count", "confidence", "accuracy"), tables[method], strict=True)))
            test = result.test.model_copy(update={"bins": bins})
            runs.append(result.model_copy(update={"metrics": {"test": test}}))
    (board,) = leaderboards(stored(*runs))
    rows = board.rows.set_index("label")
    assert rows["ece"]["sure"] < rows["ece"]["unsure"]
    assert rows["ece_debiased"]["sure"] > rows["ece_debiased"]["unsure"]
    assert "ece" in board.best
    assert "ece" not in board.bold


@pytest.mark.slow
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.sampled_from("abcd"),
        st.lists(st.one_of(st.none(), st.integers(40, 45)), min_size=4, max_size=4).filter(any),
        min_size=2,
    )
)
def test_the_first_row_never_loses_all_shared_seeds(make_result, scores):
    scores = {name: [top1 and float(top1) for top1 in all_] for name, all_ in scores.items()}
    (board,) = leaderboards(stored(*runs_of(make_result, scores)))
    (table,) = [leaderboard_table(board)]
    first = board.rows["method"][0]
    marked = [row[0] for row in table.rows if any(isinstance(cell, Bold) for cell in row)]
    assert marked in ([], [first])
    if board.leads:
        assert board.rows["setting"][0] == board.reference
        assert not board.rows["lacks_seeds"][0]
        for other in scores.keys() - {first}:
            shared = [(a, b) for a, b in zip(scores[first], scores[other], strict=True) if a and b]
            assert not shared or not all(a < b for a, b in shared)
    else:
        assert not marked
        assert "No row is first" in table.caption


def test_one_row_is_compared_with_nothing(make_result):
    (board,) = leaderboards(stored(make_result()))
    (row,) = board.rows.to_dict("records")
    assert (row["behind"], row["significantly_worse"], board.leads, dict(board.bold)) == (0.0, False, True, {})
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
    values = [{"taus": [0.0, 1.0, 2.0]}, {"taus": [0.5, 1.5]}, {"taus": [[1.0, 0.5], 1.0]}, {"hard": True}]
    runs = [make_result("balpoe", settings={"hyperparameters": one}) for one in values]
    (board,) = leaderboards(stored(*runs))
    shown = {"BalPoE", "BalPoE, taus=0.5,1.5", "BalPoE, taus=[[1.0,0.5],1.0]", "BalPoE, hard=true"}
    assert set(board.rows["label"]) == shown


@pytest.mark.parametrize("text", ["[/]", "[1,", "[1 2]", "[bold]", "[", "[]", f"[{'9' * 400}]", f"[{'1' * 5000}]"])
def test_a_setting_that_looks_like_a_list_of_numbers_is_named_as_it_is(make_result, text):
    runs = [make_result("balpoe", settings={"hyperparameters": {"mixup": one}}) for one in (text, 0.5)]
    (board,) = leaderboards(stored(*runs))
    assert set(board.rows["label"]) == {f"BalPoE, mixup={text}", "BalPoE, mixup=0.5"}


def test_runs_on_scaled_copies_are_a_row_of_their_own_and_say_so(make_result):
    plain = [make_result(seed=seed, top1=60.0) for seed in (0, 1)]
    copied = [make_result(seed=seed, top1=40.0, settings={"cache_resized": 256}) for seed in (0, 1)]
    (board,) = leaderboards(stored(*plain, *copied))
    assert board.rows.set_index("label")["top1"].to_dict() == {
        "Cross Entropy": 60.0,
        "Cross Entropy, cache_resized=256": 40.0,
    }
    (board,) = leaderboards(stored(*copied))  # though nothing differs
    assert board.rows["label"].tolist() == ["Cross Entropy, cache_resized=256"]


def test_runs_decoded_on_a_gpu_are_a_row_of_their_own_and_say_so(make_result):
    (board,) = leaderboards(stored(make_result(top1=60.0), make_result(top1=40.0, settings={"decode": "gpu"})))
    assert board.rows["label"].tolist() == ["Cross Entropy", "Cross Entropy, decode=gpu"]


def test_the_table_that_most_look_for_is_first_and_those_of_one_data_set_follow_each_other(make_result):
    other = {"settings": {"dataset": "cifar10-lt"}}
    runs = [
        make_result("a", transductive=True), make_result("b", track="foundation model"), make_result("ce"),
        make_result("c", transductive=True, **other), make_result("d", **other),
    ]  # fmt: skip
    assert [board.rows["method"].item() for board in leaderboards(stored(*runs))] == ["d", "c", "ce", "b", "a"]
