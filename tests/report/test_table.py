"""Leaderboards from results made by hand, small enough to check every figure."""

import io
import json
import math

import pandas as pd
import pytest

from ltbench.errors import LtbenchError
from ltbench.report.board import leaderboards
from ltbench.report.collection import Collection, collect
from ltbench.report.table import FORMATS, render
from ltbench.store import Store


@pytest.fixture
def boards(tmp_path):
    """The leaderboards of some results."""

    def make(*results):
        for result in results:
            Store(tmp_path).save(result)
        return leaderboards(collect([tmp_path]))

    return make


def cells(text):
    """The rows of the Markdown tables, by label: column -> cell."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    header = rows[0]
    assert {len(row) for row in rows} == {len(header)}
    return {row[0]: dict(zip(header, row, strict=True)) for row in rows if row != header and "--" not in row[0]}


def test_mean_and_standard_deviation_over_three_seeds(boards, make_result):
    # mean (60 + 62 + 67) / 3 = 63; deviations -3, -1, 4; squares 9 + 1 + 16 = 26; sd = sqrt(26 / 2) = 3.6056
    (board,) = boards(*(make_result(seed=seed, top1=top1) for seed, top1 in enumerate((60.0, 62.0, 67.0))))
    (row,) = board.rows.to_dict("records")
    assert (row["label"], row["n"], row["seeds"]) == ("ce", 3, "0,1,2")
    assert row["top1"] == pytest.approx(63.0)
    assert row["top1_sd"] == pytest.approx(math.sqrt(13))
    shown = cells(render([board], "md"))["ce"]
    assert (shown["n"], shown["Acc"], shown["ECE"]) == ("3", "63.0 ± 3.6", "50.0 ± 0.0")


def test_two_seeds_divide_by_one(boards, make_result):
    # deviations -1, 1: sd = sqrt(2 / 1) = 1.4142
    (board,) = boards(make_result(seed=0, ece=4.0), make_result(seed=1, ece=6.0))
    assert cells(render([board], "md"))["ce"]["ECE"] == "5.0 ± 1.4"


def test_one_seed_has_no_deviation(boards, make_result):
    (board,) = boards(make_result(top1=61.25))
    assert "±" not in render([board], "md").replace("mean ± standard deviation", "")
    assert cells(render([board], "md"))["ce"]["Acc"] == "61.2"
    assert math.isnan(board.rows["top1_sd"][0])


def test_every_column_shows_its_own_figure(boards, make_result):
    figures = {"top1": 1.1, "many": 2.2, "medium": 3.3, "few": 4.4, "ece": 5.5, "mce": 6.6}
    cost = {"parameters": 1_234_567, "multiply_adds": 89_060_000, "training_seconds": 432.1}
    (row,) = cells(render(boards(make_result(**figures, cost=cost)), "md")).values()
    assert row == {
        "Method": "ce", "n": "1", "Acc": "1.1", "Many": "2.2", "Med": "3.3", "Few": "4.4", "ECE": "5.5", "MCE": "6.6",
        "Params (M)": "1.23", "MAdds (M)": "89.1", "Train": "432 s",
    }  # fmt: skip


def test_a_long_training_is_given_in_minutes(boards, make_result):
    (row,) = cells(render(boards(make_result(cost={"training_seconds": 5400.0})), "md")).values()
    assert row["Train"] == "90 min"


def test_costs_are_averaged_and_a_method_that_trains_nothing_has_no_speed(boards, make_result):
    cost = {"training_images_per_second": None}
    (board,) = boards(
        make_result(seed=0, cost={**cost, "training_seconds": 10.0}),
        make_result(seed=1, cost={**cost, "training_seconds": 20.0}),
    )
    assert board.rows["training_seconds"][0] == 15.0
    assert json.loads(render([board], "json"))[0]["training_images_per_second"] is None


def test_runs_with_another_setting_are_not_averaged_and_the_label_says_which(boards, make_result):
    mixup = {"settings": {"hyperparameters": {"mixup": 0.4}}}
    plain = {"settings": {"hyperparameters": {"mixup": 0.0}}}
    (board,) = boards(
        make_result(seed=0, top1=40.0, **plain),
        make_result(seed=1, top1=42.0, **plain),
        make_result(seed=0, top1=50.0, **mixup),
        make_result("balpoe", seed=0, top1=60.0, settings={"hyperparameters": {"mixup": 0.4}}),
    )
    assert board.rows["label"].tolist() == ["balpoe, mixup=0.4", "ce, mixup=0.4", "ce, mixup=0"]
    assert board.rows["n"].tolist() == [1, 1, 2]
    assert board.rows["top1"].tolist() == [60.0, 50.0, 41.0]


def test_a_setting_of_training_that_differs_in_the_table_is_on_every_label(boards, make_result):
    (board,) = boards(
        make_result("ce", recipe={"epochs": 60}, top1=1.0),
        make_result("balpoe", recipe={"epochs": 60}, top1=2.0),
        make_result("balpoe", recipe={"epochs": 90}, top1=3.0),
    )
    assert board.rows["label"].tolist() == ["balpoe, epochs=90", "balpoe, epochs=60", "ce, epochs=60"]


@pytest.mark.parametrize(
    ("change", "label"),
    [
        ({"settings": {"precision": "bf16"}}, "ce, precision=bf16"),
        ({"settings": {"hyperparameters": {"taus": [0, 2]}}}, "ce, taus=[0, 2]"),
        ({"revision": "2"}, "ce, revision=2"),
        ({"recipe": {"augment": {"flip": True}}}, "ce, flip=true"),
        ({"recipe": {"head": "linear"}}, "ce, head=linear"),
    ],
)
def test_labels_name_what_differs(boards, make_result, change, label):
    (board,) = boards(make_result(), make_result(**change))
    assert label in board.rows["label"].tolist()
    assert board.rows["label"].is_unique


@pytest.mark.parametrize(
    ("change", "title"),
    [
        ({"data": "bbbbbbbbbbbbbbbb"}, "digits-lt, IR 20, standard recipe, data bbbbbb"),
        ({"recipe": {"name": "long"}}, "digits-lt, IR 20, long recipe, data aaaaaa"),
        ({"settings": {"data_seed": 3}}, "digits-lt, IR 20, standard recipe, data seed 3, data aaaaaa"),
        (
            {"settings": {"validation": True}},
            "digits-lt, IR 20, standard recipe, trained without the validation part, data aaaaaa",
        ),
        (
            {"transductive": True},
            "digits-lt, IR 20, standard recipe, adapted to the unlabelled test set, data aaaaaa",
        ),
        ({"track": "foundation model"}, "digits-lt, IR 20, standard recipe, foundation model, data aaaaaa"),
    ],
    ids=str,
)
def test_what_cannot_be_compared_stands_in_another_table(boards, make_result, change, title):
    both = boards(make_result(top1=40.0), make_result("balpoe", top1=60.0, **change))
    assert {board.title for board in both} == {"digits-lt, IR 20, standard recipe, data aaaaaa", title}
    assert [len(board.rows) for board in both] == [1, 1]
    text = render(both, "md")
    assert all(f"### {board.title}\n" in text for board in both)


def test_a_group_without_classes_is_not_a_number_that_looks_like_one(boards, make_result):
    board = boards(make_result(few=None), make_result("balpoe", few=None))
    assert {row["Few"] for row in cells(render(board, "md")).values()} == {"n/a"}
    assert json.loads(render(board, "json"))[0]["few"] is None
    assert pd.read_csv(io.StringIO(render(board, "csv")))["few"].isna().all()


def test_the_best_of_each_column_is_bold_and_the_lowest_error_is_the_best(boards, make_result):
    (board,) = boards(
        make_result("ce", top1=40.0, many=70.0, ece=9.0, mce=20.0),
        make_result("balpoe", top1=60.0, many=65.0, ece=12.0, mce=15.0),
    )
    shown = cells(render([board], "md"))
    assert list(shown) == ["balpoe", "ce"]  # best first
    assert [shown["ce"][name] for name in ("Acc", "Many", "ECE", "MCE")] == ["40.0", "**70.0**", "**9.0**", "20.0"]
    assert [shown["balpoe"][name] for name in ("Acc", "Many", "ECE", "MCE")] == ["**60.0**", "65.0", "12.0", "**15.0**"]


def test_means_that_show_the_same_are_bold_together_or_not_at_all(boards, make_result):
    (board,) = boards(
        make_result("ce", top1=60.01, many=50.0),
        make_result("balpoe", top1=59.99, many=50.0),
        make_result("logit_adjustment", top1=40.0, many=50.0),
    )
    shown = cells(render([board], "md"))
    assert [row["Acc"] for row in shown.values()] == ["**60.0**", "**60.0**", "40.0"]
    assert {row["Many"] for row in shown.values()} == {"50.0"}


def test_bold_is_within_a_table(boards, make_result):
    text = render(boards(make_result(top1=40.0), make_result(top1=60.0, data="bbbbbbbbbbbbbbbb")), "md")
    assert "**" not in text


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
    rows = json.loads(render(two_boards, "json"))
    assert [(row["board"].split(", ")[2], row["label"], row["n"]) for row in rows] == [
        ("long recipe", "ce", 1), ("standard recipe", "logit_adjustment", 2), ("standard recipe", "ce", 1),
    ]  # fmt: skip
    assert (rows[1]["top1"], rows[1]["top1_sd"], rows[1]["few"]) == (50.5, pytest.approx(math.sqrt(0.5)), None)
    assert (rows[2]["top1_sd"], rows[2]["few"]) == (None, 10.0)


def test_csv_holds_what_json_holds(two_boards):
    frame = pd.read_csv(io.StringIO(render(two_boards, "csv")))
    rows = json.loads(render(two_boards, "json"))
    assert list(frame) == list(rows[0])
    assert frame["label"].tolist() == [row["label"] for row in rows]
    assert frame["top1"].tolist() == [row["top1"] for row in rows]


def test_latex_is_a_booktabs_table_with_escaped_names(two_boards):
    text = render(two_boards, "latex")
    for word in (r"\begin{tabular}{lrrrrrrrrrr}", r"\toprule", r"\midrule", r"\bottomrule", r"\end{tabular}"):
        assert text.count(word) == 2, word
    assert r"logit\_adjustment" in text
    assert r"\textbf{50.5 $\pm$ 0.7}" in text
    assert not {"@", "±", "*"} & set(text)
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert {line.count(" & ") for line in rows} == {10}


def test_markdown_explains_itself(two_boards):
    text = render(two_boards, "md")
    assert text.count("### ") == 2
    assert "lower is better" in text
    assert text.endswith("\n")


@pytest.mark.parametrize("style", FORMATS)
def test_the_order_in_which_results_are_read_changes_nothing(boards, make_result, tmp_path, style):
    first = boards(make_result("ce"), make_result("balpoe", 1, top1=60.0), make_result("balpoe", 0, top1=61.0))
    stored = collect([tmp_path])
    backwards = Collection(dict(reversed(stored.results.items())), stored.paths)
    assert render(leaderboards(backwards), style) == render(first, style)


def test_a_run_that_stands_there_twice_under_two_names_counts_once(tmp_path, make_result):
    Store(tmp_path).save(make_result(seed=0, top1=10.0))
    Store(tmp_path).save(make_result(seed=0, top1=10.0).model_copy(update={"run_id": "0" * 12}))
    Store(tmp_path).save(make_result(seed=1, top1=20.0))
    (board,) = leaderboards(collect([tmp_path]))
    assert (board.rows["n"].item(), board.rows["top1"].item()) == (2, 15.0)


def test_in_a_table_of_the_papers_own_recipes_they_are_no_part_of_the_names(boards, make_result):
    first = make_result("ce", recipe={"name": "paper", "lr": 0.2}, top1=1.0)
    second = make_result("balpoe", recipe={"name": "paper", "epochs": 60}, top1=2.0)
    (board,) = boards(first, second)
    assert set(board.rows["label"]) == {"ce", "balpoe"}


def test_a_head_is_named_where_it_is_not_that_of_most_rows(boards, make_result):
    cosine = [make_result(method, top1=top1) for method, top1 in (("ce", 3.0), ("balpoe", 2.0))]
    (board,) = boards(*cosine, make_result("vs", recipe={"head": "linear"}, top1=1.0))
    assert list(board.rows["label"]) == ["ce", "balpoe", "vs, head=linear"]
