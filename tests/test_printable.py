"""Names from outside: what would act on a terminal, a spreadsheet or a document is written out or escaped."""

import io
import os

import pandas as pd
import pytest

from ltbench.files.spreadsheet import csv
from ltbench.printable import printable, printable_name
from ltbench.report.collection import collect
from ltbench.report.latex import escaped_latex, latex
from ltbench.report.left_out import left_out
from ltbench.report.markdown import markdown
from ltbench.report.table import Table
from ltbench.report.terminal import Terminal
from ltbench.results.store import Store

HOSTILE = "a\x1b[31m\x9b1m\u202eb\x00\r\nc"
SHOWN = r"a\x1b[31m\x9b1m\u202eb\x00\r\nc"


def test_what_acts_is_written_out_and_what_is_read_stays():
    assert printable_name(HOSTILE) == SHOWN
    assert printable("a\n\tb") == "a\n\tb"
    for kept in ("Müller", "字", "a b", "👩\u200d👩", "a\u00a0b"):
        assert printable_name(kept) == kept
    assert printable_name("\ud800\u2028\ufeff") == r"\ud800\u2028\ufeff"


def test_a_terminal_gets_styles_of_ours_only():
    file = io.StringIO()
    Terminal(file=file, force_terminal=True, color_system="standard", width=80).print("[bold]x[/bold] \x1b[31my\u202e")
    assert "\x1b[1mx\x1b[0m" in file.getvalue()
    assert "\x1b[31m" not in file.getvalue()
    assert r"\x1b[31my\u202e" in file.getvalue()


@pytest.mark.slow
def test_names_of_results_never_reach_the_terminal_as_they_are(cli, tmp_path, make_result):
    result = make_result(settings={"dataset": HOSTILE, "hyperparameters": {"[/]": "[/]", "x": HOSTILE}})
    path = tmp_path / "runs" / "x.json"
    path.parent.mkdir()
    path.write_text(result.model_dump_json())
    text = path.read_text()
    styles = [("report", "--format", style) for style in ("text", "md", "latex", "csv", "svg")]
    for call in (*styles, ("show", path), ("watch", "--once")):
        said = cli(*call)
        assert said.code == 0
        for act in ("\x1b", "\x9b", "\u202e", "\x00", "\r"):
            assert act not in said.out + said.err
    assert path.read_text() == text


def test_a_row_in_latex_is_one_line_with_nothing_to_carry_out():
    table = Table("50%_a", ["Method"], [["[x] $y$ \\input{z} a_b#&~^"], ["*b"]])
    *above, first, second, _, _, _ = latex([table]).splitlines()
    assert any(line.startswith(r"\caption{50\%\_a.}") for line in above)
    assert first == r" {}[x] \$y\$ \textbackslash{}input\{z\} a\_b\#\&\textasciitilde{}\textasciicircum{} \\"
    assert second == r" {}*b \\"


def test_a_name_in_markdown_is_no_tag_link_code_or_cell():
    shown = markdown([Table("T", ["Method"], [["<b>|`c` [x](y) ldam_drw _a_ $z$"]])])
    assert r"\<b\>\|\`c\` \[x\](y) ldam_drw \_a\_ \$z\$" in shown


def test_a_name_in_latex_is_one_line_and_no_command():
    bend = r"\textbackslash{}"
    assert escaped_latex("50%_&#{}$~^") == r"50\%\_\&\#\{\}\$\textasciitilde{}\textasciicircum{}"
    assert escaped_latex("\\input{x}\n\\end{document}\u2028") == (
        rf"{bend}input\{{x\}}{bend}n{bend}end\{{document\}}{bend}u2028"
    )


@pytest.mark.parametrize(
    ("text", "shown"), [("=1+1", "'=1+1"), ("+a", "'+a"), ("-b", "'-b"), ("@c", "'@c"), ("-1", "-1"), ("a=b", "a=b")]
)
def test_a_text_cell_of_csv_is_no_formula(text, shown):
    assert csv(pd.DataFrame({"name": [text], "value": [-1.5]})) == f"name,value\n{shown},-1.5\n"


def test_what_is_no_regular_file_is_named_and_links_are_followed_once(tmp_path, make_result):
    kept, folder = Store(tmp_path / "elsewhere").save(make_result()), tmp_path / "runs"
    folder.mkdir()
    os.mkfifo(folder / "pipe.json")
    (folder / "loop.json").symlink_to("loop.json")
    (folder / "folder.json").mkdir()
    (folder / "back").symlink_to(folder)
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    with (folder / "huge.json").open("wb") as stream:
        stream.truncate(65 * 2**20)
    stored = collect([folder])
    assert list(stored.results) == [kept.stem]
    messages = " ".join(one.message for one in left_out(stored))
    for name in ("pipe.json", "loop.json", "folder.json", "huge.json"):
        assert f"{folder / name}" in messages
    assert stored.files == 5


def test_a_folder_that_cannot_be_read_is_named(tmp_path, make_result, monkeypatch):
    Store(tmp_path).save(make_result())
    (tmp_path / "locked").mkdir()
    scan = os.scandir

    def refuse(path):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    stored = collect([tmp_path])
    assert len(stored.results) == 1
    (message,) = (one.message for one in left_out(stored))
    assert message.startswith("cannot read the folder: Permission denied")
    assert str(tmp_path / "locked") in message
