"""What a reader sees: in a terminal of any width, in a pipe, in Markdown and LaTeX."""

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.measure import Measurement

from ltbench.report import plain_text
from ltbench.report.latex import latex
from ltbench.report.markdown import markdown
from ltbench.report.plain_text import needed_width, text
from ltbench.report.table import Bold, Notes, Table
from ltbench.results.store import Store

WIDE = Table(
    "A table",
    ["Method", "n", "Acc", "Few", "Train"],
    [
        ["a_method_with_a_long_name, mixup=0.4", "5", Bold("98.5 ± 0.5"), "≈ 97.0 ± 1.5", "10 s"],
        ["b", "5", "90.0 ± 0.5", "80.0 ± 1.5", "20 min"],
    ],
    "About it.",
    expendable=["Train", "Few"],
)


def test_all_columns_are_there_where_nothing_limits_the_width():
    shown = text([WIDE])
    assert needed_width([WIDE]) == 81
    for word in (*WIDE.header, *WIDE.rows[0], "About it."):
        assert word in shown
    assert "* 98.5 ± 0.5" in shown
    assert "\x1b" not in shown
    assert "Left out" not in shown


LABELS = st.sampled_from(["b", "a long label of a row, mixup=0.4", "字字", "x" * 60])
CELLS = st.sampled_from(["5", "98.5 ± 0.5", Bold("98.5 ± 0.5"), "", "≈ 1", "字"])


@given(st.lists(st.lists(CELLS, min_size=3, max_size=3), min_size=1, max_size=4), LABELS, st.sampled_from([(), ["+2"]]))
def test_the_needed_width_is_that_of_the_widest_line(figures, label, further):
    rows = [[label, *row] for row in figures]
    table = Table("A table", ["Method", "n", "Acc", "Med"], rows, further=further and further * len(rows))
    console = Console(file=io.StringIO(), width=10_000)
    assert needed_width([table]) == max(
        80, Measurement.get(console, console.options, plain_text._rich(table, None)).maximum
    )


def test_a_narrow_terminal_gets_fewer_columns_and_is_told():
    shown = text([WIDE], 65)
    assert "97.0 ± 1.5" in shown
    assert "Left out to fit the width: Train." in shown
    shown = text([WIDE], 50)
    assert "98.5 ± 0.5" in shown
    assert "97.0" not in shown
    assert "Left out to fit the width: Train, Few." in " ".join(shown.split())


@pytest.mark.slow
@given(st.integers(50, 200))
def test_no_line_is_wider_than_the_terminal_and_no_figure_is_cut(width):
    shown = text(
        [WIDE, "A paragraph that says a good deal about the table, at some length, and then some more."], width
    )
    assert max(map(len, shown.splitlines())) <= width
    assert "98.5 ± 0.5" in shown
    assert "…" not in shown
    assert "mixup=0.4" in shown


def test_a_terminal_with_colours_gets_bold():
    shown = text([WIDE], 100, coloured=True)
    assert re.search(r"\x1b\[1m98\.5 ± 0\.5", shown)
    assert "* 98.5" not in shown


def test_markdown_and_latex_keep_their_own_signs():
    table = Table("T", ["Method", "Acc [95 %]"], [["a|b_c", Bold("≈ 1 ± 2")]], "Caption.", level=2)
    rows = "| Method   |   Acc [95 %] |\n|:---------|-------------:|\n| a\\|b_c   |  **≈~1~±~2** |"
    rows = rows.replace("~", "\N{NO-BREAK SPACE}")  # a number never breaks
    assert markdown([table, "Words."]) == f"#### T\n\n{rows}\n\nCaption.\n\nWords.\n"
    shown = latex([table, "Words."])
    assert r"a|b\_c" in shown
    assert r"Acc [95 \%]" in shown
    assert r"\textbf{$\approx$ 1 $\pm$ 2}" in shown
    assert "% Words.\n" in shown
    assert r"\caption{T. Caption.}" in shown


