"""Names, files and the command."""

import base64
import math
import re
from io import BytesIO
from xml.etree import ElementTree

import pytest
from fontTools import ttLib
from matplotlib import rcParams
from matplotlib.figure import Figure

from ltbench.errors import LtbenchError, LtbenchWarning
from ltbench.report.figures import FIGURES, POSTER, draw, parse_names
from ltbench.report.figures.style import broken, error_bars, pdf, png, svg, title, with_font
from ltbench.results.records import CurvePoint
from ltbench.results.store import Store


def test_names():
    assert parse_names("all") == list(FIGURES)
    assert parse_names("poster") == list(POSTER)
    assert parse_names("cost, poster,cost") == ["cost", *POSTER]
    with pytest.raises(LtbenchError, match="unknown figure 'reliabilty'") as caught:
        parse_names("reliabilty")
    assert "did you mean reliability?" in str(caught.value)


@pytest.mark.slow
def test_a_figure_is_the_same_bytes_each_time_whatever_the_users_style(run, material):
    made = material(run())
    first = [save(draw("reliability", made)) for save in (svg, png, pdf)]
    before = rcParams["font.size"]
    rcParams["font.size"] = 31
    try:
        assert [save(draw("reliability", made)) for save in (svg, png, pdf)] == first
        assert rcParams["font.size"] == 31
    finally:
        rcParams["font.size"] = before
    assert first[0].startswith(b"<?xml")
    assert first[1].startswith(b"\x89PNG")
    assert first[2].startswith(b"%PDF")


def test_every_figure_says_what_it_is_of(run, material):
    curve = [CurvePoint(stage="one", epoch=0, lr=0.1, loss=1.0)]
    runs = [run(name, seed, curve=curve, top1=top1, cost={"training_seconds": 9.0})
            for name, top1 in (("a", 90.0), ("b", 80.0), ("c", 70.0)) for seed in (0, 1)]  # fmt: skip
    made = material(*runs)
    for name in ("reliability", "class-rank", "cost", "training", "critical-difference"):
        figure = draw(name, made)
        told = figure.legends[0].get_title().get_text() if figure.legends else figure.get_suptitle()
        assert told.startswith("digits-lt · IR 20 · ResNet-20 · standard recipe, "), name
        assert "n = 2 seeds" in told, name


@pytest.mark.slow
def test_letters_that_the_font_lacks_are_named_once():
    figure = Figure()
    figure.text(0.5, 0.5, "字é字")
    with pytest.warns() as said:
        assert png(figure).startswith(b"\x89PNG")
    assert [(one.category, str(one.message)) for one in said] == [
        (LtbenchWarning, "the font of figures lacks 字, in whose place it has boxes")
    ]


@pytest.mark.slow
def test_text_is_text_with_its_font(run, material):
    figure = draw("reliability", material(run("a")))
    assert b"/FontFile2" in pdf(figure)  # TrueType, embedded
    assert b"/Type3" not in pdf(figure)
    made = with_font(svg(figure))
    root = ElementTree.fromstring(made)
    words = {"".join(element.itertext()) for element in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"accuracy (%)", "images (%)", "100"} <= words
    (data,) = re.findall(rb"src: url\(data:font/ttf;base64,([^)]*)\)", made)
    font = ttLib.TTFont(BytesIO(base64.b64decode(data)))
    assert {ord(letter) for word in words for letter in word} - {10, 32} <= font.getBestCmap().keys()
    assert len(data) < 40_000


def test_bars_end_where_no_value_can_be():
    axes = Figure().subplots()
    _, _, (bars,) = error_bars(axes, [0, 1, 2, 3], [50, 99, 1, 60], [10, 5, 3, math.nan]).lines
    ends = [segment[:, 1].tolist() for segment in bars.get_segments() if len(segment)]
    assert ends == [[40, 60], [94, 100], [0, 4]]


def test_a_title_breaks_between_its_parts():
    figure = Figure(figsize=(2, 2))
    title(figure, "one data set · a recipe of 60 epochs · n = 5 seeds")
    assert figure.get_suptitle() == "one data set · a recipe of 60 epochs\nn = 5 seeds"


def test_labels_break_after_commas_and_underscores():
    assert broken("logit_adjustment_posthoc, mixup=0.4", 20) == "logit_adjustment_\nposthoc, mixup=0.4"
    assert broken("my__method", 20) == "my__method"
    assert broken("__a__, b", 20) == "__a__, b"
    assert broken("ce", 20) == "ce"
    assert broken("a, b", 1) == "a,\nb"


@pytest.mark.slow
def test_the_command_writes_three_formats_and_says_what_it_leaves_out(cli, tmp_path, run):
    for seed in (0, 1):
        Store(tmp_path / "one").save(run("ce", seed))
    Store(tmp_path / "two").save(run("focal"))
    done = cli("report", "--results", "one", "--results", "two", "--figures", "poster")
    assert done.code == 0
    written = [f"figures/{name}.{kind}" for name in ("reliability", "class-rank") for kind in ("pdf", "svg", "png")]
    assert done.out.splitlines() == written
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == sorted(
        path.removeprefix("figures/") for path in written
    )
    for name in ("experts", "mixup", "prior"):
        assert f"figure {name}: no " in done.err
    assert "Traceback" not in done.err

    again = cli("report", "--results", "one", "--figures", "class-rank", "--method", "ce", "--output", "elsewhere")
    assert again.out.split() == [f"elsewhere/class-rank.{kind}" for kind in ("pdf", "svg", "png")]
    assert b"focal" not in (tmp_path / "elsewhere" / "class-rank.svg").read_bytes()


@pytest.mark.slow
def test_figures_are_of_the_largest_table(cli, tmp_path, run):
    for name in ("ce", "focal"):
        Store(tmp_path / "runs").save(run(name))
    Store(tmp_path / "runs").save(run("tta", transductive=True))
    done = cli("report", "--figures", "reliability")
    assert done.code == 0
    assert "of 2 tables, the figures are of the largest: digits-lt · IR 20 · ResNet-20 · standard recipe" in done.err


@pytest.mark.slow
def test_the_search_in_a_tune_folder_is_drawn_without_a_finished_run(cli, tmp_path):
    assert cli("tune", "--method", "ce", "--trials", 2, "--epochs", 1, "--device", "cpu").code == 0
    done = cli("report", "--results", "tune/digits-lt-ce", "--figures", "tuning,cost")
    assert (done.code, done.out.split()) == (0, [f"figures/tuning.{kind}" for kind in ("pdf", "svg", "png")])
    assert "figure cost: no finished run is stored" in done.err


def test_nothing_to_draw(cli, tmp_path, run):
    Store(tmp_path / "runs").save(run())
    done = cli("report", "--figures", "shift")
    assert (done.code, done.out) == (1, "")
    assert "figure shift: the stored runs have no figures under label shift" in done.err
    assert not (tmp_path / "figures").exists()
    wrong = cli("report", "--figures", "shif")
    assert wrong.code == 2
    assert "did you mean shift?" in wrong.err
