"""Leaderboards from results made by hand, small enough to check every figure."""

import io
import json
import math
import re

import pandas as pd
import pytest

from ltbench.errors import LtbenchError
from ltbench.report.advice import advise
from ltbench.report.answer import answer
from ltbench.report.collection import Collection, collect
from ltbench.report.contents import contents, parse_parts
from ltbench.report.latex import latex
from ltbench.report.leaderboard import leaderboards
from ltbench.report.leaderboard_table import TableOptions, differences_table, leaderboard_table
from ltbench.report.machine_formats import as_csv, as_json
from ltbench.report.markdown import markdown
from ltbench.report.page import page
from ltbench.report.plain_text import text
from ltbench.report.table import Bold, Table
from ltbench.results.store import Store

USUAL = "digits-lt · IR 20 · ResNet-20 · standard recipe, 200 of 60 epochs · fp32"
"""The title of a table of ``make_result``'s runs."""


@pytest.fixture
def boards(tmp_path):
    """The leaderboards of some results."""

    def make(*results):
        for result in results:
            Store(tmp_path).save(result)
        return leaderboards(collect([tmp_path]))

    return make


def tables(boards):
    """The leaderboards alone, without what goes with them."""
    return list(map(leaderboard_table, boards))


def cells(text):
    """The rows of the Markdown tables, by label: column -> cell."""
    text = text.replace("\N{NO-BREAK SPACE}", " ")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    header = rows[0]
    assert {len(row) for row in rows} == {len(header)}
    return {row[0]: dict(zip(header, row, strict=True)) for row in rows if row != header and "--" not in row[0]}


def test_mean_and_standard_deviation_over_three_seeds(boards, make_result):
    # mean (60 + 62 + 67) / 3 = 63; deviations -3, -1, 4; squares 9 + 1 + 16 = 26; sd = sqrt(26 / 2) = 3.6056
    (board,) = boards(*(make_result(seed=seed, top1=top1) for seed, top1 in enumerate((60.0, 62.0, 67.0))))
    (row,) = board.rows.to_dict("records")
    assert (row["label"], row["n"], row["seeds"]) == ("Cross Entropy", 3, "0,1,2")
    assert row["top1"] == pytest.approx(63.0)
    assert row["top1_sd"] == pytest.approx(math.sqrt(13))
    shown = cells(markdown(tables([board])))["Cross Entropy"]
    assert (shown["n"], shown["Acc"], shown["ECE"]) == ("3", "63.0 ± 3.6", "50.0 ± 0.0")


def test_two_seeds_divide_by_one(boards, make_result):
    # deviations -1, 1: sd = sqrt(2 / 1) = 1.4142
    (board,) = boards(make_result(seed=0, ece=4.0), make_result(seed=1, ece=6.0))
    assert cells(markdown(tables([board])))["Cross Entropy"]["ECE"] == "5.0 ± 1.4"


def test_one_seed_has_no_deviation(boards, make_result):
    (board,) = boards(make_result(top1=61.25))
    assert "±" not in markdown(tables([board])).replace("mean ± standard deviation", "")
    assert cells(markdown(tables([board])))["Cross Entropy"]["Acc"] == "61.2"
    assert math.isnan(board.rows["top1_sd"][0])


def test_every_column_shows_its_own_figure(boards, make_result):
    figures = {"top1": 4.4, "many": 2.2, "medium": 3.3, "few": 7.7, "ece": 5.5, "mce": 6.6}
    cost = {"parameters": 1_234_567, "multiply_adds": 89_060_000, "training_seconds": 432.1}
    (row,) = cells(markdown(tables(boards(make_result(**figures, cost=cost))))).values()
    assert row == {
        "Method": "Cross Entropy", "Rank": "1", "n": "1", "Acc": "4.4", "Many": "2.2", "Med": "3.3", "Few": "7.7",
        "ECE": "5.5",
        "Floor": "0.0", "Debiased": "5.5", "MCE": "6.6", "Params (M)": "1.23", "MAdds (M)": "89.1", "Train": "432 s",
    }  # fmt: skip