@pytest.fixture
def reported(cli, tmp_path, make_result, monkeypatch):
    """Call ltbench report on a few results."""
    monkeypatch.delenv("COLUMNS", raising=False)
    for seed, top1 in enumerate((60.0, 61.0, 63.0)):
        Store(tmp_path / "runs").save(make_result("balpoe", seed, top1=top1))
        Store(tmp_path / "runs").save(make_result("ce", seed, top1=top1 - 20 - seed / 10))
    return lambda *words: cli("report", *words)


def test_text_is_what_the_command_prints(reported, monkeypatch):
    plain = reported("--explain")
    assert plain.code == 0
    assert "MAdds (M)" in plain.out
    assert "* 61.3 ± 1.5" in plain.out  # told apart: 20, 20.1, 20.2
    assert "Differences: digits-lt" in plain.out
    *_, differences, advice, _, _, counted = plain.out.rstrip().split("\n\n")
    assert "Behind" in differences
    assert advice.startswith("Take BalPoE")
    assert counted == "6 result files; left out: none."
    assert "\x1b" not in plain.out
    assert plain.err == ""
    monkeypatch.setenv("COLUMNS", "60")
    narrow = reported()
    assert max(map(len, narrow.out.splitlines())) <= 60
    assert "MAdds (M), " in narrow.out


def test_parts_and_a_title(reported):
    shown = reported("--format", "md", "--parts", "differences", "--title", "My results")
    assert shown.out.startswith(
        "# My results\n\nMade by `ltbench report --format md --parts differences --title 'My results'`.\n\n#### Diff"
    )
    rows = [re.split(r" *\| *", line.strip("| ")) for line in shown.out.splitlines() if line.startswith("| ")]
    assert rows == [
        ["Method", "n", "Acc [95 %]", "ECE debiased [95 %]", "Behind", "p (adj.)", "Mean rank", "Wins %"],
        ["BalPoE", "3", "61.3 [n/a]", "50.0 [49.9, 50.1]", "best", "", "1.0", "100"],
        ["Cross Entropy", "3", "41.2 [n/a]", "50.0 [49.9, 50.1]", "20.1", "<.001", "2.0", "0"],
    ]
    refused = reported("--parts", "diferences")
    assert refused.code == 2
    assert "did you mean differences" in refused.err


def test_the_answer_is_first_and_the_rest_is_folded(reported):
    plain = reported()
    title, warning, *_ = plain.out.splitlines()
    assert title == "digits-lt · IR 20 · ResNet-20 · standard recipe, 200 of 60 epochs · fp32"
    assert warning.startswith("Warning: not as the recipe has it: 200 of 60 epochs")
    assert "BalPoE wins with 61.3 %, significantly better than the other (5 % level)." in plain.out
    assert "Differences:" not in plain.out
    assert plain.out.rstrip().endswith(
        "More: --explain adds the paired tests, what follows for a choice, and what the columns mean."
    )
    page = reported("--format", "md").out
    assert page.count("<details>") == page.count("</details>") == 3
    assert page.index("BalPoE wins") < page.index("| Method") < page.index("<details>")


def test_filters_by_data_set_backbone_and_epochs(reported, tmp_path, make_result):
    other = make_result("sade", settings={"dataset": "cifar10-lt", "backbone": "cifar_resnet32"}, recipe={"epochs": 7})
    Store(tmp_path / "runs").save(other)

    everything = {"BalPoE", "Cross Entropy", "SADE"}
    assert {one for one in everything if one in reported("--format", "csv").out} == everything
    for words in (("--dataset", "cifar10-lt"), ("--backbone", "ResNet-32"), ("--backbone", "cifar_resnet32")):
        out = reported("--format", "csv", *words).out
        assert "SADE" in out
        assert "BalPoE" not in out
    assert "SADE" not in reported("--format", "csv", "--epochs", "200").out
    assert "BalPoE" not in reported("--format", "csv", "--epochs", "7").out
    refused = reported("--dataset", "cifar10lt")
    assert refused.code == 2
    assert "did you mean cifar10-lt" in refused.err
    assert reported("--epochs", "8").code == 2


