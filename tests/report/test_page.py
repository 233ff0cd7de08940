"""The HTML page: what stands in it, read back by a parser. tests/browser looks at it in a browser."""

import base64
import csv
import hashlib
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files
from itertools import pairwise
from urllib.parse import unquote

import numpy as np
import pytest

from ltbench.errors import LtbenchWarning
from ltbench.registry.declared import recipe_of
from ltbench.report.collection import collect
from ltbench.report.leaderboard import leaderboards
from ltbench.report.page import page, pictures, views
from ltbench.report.page.pictures import inline
from ltbench.report.page.plot import cost_plot
from ltbench.report.page.scale import scale_of
from ltbench.results.store import Store

HOSTILE = """<script>alert("x")</script>'"><img src=x onerror=alert(1)>{{ 7 * 7 }}</script><!--"""


class Page(HTMLParser):
    """The elements of a page in order, and tables as text."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.tables, self.scripts = [], [], []
        self._table = self._cell = self._script = None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.elements.append((tag, attributes))
        if tag == "table":
            self._table = {"class": attributes.get("class", ""), "caption": "", "rows": []}
            self.tables.append(self._table)
        elif tag == "tr":
            self._table["rows"].append([])
        elif tag in ("th", "td"):
            self._cell = {"text": "", **attributes}
            self._table["rows"][-1].append(self._cell)
        elif tag == "caption":
            self._cell = {"text": ""}
        elif tag == "script":
            self._script = ""

    def handle_data(self, data):
        if self._script is not None:
            self._script += data
        elif self._cell is not None:
            self._cell["text"] += data

    def handle_endtag(self, tag):
        if tag == "caption":
            self._table["caption"] = self._cell["text"]
        if tag in ("th", "td", "caption"):
            self._cell = None
        if tag == "script":
            self.scripts.append(self._script)
            self._script = None

    def ids(self):
        return [attributes["id"] for _, attributes in self.elements if "id" in attributes]

    @property
    def data(self):
        return json.loads(self.scripts[0])

    def table(self, caption, number=0):
        """The rows of a table as text, by caption."""
        found = [table for table in self.tables if caption in table["caption"]][number]
        return [[" ".join(cell["text"].split()) for cell in row] for row in found["rows"]]

    def leaderboard(self, number=0):
        """Column -> cell, a dictionary a row."""
        header, *rows = self.table("best first", number)
        return [dict(zip((name.split(" ")[0] for name in header), row, strict=True)) for row in rows]


@pytest.fixture
def no_figures(monkeypatch):
    monkeypatch.setattr(pictures, "pictures", lambda *args, **options: {})


@pytest.fixture
def text(tmp_path, no_figures):
    """The page of some results, as text."""

    def make(*results):
        for result in results:
            Store(tmp_path).save(result)
        stored = collect([tmp_path])
        return page.render(stored, leaderboards(stored), [tmp_path])

    return make


@pytest.fixture
def read(text):
    return lambda *results: Page(text(*results))


def test_a_row_of_the_leaderboard_has_every_figure(read, make_result):
    # Accuracies 60, 62, 64 and 50, 53, 53: means 62 and 52, deviations sqrt((4 + 0 + 4) / 2) = 2 and sqrt(3) = 1.73;
    # ce is 10, 9 and 11 behind, 10 on the mean, and ranks second of two on all three seeds without a win.
    cost = {"parameters": 1_234_567, "multiply_adds": 89_060_000, "training_seconds": 432.1}
    found = read(
        *(make_result("balpoe", seed, top1=top1, few=None) for seed, top1 in enumerate((60.0, 62.0, 64.0))),
        *(make_result("ce", seed, top1=top1, cost=cost) for seed, top1 in enumerate((50.0, 53.0, 53.0))),
    )
    first, second = found.leaderboard()
    assert (first["Method"], first["n"], first["Acc"], first["Behind"], first["p"]) == (
        "BalPoE", "3", "62.0 ± 2.0", "first", "–",
    )  # fmt: skip
    assert (first["Rank"], first["Mean"], first["Wins"], first["Few"]) == ("1", "1.0", "1.00", "n/a")
    assert (second["Acc"], second["Behind"], second["Mean"], second["Wins"]) == ("52.0 ± 1.7", "10.0", "2.0", "0.00")
    assert second["Rank"] == "2"
    assert (second["Params"], second["MAdds"], second["Train"]) == ("1.23", "89.1", "432 s")


def test_cells_carry_the_value_that_they_sort_by_and_those_without_a_value_none(read, make_result):
    found = read(make_result("ce", top1=61.25, few=None), make_result("balpoe", top1=7.0))
    header, first, _ = next(table for table in found.tables if "leaderboard" in table["class"])["rows"]
    values = {name["text"].split()[0]: cell.get("data-value") for name, cell in zip(header, first, strict=True)}
    assert (float(values["Acc"]), values["Few"]) == (61.25, None)
    assert {cell["text"].split()[0] for cell in header if cell.get("data-first") == "ascending"} == {
        "Behind", "p", "Rank", "Mean", "ECE", "Floor", "Debiased", "MCE", "Params", "MAdds", "Train",
    }  # fmt: skip


def three_seeds(make, method, *top1, **more):
    return [make(method, seed, top1=accuracy, **more) for seed, accuracy in enumerate(top1)]


def test_the_answer_stands_first_and_ties_are_tinted_above_a_rule(text, make_result):
    made = text(
        *three_seeds(make_result, "balpoe", 60.0, 61.5, 62.0),
        *three_seeds(make_result, "ride", 59.9, 61.6, 61.9),
        *three_seeds(make_result, "ce", 40.0, 41.1, 42.0),
    )
    found = Page(made)
    assert "No clear winner: BalPoE leads with 61.2 %, 2 of 3 methods tie at 5 %" in made.replace(
        "\N{NO-BREAK SPACE}", " "
    )
    assert made.index("No clear winner") < made.index("<table")
    rows = [one["class"].split() for tag, one in found.elements if tag == "tr" and "data-entry" in one]
    assert rows == [["tie"], ["tie", "last-tie"], []]
    assert [row["Rank"] for row in found.leaderboard()] == ["1=", "1=", "3"]


def test_data_sets_are_tabs_the_fullest_first(text, make_result):
    made = text(
        make_result("ce", settings={"dataset": "cifar100-lt"}),
        *(make_result(name) for name in ("ce", "balpoe")),
    )
    tabs = re.search(r'<nav class="tabs".*?</nav>', made, re.DOTALL)[0]
    assert re.findall(r'href="#(.*?)">(.*?) <span class="count">(\d+)', tabs) == [
        ("data-1", "digits-lt", "2"), ("data-2", "cifar100-lt", "1"),
    ]  # fmt: skip


def test_a_table_that_was_trained_as_the_recipe_has_it_stands_above_a_fuller_one_that_was_not(text, make_result):
    known = recipe_of("standard", "digits-lt").model_dump()
    made = text(
        *(make_result(name, recipe={**known, "epochs": 6}) for name in ("ce", "balpoe")),
        make_result("ce", recipe=known),
    )
    assert re.findall(r'<h2 id="table-\d+-title">.*?recipe, (.*?) epochs', made) == ["60", "6 of 60"]


def test_other_settings_stand_below_their_row_and_are_not_compared(read, make_result):
    found = read(
        make_result("balpoe", top1=50.0),
        make_result("balpoe", top1=70.0, settings={"hyperparameters": {"mixup": 0.4}}),
        make_result("ce", top1=40.0),
    )
    rows = [one for tag, one in found.elements if tag == "tr" and ("data-entry" in one or "data-of" in one)]
    others = [place for place, one in enumerate(rows) if one.get("class") == "other"]
    assert others
    for place in others:
        assert rows[place]["data-of"] == next(one for one in rows[:place][::-1] if "data-entry" in one)["data-entry"]
    for place in others:
        row = found.leaderboard()[place]
        assert (row["Rank"], row["Behind"], row["p"], row["Wins"]) == ("", "", "", "")


def test_the_table_is_a_download(read, make_result):
    found = read(make_result("ce", top1=40.0), make_result("balpoe", top1=50.0))
    link = next(one for _, one in found.elements if "download" in one)
    rows = list(csv.DictReader(io.StringIO(base64.b64decode(link["href"].partition(",")[2]).decode())))
    assert [(row["method"], float(row["top1"])) for row in rows] == [("balpoe", 50.0), ("ce", 40.0)]


def test_runs_are_linked_relative_to_the_page(tmp_path, no_figures, make_result):
    result = make_result("ce")
    path = Store(tmp_path / "my results").save(result)
    stored = collect([tmp_path / "my results"])
    output = tmp_path / "out" / "report.html"
    found = Page(page.render(stored, leaderboards(stored), [tmp_path], output=output))
    links = [one["href"] for _, one in found.elements if one.get("href", "#")[0] not in "#d"]
    assert links == [f"../my%20results/digits-lt/ce/{result.run_id}.json"]
    assert (output.parent / unquote(links[0])).resolve() == path.resolve()


def test_many_runs_are_links_without_a_line_of_their_own(tmp_path, no_figures, make_result):
    for seed in range(40):
        Store(tmp_path).save(make_result("ce", seed))
    stored = collect([tmp_path])
    found = Page(page.render(stored, leaderboards(stored), [tmp_path], output=tmp_path / "report.html"))
    assert len(found.table("One run a seed")) == 1 + 30
    assert len([one for _, one in found.elements if one.get("href", "").endswith(".json")]) == 40


def test_outliers_do_not_squash_the_scale():
    # Quartiles of the middles 10, 90, 91, 92, 93 are 90 and 92; 1.5 * 2, or the median width 2, reach 3 beyond.
    middles = np.array([10.0, 90.0, 91.0, 92.0, 93.0])
    assert scale_of(middles - 1, middles + 1) == (87.0, 94.0)
    assert scale_of([50.0, 60.0], [52.0, 62.0]) == (50.0, 62.0)
    assert scale_of([np.nan, 1.0], [np.nan, 3.0]) == (1.0, 3.0)
    assert scale_of([np.nan], [np.nan]) == (0.0, 1.0)
    assert scale_of([5.0], [5.0]) == (4.5, 5.5)


def test_rows_of_other_hardware_are_hollow_points_off_the_front(make_result, tmp_path):
    for name, machine in (("ce", "AMD"), ("sade", "AMD"), ("balpoe", "Intel")):
        result = make_result(name, top1=60.0, cost={"training_seconds": 20.0})
        Store(tmp_path).save(result.model_copy(update={"provenance": {"hardware": {"processor": machine}}}))
    (board,) = leaderboards(collect([tmp_path]))
    assert len(board.rows) == 3
    plot = cost_plot(board, ["a", "b", "c"])
    assert {one.label: one.elsewhere for one in plot.points} == {"Cross Entropy": False, "SADE": False, "BalPoE": True}
    assert not next(one for one in plot.points if one.label == "BalPoE").front
    assert [one.leads for one in plot.points] == [True, False, False]
    named = dict(zip(["a", "b", "c"], board.rows["label"], strict=True))
    assert all(named[one.entry] == one.label for one in plot.points)


def test_no_row_is_on_a_front_where_each_was_trained_on_other_hardware(make_result, tmp_path):
    for name, machine, top1 in (("ce", "A", 60.7), ("balpoe", "B", 64.7)):
        result = make_result(name, top1=top1, cost={"training_seconds": 20.0})
        Store(tmp_path).save(result.model_copy(update={"provenance": {"hardware": {"processor": machine}}}))
    (board,) = leaderboards(collect([tmp_path]))
    plot = cost_plot(board, ["a", "b"])
    assert not plot.comparable
    assert not any(one.front or one.elsewhere for one in plot.points)
    assert board.timed["label"].tolist() == ["BalPoE"]  # of two that as many were trained on, the first row's


def test_points_of_the_plot_are_the_rows_and_the_front_is_what_none_beats(tmp_path, make_result):
    # 10 s: 50 %; 20 s: 60 %; 40 s: 55 %, which the second beats at half of the time. On a logarithmic axis the second
    # is halfway. The margin is 8 %: x is 8, 50, 92; accuracies are all within 1.5 times the quartiles' distance.
    for method, top1, seconds in (("ce", 50.0, 10.0), ("ride", 60.0, 20.0), ("sade", 55.0, 40.0)):
        Store(tmp_path).save(make_result(method, top1=top1, cost={"training_seconds": seconds}))
    (board,) = leaderboards(collect([tmp_path]))
    plot = cost_plot(board, ["a", "b", "c"])
    points = {one.label: (round(one.x, 3), round(one.y, 3), one.front, one.beyond) for one in plot.points}
    assert points == {
        "Cross Entropy": (8.0, 8.0, True, ""), "RIDE": (50.0, 92.0, True, ""), "SADE": (92.0, 50.0, False, ""),
    }  # fmt: skip
    assert plot.points[0].figures == "60.0 %, 20 s"
    assert plot.front.split()[0].startswith("8.0,92.0")
    assert [tick.text for tick in plot.horizontal] == ["10 s", "15 s", "20 s", "30 s"]


def test_only_a_best_value_that_is_told_apart_is_bold(read, make_result):
    apart = {"balpoe": (60.0, 61.0, 62.0), "ce": (50.0, 51.1, 52.0)}
    found = read(*(make_result(name, seed, top1=top1) for name in apart for seed, top1 in enumerate(apart[name])))
    _, first, second = next(table for table in found.tables if "leaderboard" in table["class"])["rows"]
    assert [cell["text"].split()[0] for cell in first if "best" in cell.get("class", "")] == [
        "61.0"
    ] * 3  # with Med and Few
    assert not [cell for cell in second if "best" in cell.get("class", "")]


def test_tables_that_answer_other_questions_stand_under_headings_of_their_own(text, make_result):
    made = text(
        make_result("ce"),
        make_result("balpoe", recipe={"name": "paper"}),
        make_result("sade", transductive=True),
        make_result("lift", track="foundation model"),
        make_result("theirs", recipe={"name": "external"}),
    )
    headings = re.findall(r'<p class="group(?: usual)?"><b>(.*?)\.</b>', made)
    assert headings == [
        "Shared recipe", "Authors&#39; recipes", "Adapted to the test set", "Trained elsewhere", "Foundation model",
    ]  # fmt: skip
    found = Page(made)
    assert [[row["Method"] for row in found.leaderboard(number)] for number in range(5)] == [
        ["Cross Entropy"], ["BalPoE"], ["SADE"], ["theirs"], ["LIFT"],
    ]  # fmt: skip


def test_why_there_are_several_tables_is_said(text, make_result):
    made = text(make_result("ce"), make_result("balpoe", recipe={"name": "paper"}), make_result("lift", track="big"))
    reasons = re.search(r"Why there are 3 tables</h2>(.*?)</section>", made, re.DOTALL)[1]
    assert "recipe (paper / standard)" in reasons or "recipe (standard / paper)" in reasons
    assert "comparison group (" in reasons


def test_one_table_needs_no_reason(text, make_result):
    assert "Why there" not in text(make_result("ce"))


def test_confusions_are_summed_over_the_seeds(read, make_full_result):
    # Seed 0 takes one of two cows for an ant; seed 1 both, and one bee for a cow. Of 4 cows 3 are taken for ants: 75 %;
    # of 4 bees 1 for a cow: 25 %.
    found = read(
        make_full_result(seed=0, predicted=(0, 0, 1, 1, 2, 0)), make_full_result(seed=1, predicted=(0, 0, 1, 2, 0, 0))
    )
    assert found.table("most frequent confusions")[1:] == [["cow", "ant", "3", "75.0"], ["bee", "cow", "1", "25.0"]]
    (row,) = found.data["rows"].values()
    assert row["confusion"] == {"counts": [[4, 0, 0], [0, 3, 1], [3, 0, 1]]}
    assert found.table("Accuracy of each class")[1:] == [
        ["ant", "120", "many", "100.0"], ["bee", "60", "medium", "75.0"], ["cow", "40", "few", "25.0"],
    ]  # fmt: skip


def test_many_classes_become_a_bounded_picture():
    # 25 classes, two images each: class 3 is taken for class 4 once, all else is right. Level: 63 * sqrt(share),
    # rounded up: 1 -> 63 "/", 0.5 -> 44.5 -> 45 "t", 0 -> "A".
    matrix = 2 * np.eye(25, dtype=np.int64)
    matrix[3, 3:5] = 1
    levels = views.confusion_view(matrix, range(25))["levels"]
    assert levels[0] == "/" + 24 * "A"
    assert levels[3] == "AAAtt" + 20 * "A"
    large = views.confusion_view(np.ones((1000, 1000), dtype=np.int64), range(1000))["levels"]
    assert len(large) == 100
    assert {len(row) for row in large} == {100}
    assert {*"".join(large)} == {"H"}  # a cell has a hundredth of its row: 63 * 0.1 = 6.3 -> 7 "H"


def test_a_class_without_test_images_has_no_accuracy(read, make_full_result):
    found = read(make_full_result(labels=(0, 0, 1), predicted=(0, 0, 1), confidence=(0.5, 0.5, 0.5)))
    assert found.table("Accuracy of each class")[3] == ["cow", "40", "few", "n/a"]


def test_results_that_keep_less_say_what_is_not_there(text, make_result):
    made = text(make_result())
    assert "results of older versions keep no predictions of each test image" in made
    assert "n/a: the results name no paper." in made
    assert "Under label shift: n/a" in made


def test_damaged_outcomes_are_named_and_the_rest_is_shown(text, make_full_result):
    result = make_full_result()
    broken = result.outcomes.model_copy(update={"labels": "AAAA"})
    with pytest.warns(LtbenchWarning, match="its row has no interval"):
        made = text(result.model_copy(update={"outcomes": broken}))
    assert "No confusion matrix: the packed predictions (outcomes) are damaged" in made
    assert Page(made).leaderboard()[0]["Acc"] == "83.3"


def test_reliability_pools_the_images_of_all_seeds(make_result):
    # 1 image of confidence 0.2 and 3 of 0.6, wrong and all right: (0.2 + 3 * 0.6) / 4 = 0.5 and 3 / 4.
    def with_bins(seed, **bins):
        result = make_result(seed=seed)
        table = result.test.bins.model_copy(update=bins)
        return result.model_copy(update={"metrics": {"test": result.test.model_copy(update={"bins": table})}})

    first = with_bins(0, count=[0, 1], confidence=[0.0, 0.2], accuracy=[0.0, 0.0])
    second = with_bins(1, count=[0, 3], confidence=[0.0, 0.6], accuracy=[0.0, 1.0])
    assert views.reliability_view([first, second]) == {
        "images": [0, 4], "confidence": [0.0, 0.5], "accuracy": [0.0, 0.75],
        "low": [0.0, 0.0], "high": [0.0, 1.0],  # two images of a seed: none to both are right
    }  # fmt: skip
    other = with_bins(2, count=[1], confidence=[0.5], accuracy=[0.5])
    assert views.reliability_view([first, other]) is None


def shifted(**top1):
    """A shift table of one set with the accuracy for each prior."""
    each = len(top1)
    return {
        "distribution": ["forward-50"] * each, "prior": list(top1), "prior_error": [None] * each, "images": [7] * each,
        "classes": [2] * each, "top1": list(top1.values()), "macro": [1.0] * each, "many": [None] * each,
        "medium": [None] * each, "few": [None] * each, "ece": [3.0] * each, "mce": [1.0] * each, "nll": [1.0] * each,
    }  # fmt: skip


def test_label_shift_has_a_table_for_each_knowledge_of_the_prior(read, make_full_result):
    # 80 and 90 with the prior unknown: 85 ± sqrt(50) = 7.07.
    found = read(
        make_full_result("ce", 0, shift=shifted(unknown=80.0, known=95.0)),
        make_full_result("ce", 1, shift=shifted(unknown=90.0, known=95.0)),
        make_full_result("balpoe", 0, shift=shifted(unknown=70.0)),
        make_full_result("balpoe", 1, shift=shifted(unknown=70.0)),
    )
    assert found.table("Accuracy in percent, prior unknown") == [
        ["Method", "forward-50 7 images2 classes"], ["BalPoE", "70.0 ± 0.0"], ["Cross Entropy", "85.0 ± 7.1"],
    ]  # fmt: skip
    assert found.table("Accuracy in percent, prior known")[1:] == [["BalPoE", "n/a"], ["Cross Entropy", "95.0 ± 0.0"]]
    assert found.table("ECE in percent, prior unknown")[1:] == [["BalPoE", "3.0 ± 0.0"], ["Cross Entropy", "3.0 ± 0.0"]]
    assert not [table for table in found.tables if "prior estimated" in table["caption"]]


def test_the_seeds_settings_and_provenance_of_a_row(read, text, make_full_result):
    times = {"started": "2026-01-02T03:04:05+00:00", "finished": "2026-01-02T03:05:00+00:00"}
    result = make_full_result(settings={"hyperparameters": {"mixup": 0.4}})
    provenance = {"versions": {"torch": "2.9"}, "git": {"commit": "abc"}, "hardware": {"device": "cpu"}, **times}
    result = result.model_copy(update={"provenance": provenance})
    found = read(result, make_full_result("balpoe"))
    runs = [row for number in (0, 1) for row in found.table("One run a seed", number)]
    (mine,) = (row for row in runs if row[1].startswith(result.run_id))
    assert [mine[0], *mine[2:]] == ["0", "83.33", "6.67", "2026-01-02 03:04:05 UTC", "2026-01-02 03:05:00 UTC"]
    made = " ".join(text().split())
    for name, value in {"hyperparameters mixup": "0.4", "versions torch": "2.9", "git commit": "abc"}.items():
        assert f"<dt>{name}</dt><dd>{value}</dd>" in made


def test_what_the_paper_reports_stands_beside_what_was_measured(read, make_full_result):
    # BalPoE reports 52.0; measured is 5 of 6 images, 83.3.
    result = make_full_result("balpoe")
    claim = "BalPoE (calibrated)|CIFAR-100-LT|100|ResNet-32|standard (200)|acc|all"
    config = result.config.replace(dataset="cifar100-lt", imbalance_ratio=100, backbone="cifar_resnet32")
    method = result.method.model_copy(update={"paper": result.method.paper.model_copy(update={"claims": [claim]})})
    found = read(result.model_copy(update={"config": config, "method": method}))
    (row,) = found.table("What papers report")[1:]
    assert row[1:] == ["Acc", "200 / 200", "52.0", "83.3", "+31.3", "1"]


def test_what_is_left_out_is_named_and_counted(text, tmp_path, make_result):
    (tmp_path / "broken.json").write_text("{")
    made = text(make_result(), make_result(seed=1, status="failed", reason="the loss is nan"))
    assert "3 result files; left out: 1 not readable, 1 failed." in made
    assert "broken.json" in made
    assert "failed: the loss is nan" in made
    assert str(tmp_path) in made.split("<footer>")[1]


def test_names_that_look_like_markup_are_text(text, make_full_result):
    made = text(
        make_full_result(
            "x", classes=(HOSTILE, "bee", "cow"), bibtex=HOSTILE, settings={"hyperparameters": {HOSTILE: HOSTILE}}
        ),
        make_full_result("ce", status="done", track=HOSTILE),
    )
    found = Page(made)
    assert [attributes.get("type") for tag, attributes in found.elements if tag == "script"] == [
        "application/json",
        None,
    ]
    assert not [tag for tag, _ in found.elements if tag == "img"]
    assert not [name for _, attributes in found.elements for name in attributes if name.startswith("on")]
    assert found.data["tables"]["table-1"]["names"][0] == HOSTILE
    assert found.table("Accuracy of each class")[1][0] == HOSTILE
    assert made.count("7 * 7") > 1


def test_nothing_is_fetched_and_only_the_pages_own_script_runs(text, make_full_result):
    made = text(make_full_result())
    found = Page(made)
    policy = next(one["content"] for tag, one in found.elements if one.get("http-equiv") == "Content-Security-Policy")
    digest = base64.b64encode(hashlib.sha256(found.scripts[1].encode()).digest()).decode()
    assert policy.split("; ")[0] == "default-src 'none'"
    assert f"script-src 'sha256-{digest}'" in policy.split("; ")
    assert not [one for tag, one in found.elements if {"src", "srcset", "data", "poster"} & set(one)]
    links = [one["href"] for _, one in found.elements if "href" in one]
    assert {link[: link.find(",")] for link in links if not link.startswith("#")} == {"data:text/csv;base64"}
    assert not re.search(r"url\((?!#)|@import", made)


def test_the_structure_is_sound(read, make_full_result):
    found = read(make_full_result("ce"), make_full_result("balpoe", shift=shifted(unknown=50.0)))
    ids = found.ids()
    assert len(ids) == len(set(ids))
    levels = [int(tag[1]) for tag, _ in found.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(later - earlier <= 1 for earlier, later in pairwise(levels))
    assert all(table["caption"].strip() for table in found.tables)
    assert all(one.get("scope") in ("col", "row") for tag, one in found.elements if tag == "th")
    referred = [one[name] for _, one in found.elements for name in ("aria-labelledby", "aria-controls") if name in one]
    assert set(referred) <= set(ids)
    links = {one["href"] for _, one in found.elements if "href" in one}
    assert {link[1:] for link in links if link.startswith("#")} <= set(ids)


def test_the_order_in_which_results_are_read_changes_nothing(tmp_path, no_figures, make_full_result):
    for seed in (0, 1):
        Store(tmp_path).save(make_full_result("ce", seed))
        Store(tmp_path).save(make_full_result("balpoe", seed))
    stored = collect([tmp_path])
    backwards = replace(stored, results=dict(reversed(stored.results.items())))
    first, second = (page.render(one, leaderboards(one), [tmp_path]) for one in (stored, backwards))
    assert first == second


def test_a_figure_keeps_no_ids_but_those_it_points_to_and_makes_them_its_own():
    picture = b"""<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"
        xmlns:xlink="http://www.w3.org/1999/xlink" width="72pt" height="36pt" viewBox="0 0 72 36"><metadata/>
        <defs><style>*{x: y}</style><clipPath id="p1"/></defs>
        <g id="axes_1" clip-path="url(#p1)"><path id="m2" d="M 1.23456 2"/><use xlink:href="#m2"/></g></svg>"""
    made = inline(picture, "cost")
    assert re.findall(r'id="(.*?)"', made) == ["cost-p1", "cost-m2"]
    assert 'clip-path="url(#cost-p1)"' in made
    assert 'xlink:href="#cost-m2"' in made
    assert 'd="M 1.23 2"' in made
    assert "<?xml" not in made
    assert "metadata" not in made
    assert "*{" not in made


def luminance(colour):
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]  # WCAG 2.2, relative luminance


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("ground", ["paper", "raised"])
@pytest.mark.parametrize("ink", ["ink", "muted", "accent"])
def test_text_has_the_contrast_of_wcag_aa(scheme, ground, ink):
    style = (files("ltbench.report.page") / "page.css").read_text()
    colours = dict(re.findall(r"--(\w+): light-dark\((.*?)\);", style))
    bright, dim = sorted((luminance(colours[name].split(", ")[scheme]) for name in (ground, ink)), reverse=True)
    assert (bright + 0.05) / (dim + 0.05) >= 4.5


@pytest.mark.slow
def test_the_command_writes_the_page_with_its_figures(cli, tmp_path, make_full_result):
    for seed in (0, 1):
        Store(tmp_path / "runs").save(make_full_result("ce", seed))
    done = cli("report", "--format", "html", "--output", "out/report.html")
    assert (done.code, done.out) == (0, "")
    found = Page((tmp_path / "out" / "report.html").read_text())
    assert found.leaderboard()[0]["Method"] == "Cross Entropy"
    ids = found.ids()
    assert len(ids) == len(set(ids))
    assert {"figure-reliability", "figure-class-rank"} <= set(ids)


def test_no_row_is_on_the_front_where_nothing_can_be_compared(tmp_path, make_result):
    for method, seeds in (("ce", (0, 1)), ("ride", (2, 3)), ("sade", (4,))):
        for seed in seeds:
            Store(tmp_path).save(make_result(method, seed, top1=60.0 + seed))
    (board,) = leaderboards(collect([tmp_path]))
    plot = cost_plot(board, ["a", "b", "c"])
    assert [point.front for point in plot.points] == [False] * 3
    assert plot.front == ""


@pytest.mark.parametrize(("seconds", "top1"), [((14.0, 14.1), (98.45, 98.5)), ((29.0, 29.3), (98.0, 98.9))])
def test_ticks_of_the_plot_are_within_it_and_say_where_they_stand(tmp_path, make_result, seconds, top1):
    for method, time, accuracy in zip(("ce", "ride"), seconds, top1, strict=True):
        Store(tmp_path).save(make_result(method, top1=accuracy, cost={"training_seconds": time}))
    (board,) = leaderboards(collect([tmp_path]))
    plot = cost_plot(board, ["a", "b"])
    assert all(0 <= tick.place <= 100 for tick in [*plot.horizontal, *plot.vertical])
    low, high = top1
    for tick in plot.vertical:
        assert 8 + 84 * (float(tick.text) - low) / (high - low) == pytest.approx(tick.place)


def test_a_row_beyond_the_scale_says_on_which_side(tmp_path, make_result):
    for number, top1 in enumerate((60.0, 60.5, 61.0, 61.5, 90.0)):
        method = ("ce", "ride", "sade", "balpoe", "paco")[number]
        Store(tmp_path).save(make_result(method, top1=top1, cost={"training_seconds": 10.0 + number}))
    (board,) = leaderboards(collect([tmp_path]))
    beyond = {point.label: point.beyond for point in cost_plot(board, list("abcde")).points}
    assert beyond == {"PaCo": "above", "BalPoE": "", "SADE": "", "RIDE": "", "Cross Entropy": ""}


def test_predictions_that_contradict_the_classes_make_no_confusion_matrix(text, make_full_result):
    result = make_full_result(predicted=(0, 0, 1, 1, 2, 0))
    other = make_full_result(predicted=(0, 0, 1, 0, 2, 2))  # as many right, of other classes
    with pytest.warns(LtbenchWarning, match="contradict the figures of the classes .* has no interval"):
        made = text(result.model_copy(update={"outcomes": other.outcomes}))
    assert "No confusion matrix: the packed predictions (outcomes) contradict the figures of the classes" in made


def test_runs_in_tables_are_counted(text, make_result):
    made = text(make_result("ce"), make_result("ce", 1, status="failed", reason="the loss is nan"))
    assert "1 run in 1 table." in made


def test_shifted_sets_of_one_name_and_other_images_are_two_columns(read, make_full_result):
    more = shifted(unknown=70.0) | {"images": [999], "classes": [3]}
    found = read(make_full_result("ce", shift=shifted(unknown=80.0)), make_full_result("balpoe", shift=more))
    table = found.table("Accuracy in percent, prior unknown")
    assert sorted(table[0][1:]) == ["forward-50 7 images2 classes", "forward-50 999 images3 classes"]
    assert all(sorted(row[1:])[1] == "n/a" for row in table[1:])


def test_folders_of_a_user_have_tabs_and_tables_of_their_own(text, make_result):
    def of_folder(name, seed):
        result = make_result("ce", seed, data=name * 4, settings={"dataset": "folder-lt"})
        return result.model_copy(update={"data": result.data.model_copy(update={"folder": name})})

    made = text(of_folder("cats", 0), of_folder("dogs", 0), make_result("ce", settings={"dataset": "digits-lt"}))
    assert "tables, since results differ" not in made
    assert made.count('<section class="data-set"') == 3
    made = text(of_folder("digits-lt", 0))  # the name of a data set, which is read, too
    assert made.count('<section class="data-set"') == 4