def test_a_long_training_is_given_in_minutes(boards, make_result):
    (row,) = cells(markdown(tables(boards(make_result(cost={"training_seconds": 5400.0}))))).values()
    assert row["Train"] == "90 min"


def test_of_training_times_the_shortest_counts_and_a_method_that_trains_nothing_has_no_speed(boards, make_result):
    cost = {"training_images_per_second": None}
    (board,) = boards(
        make_result(seed=0, cost={**cost, "training_seconds": 10.0}),
        make_result(seed=1, cost={**cost, "training_seconds": 20.0}),
    )
    assert board.rows["training_seconds"][0] == 10.0
    assert json.loads(as_json([board]))[0]["training_images_per_second"] is None


def test_runs_with_another_setting_are_not_averaged_and_the_label_says_which(boards, make_result):
    mixup = {"settings": {"hyperparameters": {"mixup": 0.4}}}
    plain = {"settings": {"hyperparameters": {"mixup": 0.0}}}
    (board,) = boards(
        make_result(seed=0, top1=40.0, **plain),
        make_result(seed=1, top1=42.0, **plain),
        make_result(seed=0, top1=50.0, **mixup),
        make_result("balpoe", seed=0, top1=60.0, settings={"hyperparameters": {"mixup": 0.4}}),
    )
    shown = board.settings  # mixup=0.4 is the default of balpoe, and 0 that of ce
    assert shown["label"].tolist() == ["Cross Entropy", "BalPoE †", "Cross Entropy, mixup=0.4"]
    assert shown["n"].tolist() == [2, 1, 1]
    assert shown["top1"].tolist() == [41.0, 60.0, 50.0]


def test_a_setting_of_training_that_differs_in_the_table_is_on_every_label(boards, make_result):
    (board,) = boards(
        make_result("mine", recipe={"lr": 0.2}, top1=1.0),
        make_result("theirs", recipe={"lr": 0.2}, top1=2.0),
        make_result("theirs", recipe={"lr": 0.4}, top1=3.0),
    )
    assert sorted(board.settings["label"]) == ["mine, lr=0.2", "theirs, lr=0.2", "theirs, lr=0.4"]


@pytest.mark.parametrize(
    ("change", "label"),
    [
        ({"settings": {"hyperparameters": {"taus": [0, 2]}}}, "Cross Entropy, taus=0,2"),
        ({"revision": "2"}, "Cross Entropy, revision=1"),
        ({"recipe": {"augment": {"flip": True}}}, "Cross Entropy, flip=true"),
        ({"recipe": {"head": "linear"}}, "Cross Entropy, head=linear"),
    ],
)
def test_labels_name_what_differs(boards, make_result, change, label):
    (board,) = boards(make_result(), make_result(**change))
    assert label in board.rows["label"].tolist()
    assert board.rows["label"].is_unique


@pytest.mark.parametrize(
    ("change", "title"),
    [
        ({"data": "bbbbbbbbbbbbbbbb"}, f"{USUAL} · data bbbbbb"),
        ({"recipe": {"name": "long"}}, "digits-lt · IR 20 · ResNet-20 · long recipe, 200 of 120 epochs · fp32"),
        ({"recipe": {"epochs": 60}}, "digits-lt · IR 20 · ResNet-20 · standard recipe, 60 epochs · fp32"),
        ({"settings": {"precision": "bf16"}}, USUAL.replace("fp32", "bf16")),
        ({"settings": {"pretrained": True}}, USUAL.replace("ResNet-20", "ResNet-20, pretrained")),
        ({"settings": {"data_seed": 3}}, f"{USUAL} · data seed 3"),
        ({"settings": {"imbalance": "step"}}, USUAL.replace("IR 20", "IR 20 in a step")),
        ({"settings": {"class_order": "drawn"}}, USUAL.replace("IR 20", "IR 20, class order drawn")),
        ({"settings": {"validation": True}}, f"{USUAL} · trained without the validation part"),
        ({"transductive": True}, f"{USUAL} · adapted to the unlabelled test set"),
        ({"track": "foundation model"}, f"{USUAL} · foundation model"),
    ],
    ids=str,
)
def test_what_cannot_be_compared_stands_in_another_table(boards, make_result, change, title):
    both = boards(make_result(top1=40.0), make_result("balpoe", top1=60.0, **change))
    assert {board.title for board in both} == {f"{USUAL} · data aaaaaa" if "data b" in title else USUAL, title}
    assert [len(board.rows) for board in both] == [1, 1]
    text = markdown(tables(both))
    assert all(f"### {board.title}\n" in text for board in both)


