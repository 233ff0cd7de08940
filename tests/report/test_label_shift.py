"""Accuracy and calibration under label shift, aggregated over seeds."""

import json

import pytest

from ltbench.errors import LtbenchWarning
from ltbench.report.collection import LONG, Collection, collect
from ltbench.report.label_shift import shift_tables, short, under_shift
from ltbench.report.leaderboard import leaderboards
from ltbench.results.store import Store

SETS = {"forward-2": (30, 3), "uniform": (40, 3), "backward-50": (12, 2)}


def shift(top1, priors=("unknown", "known", "estimated")):
    """Figures that grow by one from prior to prior and by ten from set to set."""
    rows = [(name, prior, *SETS[name]) for name in SETS for prior in priors]
    figures = [top1 + 10 * list(SETS).index(name) + priors.index(prior) for name, prior, *_ in rows]
    names, known, images, classes = map(list, zip(*rows, strict=True))
    columns = {"distribution": names, "prior": known, "images": images, "classes": classes}
    columns |= {name: [None] * len(rows) for name in ("prior_error", "many", "medium", "few")}
    return columns | {"top1": figures, "ece": [figure / 10 for figure in figures]} | {
        name: [0.0] * len(rows) for name in ("macro", "mce", "nll")
    }  # fmt: skip


@pytest.fixture
def board(make_full_result, make_result):
    def make(*results):
        stored = Collection({result.run_id: result for result in results}, {r.run_id: "x.json" for r in results})
        (one,) = leaderboards(stored)
        return one, stored

    return make


def test_mean_and_deviation_over_seeds_of_every_set_and_prior(board, make_full_result, make_result):
    # top1 at forward-2, nothing known: 50 and 54, mean 52, sd sqrt(8); a tenth of it is the ECE
    one, stored = board(
        make_full_result("ce", 0, shift=shift(50.0)),
        make_full_result("ce", 1, shift=shift(54.0)),
        make_result("ride", 0),
    )
    first, *_ = under_shift(one, stored).to_dict("records")
    assert (first["label"], first["distribution"], first["prior"]) == ("Cross Entropy", "forward-2", "unknown")
    assert (first["images"], first["classes"]) == (30, 3)
    assert (first["top1"], first["top1_sd"], first["ece"]) == pytest.approx((52.0, 8**0.5, 5.2))
    tables = shift_tables(one, stored)
    assert [table.title.split(":")[0] for table in tables] == [
        f"{metric} under label shift, prior {prior}"
        for prior in ("unknown", "known", "estimated")
        for metric in ("Accuracy", "ECE")
    ]
    for table, plus in zip(tables[::2], (0, 1, 2), strict=True):
        assert table.header == ["Method", "F2", "Uniform", "B50"]
        rows = {row[0]: row[1:] for row in table.rows}
        assert rows["Cross Entropy"] == [f"{mean + plus}.0 ± 2.8" for mean in (52, 62, 72)]
        assert rows["RIDE †"] == ["n/a"] * 3
        assert "F2 30/3, Uniform 40/3, B50 12/2" in table.caption
    assert "floors are not known" in tables[1].caption  # results made by hand, with other images than they say
    assert tables[1].rows[[row[0] for row in tables[1].rows].index("Cross Entropy")][1:] == [
        "5.2 ± 0.3", "6.2 ± 0.3", "7.2 ± 0.3",
    ]  # fmt: skip
    assert "transductive" in tables[4].caption
    assert "transductive" not in tables[2].caption


def test_a_setting_counts_where_all_of_its_runs_have_figures(board, make_full_result):
    one, stored = board(make_full_result("ce", 0, shift=shift(50.0)), make_full_result("ce", 1))
    assert len(under_shift(one, stored)) == 0
    assert shift_tables(one, stored) == []


def test_priors_that_nobody_has_have_no_table(board, make_full_result):
    one, stored = board(make_full_result("ce", 0, shift=shift(50.0, ("unknown",))))
    assert [table.title.split(":")[0] for table in shift_tables(one, stored)] == [
        "Accuracy under label shift, prior unknown",
        "ECE under label shift, prior unknown",
    ]


def test_damaged_figures_are_named_and_the_row_stays(tmp_path, make_full_result):
    for method, top1 in (("ce", 50.0), ("ride", 60.0)):
        path = Store(tmp_path).save(make_full_result(method, 0, shift=shift(top1)))
        if method == "ce":
            tree = json.loads(path.read_text())
            tree["shift"]["ece"].pop()
            path.write_text(json.dumps(tree, indent=1))
    stored = collect([tmp_path], LONG)
    (one,) = leaderboards(stored)
    with pytest.warns(LtbenchWarning, match=r"shift of run \w+ is left out: .*\n  where: .*/ce/"):
        table, *_ = shift_tables(one, stored)
    assert {row[0]: row[1] for row in table.rows} == {"Cross Entropy": "n/a", "RIDE": "60.0"}
    assert collect([tmp_path]).problems[0].startswith("not a valid result: shift: the columns have different")


def test_damaged_predictions_are_named_where_floors_are_worked_out(board, make_full_result):
    result = make_full_result("ce", 0, shift=shift(50.0))
    outcomes = result.outcomes.model_copy(update={"confidence": "AAAA"})
    one, stored = board(result.model_copy(update={"outcomes": outcomes}))
    with pytest.warns(LtbenchWarning, match="damaged.*noise floors of its ECE under label shift are not known"):
        assert under_shift(one, stored)["ece_floor"].isna().all()


def test_short_names():
    assert list(map(short, ("forward-50", "uniform", "backward-2"))) == ["F50", "Uniform", "B2"]


def test_noise_floors_of_shifted_sets_are_stored_or_worked_out_from_the_images(board, make_full_result):
    # Two images of each class at .9: all six measure E|X - 5.4| / 6 of a binomial (6, .9): 2 (.1) 6 (.531441) / 6
    exact = 100 * 2 * 0.1 * 0.9**6
    columns = shift(50.0, priors=("unknown", "known"))
    columns["images"] = [
        6 if name == "uniform" else images
        for name, images in zip(columns["distribution"], columns["images"], strict=True)
    ]
    one, stored = board(make_full_result("ce", 0, shift=columns))
    found = under_shift(one, stored).set_index(["distribution", "prior"])["ece_floor"]
    assert found["uniform", "unknown"] == pytest.approx(exact, rel=1e-4)  # as confidences are packed
    assert found.isna().sum() == 5
    own = columns | {"ece_floor": [1.0, 2.0] * 3}
    one, stored = board(make_full_result("ce", 0, shift=own), make_full_result("ce", 1, shift=own))
    captions = [table.caption for table in shift_tables(one, stored)]
    words = "least and greatest of the rows: "
    assert captions[1].endswith(f"{words}F2 1.0 to 1.0, Uniform 1.0 to 1.0, B50 1.0 to 1.0.")
    assert captions[3].endswith(f"{words}F2 2.0 to 2.0, Uniform 2.0 to 2.0, B50 2.0 to 2.0.")
    assert "floor" not in captions[0]
