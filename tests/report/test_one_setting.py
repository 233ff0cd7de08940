"""Which setting stands for a method, by hand: never that with the best accuracy on the test images."""

import json

import pytest

from ltbench.registry.declared import hyperparameter_defaults, recipe_of
from ltbench.report.answer import best_of_many, default_ahead, tuned_apart
from ltbench.report.collection import Collection
from ltbench.report.latex import latex
from ltbench.report.leaderboard import leaderboards
from ltbench.report.leaderboard_table import TableOptions, leaderboard_table
from ltbench.report.machine_formats import as_json
from ltbench.report.markdown import markdown
from ltbench.report.plain_text import text

RECIPE = recipe_of("standard", "digits-lt").model_dump()


@pytest.fixture
def board(make_result):
    """The leaderboard of runs: (method, hyper-parameters that are not the defaults, accuracies by seed)."""

    def make(*rows, **other):
        results = []
        for method, changed, scores, *more in rows:
            known = hyperparameter_defaults(method, "digits-lt", 20.0) or {}
            for seed, top1 in enumerate(scores) if isinstance(scores, tuple) else scores.items():
                settings = {"hyperparameters": {**known, **changed}}
                extra = {**other, **(more[0] if more else {})}
                results.append(make_result(method, seed, top1=top1, settings=settings, recipe=RECIPE, **extra))
        (made,) = leaderboards(Collection({one.run_id: one for one in results}, {one.run_id: "x" for one in results}))
        return made

    return make


CE = ("ce", {}, (50.0, 51.0, 52.1))


def test_a_method_has_one_row_at_its_default_setting_however_good_the_others_are(board):
    mixups = [("balpoe", {"mixup": alpha / 10}, (60.0 + alpha, 61.0 + alpha, 62.2 + alpha)) for alpha in range(14)]
    made = board(CE, *mixups)  # mixup 0.4 is the default of BalPoE
    assert made.rows["label"].tolist() == ["BalPoE", "Cross Entropy"]
    assert made.rows["top1"].tolist() == pytest.approx([(64.0 + 65.0 + 66.2) / 3, (50.0 + 51.0 + 52.1) / 3])
    assert made.rows["default"].tolist() == [True, True]
    assert made.rows["further"].tolist() == [13, 0]
    assert made.blocks == 3
    assert made.rows["rank"].tolist() == [1.0, 2.0]  # of two rows, not of fifteen
    for shown in (text, markdown):
        assert "BalPoE +13 settings" in shown([leaderboard_table(made)])
    assert "+13" not in latex([leaderboard_table(made)])
    assert best_of_many(made) == (
        "Apart, since the test images chose it: BalPoE, mixup=1.3 has 74.1 %, best of 14 settings on these test images."
    )


def test_no_best_of_many_is_named_where_it_would_not_lead(board):
    made = board(("balpoe", {}, (60.0, 61.0, 62.1)), ("ce", {"mixup": 0.4}, (59.0, 60.0, 61.2)), CE)
    assert best_of_many(made) == ""


def test_other_settings_open_below_their_row_and_are_not_compared(board):
    made = board(CE, ("ce", {"mixup": 1.0}, (70.0, 71.0, 72.2)), ("balpoe", {}, (60.0, 61.0, 62.2)))
    closed = leaderboard_table(made)
    for opened in ("ce", "all", "Cross Entropy"):
        table = leaderboard_table(made, TableOptions.parsed(opened=opened))
        assert [row[0] for row in table.rows] == ["BalPoE", "Cross Entropy", "Cross Entropy, mixup=1"]
        assert table.rows[:2] == closed.rows
        assert table.rows[2][1] == ""  # no rank
        assert table.subordinate == {2}
        indented = [line for line in markdown([table]).splitlines() if line.startswith("| &nbsp;&nbsp;&nbsp;")]
        assert ["mixup=1" in line for line in indented] == [True]
    records = json.loads(as_json([made], TableOptions.parsed(opened="ce")))
    assert [(one["label"], one["compared"], one["p"] is None) for one in records] == [
        ("BalPoE", True, True), ("Cross Entropy", True, False), ("Cross Entropy, mixup=1", False, True),
    ]  # fmt: skip
    assert len(json.loads(as_json([made]))) == 2


def test_without_its_default_a_method_has_the_setting_with_the_fewest_departures(board):
    far = ("balpoe", {"mixup": 0.1, "width": 0.75}, (70.0, 71.0, 72.2))
    near = ("balpoe", {"mixup": 0.2}, (60.0, 61.0, 62.2))
    made = board(CE, far, near)
    assert made.rows["label"].tolist() == ["BalPoE, mixup=0.2", "Cross Entropy"]
    assert made.rows["default"].tolist() == [False, True]


def test_of_a_method_of_a_users_own_the_setting_with_the_most_seeds_counts(board):
    made = board(CE, ("mine", {"a": 1}, (70.0,)), ("mine", {"a": 2}, (60.0, 61.0, 62.2)))
    assert made.rows["label"].tolist() == ["mine, a=2", "Cross Entropy"]