def test_a_group_without_classes_is_not_a_number_that_looks_like_one(boards, make_result):
    board = boards(make_result(few=None), make_result("balpoe", few=12.0))
    assert {row["Few"] for row in cells(markdown(tables(board))).values()} == {"n/a", "12.0"}
    board = boards(make_result(few=None), make_result("balpoe", few=None))
    assert all("Few" not in row for row in cells(markdown(tables(board))).values())
    assert json.loads(as_json(board))[0]["few"] is None
    assert pd.read_csv(io.StringIO(as_csv(board)))["few"].isna().all()


def five(make_result, method, **figures):
    """Runs of five seeds, figures in their order."""
    return [
        make_result(method, seed, **dict(zip(figures, values, strict=True)))
        for seed, values in enumerate(zip(*figures.values(), strict=True))
    ]


def test_only_a_best_that_is_better_than_every_other_row_is_bold_and_the_lowest_error_is_the_best(boards, make_result):
    (board,) = boards(
        *five(
            make_result, "ce",
            top1=(40.0, 41.0, 42.0, 43.0, 44.0), many=(70.0, 71.0, 72.0, 71.0, 70.0), ece=(9.0, 9.1, 9.2, 9.3, 9.4),
        ),
        *five(
            make_result, "balpoe",
            top1=(60.1, 61.2, 61.9, 63.1, 63.8), many=(70.0, 72.0, 71.0, 71.0, 69.0), ece=(5.0, 5.2, 5.1, 5.4, 5.3),
        ),
    )  # fmt: skip
    shown = cells(markdown(tables([board])))
    assert list(shown) == ["BalPoE", "Cross Entropy"]  # best first
    assert [row["Acc"] for row in shown.values()] == ["**62.0 ± 1.5**", "42.0 ± 1.6"]
    assert [row["ECE"] for row in shown.values()] == ["**5.2 ± 0.2**", "9.2 ± 0.2"]
    assert [row["Many"] for row in shown.values()] == ["70.6 ± 1.1", "70.8 ± 0.8"]  # -1, 1, 0, 0, -1: may be chance
    assert [row["MCE"] for row in shown.values()] == ["50.0 ± 0.0"] * 2


def test_rows_that_are_not_significantly_worse_than_the_best_are_marked(boards, make_result):
    (board,) = boards(
        *five(make_result, "balpoe", top1=(60.1, 61.2, 61.9, 63.1, 63.8)),
        *five(make_result, "sade", top1=(60.5, 60.0, 62.5, 62.0, 64.0)),
        *five(make_result, "ce", top1=(40.0, 41.0, 42.0, 43.0, 44.0)),
        make_result("focal", 0, top1=30.0),
    )
    shown = cells(markdown(tables([board])))
    assert list(shown) == ["BalPoE", "SADE", "Cross Entropy", "Focal Loss †"]
    assert [row["Acc"] for row in shown.values()] == ["62.0 ± 1.5", "≈ 61.8 ± 1.6", "42.0 ± 1.6", "30.0"]
    assert board.rows["significantly_worse"].tolist() == [False, False, True, False]
    assert board.rows["behind_n"].tolist() == [5, 5, 5, 1]
    assert board.rows["p"].isna().tolist() == [True, False, False, True]