def test_a_method_is_found_by_the_name_that_papers_have_for_it(reported):
    for name in ("BalPoE", "balpoe", "BALPOE"):
        out = reported("--format", "csv", "--method", name).out
        assert "BalPoE" in out
        assert "Cross Entropy" not in out


@pytest.mark.parametrize("style", ["json", "csv", "latex", "svg"])
def test_what_is_counted_is_said_beside_other_formats(reported, style):
    shown = reported("--format", style)
    assert shown.code == 0
    assert "6 result files; left out: none." in shown.err


def test_latex_says_which_columns_it_leaves_out(reported):
    shown = reported("--format", "latex").out
    (line,) = (one for one in shown.splitlines() if one.startswith("% Left out to fit the page: "))
    header = next(one for one in shown.splitlines() if one.startswith(" Method & "))
    for name in line.removeprefix("% Left out to fit the page: ").partition(";")[0].split(", "):
        assert f"& {name} " not in header


def test_a_long_table_in_latex_is_parted_into_floats_of_one_number():
    rows = [[f"method {row}", str(row)] for row in range(100)]
    heads = {0, 20, 33, 99}
    table = Table("Long", ["Method", "Acc"], rows, subordinate=frozenset(range(100)) - heads, rule=70)
    floats = latex([table]).split(r"\begin{table*}")[1:]
    shown = [re.findall(r"method (\d+) &", one) for one in floats]
    # The last place of the first page would hold the head of row 34; the third page repeats the head of its first row.
    assert [list(map(int, page)) for page in shown] == [
        list(range(33)),
        list(range(33, 67)),
        [33, *range(67, 100)],
    ]
    assert [one.count(r"\midrule") for one in floats] == [1, 1, 2]
    assert floats[2].index("method 69") < floats[2].rindex(r"\midrule") < floats[2].index("method 70")
    assert [r"\addtocounter{table}{-1}" in one for one in floats] == [False, True, True]
    assert [r"\caption{Long (continued).}" in one for one in floats] == [False, True, True]
    assert "".join(floats).count(r"\label") == 1


def test_numbered_notes_are_printed_in_latex_below_the_table_that_refers_to_them():
    tables = [Table("One", ["Method", "Note"], [["a", "1"]]), Table("Two", ["Method", "Note"], [["b", "1"]])]
    shown = latex([tables[0], Notes("1. Source_a.\n2. 50 %."), tables[1], Notes("1. Other.")])
    printed = [line for line in shown.splitlines() if not line.startswith("%")]
    for line in (r"Notes to Table~\ref{tab:one}.", r"1. Source\_a.", r"2. 50 \%.", r"Notes to Table~\ref{tab:two}."):
        assert line in printed


def test_names_in_paragraphs_of_markdown_are_text():
    assert markdown(["Take A*B <img src=x> [x](http://e)."]) == "Take A\\*B \\<img src=x> [x\\](http://e).\n"


@pytest.mark.parametrize(
    "words",
    [
        ("--format", "html", "--columns", "acc"),
        ("--format", "html", "--explain"),
        ("--format", "csv", "--parts", "all"),
        ("--format", "latex", "--title", "Mine"),
        ("--figures", "all", "--sort", "acc"),
        ("--figures", "all", "--format", "html"),
        ("--diff", "a b", "--method", "ce"),
    ],
    ids=" ".join,
)
def test_an_option_that_would_change_nothing_is_refused(reported, words):
    refused = reported(*(part for word in words for part in word.split()))
    what = " ".join(words[:2]) if words[0] == "--format" else words[0]
    assert refused.code == 2
    assert f"{words[2]} changes nothing with {what}\n" in refused.err
    assert f"leave out {words[2]} or {what}" in refused.err


def test_settings_of_a_method_that_is_not_stored_are_refused(reported):
    assert reported("--settings", "ce").code == 0
    refused = reported("--settings", "cee")
    assert refused.code == 2
    assert "unknown method 'cee'" in refused.err