def test_a_tuned_setting_that_has_the_seeds_of_the_table_stands_for_its_method_and_may_lead(board):
    searched = {"tuning": {"trials": 20}}
    tuned = ("balpoe", {"mixup": 0.31}, (80.0, 81.0, 82.2), searched)
    made = board(CE, ("balpoe", {}, (60.0, 61.0, 62.1)), tuned)
    assert made.rows["label"].tolist() == ["BalPoE, tuned in 20 trials, mixup=0.31", "Cross Entropy"]
    assert made.leads
    assert best_of_many(made) == ""
    assert tuned_apart(made) == ""


def test_a_tuned_setting_on_other_seeds_stands_apart(board):
    searched = {"tuning": {"trials": 20}}
    tuned = ("balpoe", {"mixup": 0.31}, {5: 80.0, 6: 81.0, 7: 82.0}, searched)
    made = board(CE, ("balpoe", {}, (60.0, 61.0, 62.1)), tuned)
    assert made.rows["label"].tolist() == ["BalPoE", "Cross Entropy"]
    assert made.seeds == (0, 1, 2)
    assert tuned_apart(made) == (
        "Apart, on other seeds than the table's: BalPoE, tuned in 20 trials, mixup=0.31 has 81.0 % on seeds 5, 6, 7."
    )
    assert best_of_many(made) == ""


def test_methods_that_are_the_same_by_construction_are_one_row(board):
    same = (60.0, 61.0, 62.2)
    made = board(CE, ("balanced_softmax", {}, same), ("logit_adjustment", {}, same), ("sade", {}, (55.0, 56.3, 57.0)))
    assert made.rows["method"].tolist() == ["balanced_softmax", "sade", "ce"]
    assert made.rows["same_as"].tolist() == ["Logit Adjustment", "", ""]
    assert made.rows["rank"].tolist() == [1.0, 2.0, 3.0]
    assert leaderboard_table(made).rows[0][0] == "Balanced Softmax = Logit Adjustment"
    other = board(CE, ("balanced_softmax", {}, same), ("logit_adjustment", {"tau": 1.5}, same))
    assert len(other.rows) == 3
    apart = board(CE, ("balanced_softmax", {}, same), ("logit_adjustment", {"mixup": 0.4}, same))
    assert len(apart.rows) == 3


def test_settings_of_the_only_method_are_compared(board):
    made = board(("balpoe", {}, (60.0, 61.0, 62.1)), ("balpoe", {"mixup": 0.0}, (50.0, 51.0, 52.0)))
    assert made.rows["label"].tolist() == ["BalPoE", "BalPoE, mixup=0"]
    assert made.compares_settings


def test_defaults_of_the_data_set_count_before_the_methods_own(make_result):
    # The authors of BalPoE have mixup 0.8 on CIFAR-10-LT.
    results = [
        make_result("balpoe", seed, top1=top1 + seed, settings={"dataset": "cifar10-lt", "hyperparameters": values})
        for values, top1 in (({"mixup": 0.4}, 90.0), ({"mixup": 0.8}, 50.0))
        for seed in range(3)
    ]
    results += [make_result("ce", seed, top1=40.0 + seed, settings={"dataset": "cifar10-lt"}) for seed in range(3)]
    (made,) = leaderboards(Collection({one.run_id: one for one in results}, {one.run_id: "x" for one in results}))
    assert made.rows["top1"].tolist() == [51.0, 41.0]


def test_recorded_defaults_count_before_those_of_the_files(make_result):
    def stored(method, alpha, top1):
        one = make_result(method, top1=top1, settings={"hyperparameters": {"alpha": alpha}})
        record = one.method.model_copy(update={"defaults": {"alpha": 3}, "name": "My Method"})
        return one.model_copy(update={"method": record})

    results = [stored("mine", alpha, 50.0 + alpha) for alpha in (1, 2, 3, 4)] + [make_result("ce")]
    (made,) = leaderboards(Collection({one.run_id: one for one in results}, {one.run_id: "x" for one in results}))
    assert sorted(made.rows["label"]) == ["Cross Entropy", "My Method"]
    assert made.rows["top1"].max() == 53.0


def test_a_row_whose_seeds_scatter_stands_at_the_place_of_its_mean(board):
    made = board(
        ("balpoe", {}, (60.1, 61.2, 61.9)), ("sade", {}, (60.5, 60.0, 62.5)),
        ("focal", {}, (55.0, 56.1, 57.0)), ("cutmix", {}, (10.0, 60.0, 70.0)), ("ldam", {}, (40.0, 41.0, 41.9)),
    )  # fmt: skip
    assert made.rows["label"].tolist() == ["BalPoE", "SADE", "Focal Loss", "CutMix", "LDAM"]
    assert made.rows["place"].tolist() == [1, 1, 3, 4, 5]
    assert made.rows["tie"].tolist() == [True, True, False, False, False]
    table = leaderboard_table(made)
    assert (table.band, table.rule) == ({0, 1}, 2)
    assert [row[3].startswith("≈") for row in table.rows] == [False, True, False, True, False]
    assert "Below the tie, CutMix is not significantly worse than the best either" in table.caption