@pytest.fixture
def unequal(boards, make_result):
    """A table in which focal lacks seeds 1 to 4."""
    return boards(
        *five(make_result, "balpoe", top1=(60.1, 61.2, 61.9, 63.1, 63.8)),
        *five(make_result, "ce", top1=(40.0, 41.0, 42.0, 43.0, 44.0)),
        make_result("focal", 0, top1=30.0),
    )


@pytest.mark.slow
def test_a_row_that_lacks_seeds_says_so_in_every_format(unequal, tmp_path):
    (board,) = unequal
    stored = collect([tmp_path])
    said = "The table compares on seeds 0, 1, 2, 3, 4; means are over all seeds of a row. Rows with † lack some "
    said += "(Focal Loss †: 1, 2, 3, 4), are compared"
    for shown in (markdown, latex, text):
        made = shown(contents(unequal, stored))
        assert (said.replace("†", r"$\dagger$") if shown is latex else said) in " ".join(made.split())
        assert (r"Focal Loss $\dagger$" if shown is latex else "Focal Loss †") in made
    page_text = page.render(stored, unequal, [tmp_path])
    assert said in page_text
    assert "Focal Loss †</a>" in page_text
    rows = {row["label"]: row for row in json.loads(as_json(unequal))}
    assert (rows["Focal Loss †"]["lacks_seeds"], rows["Focal Loss †"]["table_seeds"]) == ("1,2,3,4", "0,1,2,3,4")
    assert [row["first"] for row in rows.values()] == [True, False, False]
    assert pd.read_csv(io.StringIO(as_csv(unequal)))["lacks_seeds"].fillna("").tolist() == ["", "", "1,2,3,4"]
    assert board.bold == {}  # focal could not be tested


def test_nothing_is_called_best_where_a_row_that_lacks_seeds_is_ahead(boards, make_result, tmp_path):
    (board,) = boards(
        *five(make_result, "balpoe", top1=(60.1, 61.2, 61.9, 63.1, 63.8)),
        *five(make_result, "ce", top1=(40.0, 41.0, 42.0, 43.0, 44.0)),
        make_result("focal", 0, top1=70.0),
    )
    made = markdown(contents([board], collect([tmp_path])))
    assert (
        "No row is first: Focal Loss † is ahead of BalPoE, the best row that lacks none, on the seeds that both" in made
    )
    assert "**" not in made
    shown = cells(markdown([differences_table(board)]))
    assert {label: row["Behind"] for label, row in shown.items()} == {
        "BalPoE": "0.0", "Cross Entropy": "20.0", "Focal Loss †": "−9.9",
    }  # fmt: skip
    assert made.count("No row is first: Focal Loss † is ahead of BalPoE") == 2  # also in the advice


def test_where_the_test_set_is_not_balanced_the_mean_over_classes_ranks(boards, make_result):
    def unbalanced(method, first, second):
        result, top1, macro = make_result(method), 10.0 * (first + second), 100 * (first / 9 + second) / 2
        figures = {
            "top1": top1,
            "macro": macro,
            "medium": 100 * first / 9,
            "few": 100.0 * second,
            "ece": 0.0,
            "mce": 0.0,
        }
        bins = result.test.bins.model_copy(update={"count": [10], "confidence": [top1 / 100], "accuracy": [top1 / 100]})
        counts = {"correct": [first, second], "total": [9, 1], "worst_class": min(figures["medium"], figures["few"])}
        metrics = result.test.model_copy(update={**figures, **counts, "bins": bins})
        return result.model_copy(update={"metrics": {"test": metrics}})

    # of 9 and 1 images 9 and 0 right: (100 + 0) / 2; 7 and 1: (77.8 + 100) / 2
    (board,) = boards(unbalanced("ce", 9, 0), unbalanced("balpoe", 7, 1))
    shown = cells(markdown(tables([board])))
    assert board.metric == "macro"
    assert {label: (row["Acc"], row["Macro"]) for label, row in shown.items()} == {
        "BalPoE": ("80.0", "88.9"), "Cross Entropy": ("90.0", "50.0"),
    }  # fmt: skip
    assert list(shown) == ["BalPoE", "Cross Entropy"]


def test_a_row_that_a_search_found_says_so_instead_of_what_it_found(boards, make_result):
    found = {"hyperparameters": {"mixup": 0.4099, "taus": [0.5072, 1.4928]}}
    usual = {"hyperparameters": {"mixup": 0.4, "taus": [0, 1]}}
    (board,) = boards(
        make_result("balpoe", settings=found, tuning={"trials": 20}, top1=3.0),
        make_result("balpoe", settings=usual, top1=2.0),
        make_result("ce", settings={"hyperparameters": {"mixup": 0.4}}, top1=1.0),
    )
    assert board.settings["label"].tolist() == [
        "BalPoE, tuned in 20 trials, mixup=0.4099", "Cross Entropy, mixup=0.4", "BalPoE, taus=0,1",
    ]  # fmt: skip


def test_runs_that_are_not_done_do_not_count(boards, make_result):
    (board,) = boards(
        make_result(seed=0, top1=60.0),
        make_result(seed=1, status="failed", reason="the loss is nan"),
        make_result(seed=2, status="interrupted", reason="stopped"),
    )
    assert (board.rows["n"][0], board.rows["top1"][0]) == (1, 60.0)


def test_runs_that_have_not_looked_at_the_test_set_do_not_count(boards, make_result):
    trial = make_result(seed=1, settings={"validation": True})
    trial = trial.model_copy(update={"metrics": {"validation": trial.test}})
    (board,) = boards(make_result(seed=0), trial)
    assert board.rows["seeds"].tolist() == ["0"]


def test_nothing_to_report_is_said(boards, make_result):
    with pytest.raises(LtbenchError, match="no finished run to report"):
        boards()
    with pytest.raises(LtbenchError, match="no finished run to report"):
        boards(make_result(status="failed"))


@pytest.fixture
def two_boards(boards, make_result):
    return boards(
        *(make_result("logit_adjustment", seed, top1=50.0 + seed, few=None) for seed in (0, 1)),
        make_result("ce", top1=40.0, few=10.0),
        make_result("ce", recipe={"name": "long"}),
    )


def test_json_holds_every_figure(two_boards):
    rows = json.loads(as_json(two_boards))
    assert [(row["leaderboard"].split(" · ")[3], row["label"], row["n"]) for row in rows] == [
        ("long recipe, 200 of 120 epochs", "Cross Entropy", 1),
        ("standard recipe, 200 of 60 epochs", "Logit Adjustment", 2),
        ("standard recipe, 200 of 60 epochs", "Cross Entropy †", 1),
    ]  # fmt: skip
    assert (rows[1]["top1"], rows[1]["top1_sd"], rows[1]["few"]) == (50.5, pytest.approx(math.sqrt(0.5)), None)
    assert (rows[2]["top1_sd"], rows[2]["few"]) == (None, 10.0)


def test_csv_holds_what_json_holds(two_boards):
    frame = pd.read_csv(io.StringIO(as_csv(two_boards)))
    rows = json.loads(as_json(two_boards))
    assert list(frame) == list(rows[0])
    assert frame["label"].tolist() == [row["label"] for row in rows]
    assert frame["top1"].tolist() == [row["top1"] for row in rows]