def test_rank_is_equal_for_ties_and_a_rule_stands_below_them(board):
    made = board(
        ("balpoe", {}, (60.1, 61.2, 61.9)), ("sade", {}, (60.5, 60.0, 62.5)),
        CE, ("focal", {}, (40.0, 41.1, 42.0)), ("ride", {}, (70.0, 71.0)),
    )  # fmt: skip
    assert made.rows["label"].tolist() == ["BalPoE", "SADE", "Cross Entropy", "Focal Loss", "RIDE †"]
    table = leaderboard_table(made)
    # RIDE is ahead on the two seeds that it has, so that none of the others has rank 1.
    assert [row[1] for row in table.rows] == ["2=", "2=", "4", "5", "–"]
    assert (table.band, table.rule) == ({0, 1}, 2)
    assert made.rows["place"].tolist()[:4] == [2, 2, 4, 5]
    lines = text([table], width=120).splitlines()
    rules = [number for number, line in enumerate(lines) if line.startswith("───")]
    sade, ce = (next(n for n, line in enumerate(lines) if name in line) for name in ("SADE", "Cross Entropy"))
    assert [number for number in rules if sade < number < ce]
    shown = latex([table])
    assert shown.index("SADE") < shown.rindex(r"\midrule") < shown.index("Cross Entropy")
    coloured = text([table], width=120, coloured=True)
    assert coloured.count("\x1b[100m") or "100m" in coloured  # the tint of the band


def test_columns_and_their_order_are_the_readers_choice(board):
    made = board(CE, ("balpoe", {}, (60.0, 61.0, 62.1), {"cost": {"training_seconds": 99.0}}))
    table = leaderboard_table(made, TableOptions.parsed("acc,train,RANK", "train"))
    assert table.header == ["Method", "Acc", "Train", "Rank"]
    assert [row[0] for row in table.rows] == ["Cross Entropy", "BalPoE"]  # 12 s, 99 s
    assert table.rule is None
    by_accuracy = leaderboard_table(made, TableOptions.parsed(sort="acc"))
    assert [row[0] for row in by_accuracy.rows] == ["BalPoE", "Cross Entropy"]
    by_name = leaderboard_table(made, TableOptions.parsed(sort="method"))
    assert [row[0] for row in by_name.rows] == ["BalPoE", "Cross Entropy"]


def test_a_column_that_there_is_not_is_named():
    with pytest.raises(Exception, match="unknown column 'trian'") as caught:
        TableOptions.parsed("acc,trian")
    assert "did you mean train" in str(caught.value)
    with pytest.raises(Exception, match="unknown column 'colour'"):
        TableOptions.parsed(sort="colour")


def test_heads_on_other_views_of_the_features_are_another_setting(make_result):
    recipe = recipe_of("standard", "digits-lt", "head").model_dump()

    def runs(views, top1, seeds):
        settings = {"train": "head", "weights": "sha256:" + "0" * 64, "feature_views": views}
        return [
            make_result("ce", seed, top1=top1 + seed, settings=settings, recipe=recipe, data=f"{seed:016}")
            for seed in seeds
        ]

    results = [
        one.model_copy(update={"run_id": f"{number:012x}", "data": make_result().data})
        for number, one in enumerate([*runs(0, 60.0, range(3)), *runs(4, 50.0, range(3))])
    ]
    (made,) = leaderboards(Collection({one.run_id: one for one in results}, {one.run_id: "x" for one in results}))
    assert made.settings["label"].tolist() == ["Cross Entropy, feature_views=0", "Cross Entropy"]
    assert made.settings["default"].tolist() == [False, True]


def test_a_default_that_is_ahead_of_its_tuned_setting_was_not_chosen_on_the_test_images(board):
    tuned = ("balpoe", {"mixup": 0.31}, (80.0, 81.0, 82.2), {"tuning": {"trials": 20}})
    made = board(CE, ("balpoe", {}, (81.0, 82.0, 83.1)), tuned)
    assert made.rows["label"].tolist() == ["BalPoE, tuned in 20 trials, mixup=0.31", "Cross Entropy"]
    assert best_of_many(made) == ""
    assert (
        default_ahead(made)
        == "Apart, since tuned settings stand for their methods, at the defaults: BalPoE has 82.0 %."
    )


def test_a_second_search_of_a_method_stands_apart_on_the_same_seeds(board):
    first = ("balpoe", {"mixup": 0.31}, (80.0, 81.0, 82.2), {"tuning": {"trials": 20}})
    second = ("balpoe", {"mixup": 0.2}, (79.0, 80.0, 81.3), {"tuning": {"trials": 50}})
    made = board(CE, first, second)
    (apart,) = made.others["label"]
    assert tuned_apart(made).startswith(f"Apart, since another search stands for the method: {apart} has ")
    assert "seeds" not in tuned_apart(made)