def test_latex_is_a_booktabs_table_with_escaped_names(two_boards):
    text = latex(
        [*tables(two_boards), Table("More", ["Method", *"bcdefghijklmn"], [["x", *12 * "y", Bold("<.1 ± 2")]])]
    )
    for word in (
        r"\begin{table*}",
        r"\caption{",
        r"\label{tab:",
        r"\begin{tabular}{lrrrrrrrrrrr",
        r"\toprule",
        r"\midrule",
        r"\bottomrule",
        r"\end{tabular}",
    ):
        assert text.count(word) == 3, word
    assert "Logit Adjustment" in text
    assert r"50.5 $\pm$ 0.7" in text
    assert r"\textbf{\ensuremath{<}.1 $\pm$ 2}" in text
    assert not {"@", "±"} & set(text)
    for one in text.split(r"\end{tabular}")[:3]:
        columns = re.search(r"\{l(r+)\}", one)[1]
        assert {line.count(" & ") for line in one.splitlines() if line.endswith(r"\\")} == {len(columns)}


def test_a_report_explains_itself(two_boards, tmp_path):
    stored = collect([tmp_path])
    page = markdown(contents(two_boards, stored, parse_parts("all")))
    assert page.count("\n#### Differences: ") == 2
    for words in ("lower is better", "significantly better", "noise", "adjusted", "in 5 % of tables"):
        assert words in page
    why, counted = page.rstrip().split("\n\n")[-2:]
    assert why == "digits-lt has 2 tables, since results differ with: recipe (long / standard)."
    assert counted == "4 result files; left out: none."
    for board in two_boards:
        assert advise(board, stored) in page.partition(f"Differences: {board.title}")[2].partition("\n### ")[0]


@pytest.mark.slow
def test_the_order_in_which_results_are_read_changes_nothing(boards, make_result, tmp_path):
    first = boards(make_result("ce"), make_result("balpoe", 1, top1=60.0), make_result("balpoe", 0, top1=61.0))
    stored = collect([tmp_path])
    backwards = leaderboards(Collection(dict(reversed(stored.results.items())), stored.paths))
    assert as_json(backwards) == as_json(first)
    assert markdown(contents(backwards, stored)) == markdown(contents(first, stored))


def test_a_run_that_stands_there_twice_under_two_names_counts_once(tmp_path, make_result):
    Store(tmp_path).save(make_result(seed=0, top1=10.0))
    Store(tmp_path).save(make_result(seed=0, top1=10.0).model_copy(update={"run_id": "0" * 12}))
    Store(tmp_path).save(make_result(seed=1, top1=20.0))
    (board,) = leaderboards(collect([tmp_path]))
    assert (board.rows["n"].item(), board.rows["top1"].item()) == (2, 15.0)


@pytest.mark.slow
def test_in_a_table_of_the_papers_own_recipes_they_are_no_part_of_the_names(boards, make_result):
    first = make_result("ce", recipe={"name": "paper", "lr": 0.2}, top1=1.0)
    second = make_result("balpoe", recipe={"name": "paper", "epochs": 60}, top1=2.0)
    (board,) = boards(first, second)
    assert set(board.rows["label"]) == {"Cross Entropy", "BalPoE"}


@pytest.mark.parametrize(
    ("head", "labels"),
    [
        ("cosine", ["Cross Entropy", "BalPoE", "VS Loss, head=cosine", "mine"]),
        ("linear", ["Cross Entropy, head=linear", "BalPoE, head=linear", "VS Loss", "mine"]),
    ],
)
def test_a_head_is_named_where_it_is_not_the_methods_own(boards, make_result, head, labels):
    # The digits' recipe has a cosine classifier, VS loss always a linear one. Of an unknown method nothing is known.
    scores = {"ce": 4.0, "balpoe": 3.0, "vs": 2.0, "mine": 1.0}
    (board,) = boards(*(make_result(method, top1=top1, recipe={"head": head}) for method, top1 in scores.items()))
    assert list(board.rows["label"]) == labels


def test_a_head_of_the_users_own_recipe_is_named_where_rows_differ(boards, make_result):
    heads = {"ce": "cosine", "balpoe": "cosine", "sade": "linear"}
    mixed = {"hyperparameters": {"mixup": 0.7}}
    (board,) = boards(
        *(make_result(method, recipe={"name": "mine", "head": head}, settings=mixed) for method, head in heads.items())
    )
    labels = {"Cross Entropy, mixup=0.7", "BalPoE, mixup=0.7", "SADE, head=linear, mixup=0.7"}
    assert set(board.rows["label"]) == labels


def test_the_run_that_a_method_starts_from_does_not_stand_for_another_unnamed(boards, make_result):
    # GML has a cosine classifier and hands it on to its teacher, balanced softmax; the recipe has a linear one.
    linear = {"recipe": {"head": "linear"}, "settings": {"train": "head"}}
    cosine = {**linear, "recipe": {"head": "cosine"}}
    rows = [make_result("gml", top1=9.0, **cosine), make_result("balanced_softmax", top1=8.0, **cosine)]
    (board,) = boards(*rows, make_result("ce", top1=7.0, **linear))
    assert list(board.rows["label"]) == ["GML", "Balanced Softmax, head=cosine", "Cross Entropy"]


def test_times_of_other_machines_are_not_compared(make_result):
    results = []
    for name, seconds, scores, machine in (
        ("balpoe", 100.0, (70.0, 69.0, 68.0), "AMD"), ("sade", 40.0, (69.0, 69.5, 67.5), "Intel"),
        ("ce", 80.0, (67.0, 68.9, 69.0), "AMD"),
    ):  # fmt: skip
        for seed, top1 in enumerate(scores):
            one = make_result(name, seed, top1=top1, cost={"training_seconds": seconds})
            results.append(one.model_copy(update={"provenance": {"hardware": {"processor": machine}}}))
    (board,) = leaderboards(Collection({one.run_id: one for one in results}, {one.run_id: "x" for one in results}))
    assert "cheapest of the 2 on equal hardware Cross Entropy, 0.8 x the time" in answer(board)
    assert "Rows were trained on 2 kinds of hardware" in leaderboard_table(board).caption
    alike = [one.model_copy(update={"provenance": {}}) for one in results]
    (board,) = leaderboards(Collection({one.run_id: one for one in alike}, {one.run_id: "x" for one in alike}))
    assert "cheapest of them SADE, 0.4 x the time" in answer(board)
    assert "hardware" not in leaderboard_table(board).caption


def test_methods_that_one_name_stands_for_are_told_apart(boards, make_result):
    def named(method, top1):
        result = make_result(method, top1=top1)
        return result.model_copy(update={"method": result.method.model_copy(update={"name": "BalPoE"})})

    (board,) = boards(named("balpoe", 60.0), named("mine", 50.0))
    assert sorted(board.rows["label"]) == ["BalPoE, method=balpoe", "BalPoE, method=mine"]


def test_times_of_other_numbers_of_processes_are_not_compared(boards, make_result):
    eight = {"training_seconds": 2.0, "divisions": [{"processes": 8, "accumulate": 1, "batch_norm_images": None}]}
    rows = [make_result("ce", seed, top1=60.0 + seed, cost={"training_seconds": 12.0}) for seed in range(3)]
    rows += [make_result("balpoe", seed, top1=60.5 + seed, cost=eight) for seed in range(3)]
    (board,) = boards(*rows)
    assert len(board.rows) == 2
    assert board.timed["method"].tolist() in (["ce"], ["balpoe"])
    assert "cheapest" not in answer(board)


def test_a_method_to_open_that_is_not_stored_is_refused():
    TableOptions.parsed(opened="balpoe,all").refuse_unknown_methods({"balpoe"})
    with pytest.raises(LtbenchError, match=r"unknown method 'blapoe'(?s:.*)did you mean balpoe"):
        TableOptions.parsed(opened="blapoe").refuse_unknown_methods({"balpoe", "ce"})
