"""What papers report beside what is measured."""

import re

import pytest

from ltbench import registry
from ltbench.config import RunConfig
from ltbench.method.claims import fitting_claims, paper_record
from ltbench.method.paper import paper_of
from ltbench.report.collection import Collection
from ltbench.report.contents import contents
from ltbench.report.leaderboard import leaderboards
from ltbench.report.plain_text import text
from ltbench.report.published import reported_numbers
from ltbench.report.reported import HEADER, cells, notes, reported, same_data
from ltbench.results.records import ShiftTable
from ltbench.runs.resolve import resolve

SLIDES = "BalPoE repo assets/CVPR2023-short-presentation.pdf"


@pytest.fixture
def stored(make_result, tmp_path):
    """Results of a method on CIFAR-100-LT as they are stored, with the paper of the method."""

    def make(method, seed=0, *, config=None, shift=None, results=None, **figures):
        result = make_result(method, seed, **figures)
        settings = {"method": method, "dataset": "cifar100-lt", "seed": seed, **(config or {})}
        run = resolve(RunConfig(**settings)).config
        paper = paper_record(registry.method(method), run, "cifar")
        record = result.method.model_copy(update={"paper": paper})
        name = f"{method} {seed} {len((results or Collection()).results)}"
        done = result.model_copy(update={"run_id": name, "config": run, "method": record, "shift": shift})
        collection = results or Collection()
        collection.results[name], collection.paths[name] = done, tmp_path / f"{name}.json"
        return collection

    return make


def found(collection):
    return reported(leaderboards(collection), collection)


def test_reported_measured_and_gap_with_the_spread_of_the_source(stored):
    # Measured: (50.2 + 51.0) / 2 = 50.6; the slides' calibration table has 52.0 +- 0.5: 50.6 - 52.0 = -1.4.
    collection = stored("balpoe", 0, top1=50.2, ece=6.0)
    table = found(stored("balpoe", 1, top1=51.0, ece=7.0, results=collection))
    calibrated = table[table["published"] == "BalPoE (calibrated)"]
    (row,) = calibrated[calibrated["metric"] == "Acc"].to_dict("records")
    assert row["measured"] == pytest.approx(50.6)
    assert (row["reported"], row["reported_sd"], row["n"]) == (52.0, 0.5, 2)
    assert row["gap"] == pytest.approx(-1.4)
    assert row["source"].startswith(f"{SLIDES} calibration table")
    errors = calibrated[calibrated["metric"] == "ECE"]  # two sources: the table and one run's diagram
    assert errors["reported"].tolist() == [4.9, 4.1]
    assert errors["gap"].tolist() == pytest.approx([6.5 - 4.9, 6.5 - 4.1])


@pytest.mark.slow
def test_a_row_stands_beside_figures_of_its_own_settings_only(stored):
    def published(method, **config):
        return set(found(stored(method, config=config))["published"].str.split(",").str[0])

    assert published("balpoe", hyperparameters={"mixup": 0.0}) == {"BalPoE-ERM (no mixup)"}
    assert published("balpoe", hyperparameters={"experts": 5}) == {"BalPoE M=5"}
    assert "BalPoE" in published("balpoe")
    assert not published("balpoe") & {"BalPoE-ERM (no mixup)", "BalPoE M=5"}
    assert published("balpoe", hyperparameters={"mixup": 0.2}) == set()
    assert published("sade", hyperparameters={"mixup": 0.4}) == set()
    assert published("ce") == {"CE", "Softmax", "ERM"}
    assert published("ce", hyperparameters={"mixup": 1.0}) == {
        "Mixup (CE)", "CE+mixup", "MiSLAS stage 1 (CE+mixup)",
    }  # fmt: skip
    assert published("ce", hyperparameters={"mixup": 0.4}) == {"Mixup (CE)", "CE+mixup"}
    assert published("ce", hyperparameters={"cutmix": 1.0}) == set()
    assert published("ride", hyperparameters={"experts": 4, "distill": True}) == {"RIDE 4 experts + distill"}


def test_a_hyper_parameter_that_tells_no_figures_apart_is_a_difference(stored):
    table = found(stored("sade", config={"hyperparameters": {"width": 1.0}}))
    assert table["differs"].str.contains("width 1 (reported: 0.75)", regex=False).all()
    assert not found(stored("sade"))["differs"].str.contains("width").any()
    mixed = found(stored("ce", config={"hyperparameters": {"mixup": 0.4}}))
    assert mixed["differs"].str.contains("mixup 0.4 (reported: not stated)", regex=False).all()


def test_other_data_and_ratios_have_their_own_figures(stored):
    at_ten = found(stored("balpoe", config={"imbalance_ratio": 10}))
    assert sorted(at_ten["reported"]) == [66.3, 68.1]
    assert not len(found(stored("balpoe", config={"imbalance_ratio": 20})))
    run = stored("ce", config={"dataset": "digits-lt"}).results["ce 0 0"]
    assert not same_data("CE|CIFAR-100-LT|100|ResNet-32|200", run)
    assert not len(found(stored("ce", config={"dataset": "digits-lt"})))


def test_shifted_test_sets_with_and_without_their_prior(stored):
    shift = ShiftTable(
        distribution=["forward-50", "forward-50", "backward-5"], prior=["unknown", "known", "unknown"],
        prior_error=[None] * 3, images=[10] * 3, classes=[2] * 3, top1=[60.0, 70.0, 45.0], macro=[0.0] * 3,
        many=[None] * 3, medium=[None] * 3, few=[None] * 3, ece=[0.0] * 3, mce=[0.0] * 3, nll=[0.0] * 3,
    )  # fmt: skip
    table = found(stored("balpoe", shift=shift))
    shown = {
        (row["published"].split(",")[0], row["metric"]): (row["reported"], row["measured"])
        for row in table.to_dict("records")
        if "ward" in row["metric"] and "seeds" not in row["published"]
    }
    assert shown == {
        ("BalPoE", "Acc, forward-50"): (65.1, 60.0),
        ("BalPoE", "Acc, backward-5"): (44.6, 45.0),
        ("BalPoE+prior", "Acc, forward-50, prior known"): (70.3, 70.0),
    }
    both = stored("balpoe", 1, results=stored("balpoe", shift=shift))  # one run of two has no shifted sets
    assert not found(both)["metric"].str.contains("ward").any()


@pytest.mark.parametrize(
    ("epochs", "shown", "gap"),
    [(10, "10 / 400", "–"), (359, "359 / 400", "–"), (360, "360 / 400", "+8.0"), (400, "400 / 400", "+8.0")],
)
def test_there_is_no_gap_where_lengths_differ_by_more_than_a_tenth(stored, epochs, shown, gap):
    # PaCo reports 52.0 after 400 epochs; 360 are nine tenths of that.
    table = found(stored("paco", config={"epochs": epochs}, top1=60.0))
    (row,) = (dict(zip(HEADER, cell, strict=True)) for cell in cells(table))
    assert (row["Epochs"], row["Reported"], row["Gap"]) == (shown, "52.0", gap)


@pytest.mark.parametrize(
    ("stated", "shown"),
    [
        ("200", "200"), ("standard (200)", "200"), ("long (400)", "400"), ("200+10", "200+10"),
        ("90(+10 cRT/+5 LWS)", "90"), ("not stated (inferred 200)", "200?"),
        ("200 (as in BCL paper; not stated on slide)", "200?"), ("not stated", "?"), ("13000 iters", "?"),
    ],
)  # fmt: skip
def test_the_length_that_a_source_states_in_a_few_characters(stored, monkeypatch, stated, shown):
    figures = reported_numbers("PaCo|CIFAR-100-LT|100|ResNet-32|400").assign(epochs=stated)
    monkeypatch.setattr("ltbench.report.reported.reported_numbers", lambda key: figures)
    (row,) = (dict(zip(HEADER, cell, strict=True)) for cell in cells(found(stored("paco", config={"epochs": 10}))))
    assert row["Epochs"] == f"10 / {shown}"


def test_a_terminal_shows_all_numbers_and_folds_words(stored):
    collection = stored("balpoe", config={"hyperparameters": {"mixup": 0.0, "taus": [0, 1, 2]}}, top1=50.2, ece=4.0)
    for width, left_out in ((60, "Epochs, Note, Gap"), (80, None), (120, None)):
        shown = text(contents(leaderboards(collection), collection, ["reported"]), width)
        lines = shown.splitlines()
        assert max(map(len, lines)) <= width
        assert any(line.split()[-3:] == ["n", "=", "1"] for line in lines)
        cells = next(line.split("49.2 ± 0.5")[1].split() for line in lines if "49.2 ± 0.5" in line)
        assert cells == (["50.2"] if width == 60 else ["50.2", "+1.0", "1"])
        missing = re.search(r"Left out to fit the width: (.*?)\.", " ".join(shown.split()))
        assert (missing and missing[1]) == left_out


def test_there_is_no_gap_to_another_backbone(stored):
    table = found(stored("paco", config={"epochs": 400, "backbone": "cifar_resnet20"}, top1=60.0))
    (row,) = (dict(zip(HEADER, cell, strict=True)) for cell in cells(table))
    assert row["Published as"] == "PaCo, ResNet-32"
    assert (row["Reported"], row["Measured"], row["Gap"]) == ("52.0", "60.0", "–")


def test_linear_probing_stands_beside_nothing_published(stored):
    probing, whole = stored("paco"), stored("paco")
    ((name, result),) = probing.results.items()
    weights = {"weights": f"sha256:{'0' * 64}"}
    probing.results[name] = result.model_copy(update={"config": result.config.replace(train="head", **weights)})
    assert not len(found(probing))
    whole.results[name] = result.model_copy(update={"config": result.config.replace(**weights)})
    differs = found(whole)["differs"]
    assert differs.str.contains("starts from pre-trained weights (reported: not stated)", regex=False).all()


@pytest.mark.parametrize("setting", [{"imbalance": "step"}, {"class_order": "drawn"}])
def test_what_is_published_is_about_counts_that_fall_by_label(stored, setting):
    assert len(found(stored("paco", results=stored("paco", 1)))) > 0
    assert len(found(stored("paco", config=setting))) == 0


def test_what_differs_in_words(stored):
    # PaCo's own recipe: learning rate 0.05, no Nesterov momentum, linear head, AutoAugment and Cutout, no rotation.
    (row,) = found(stored("paco", config={"epochs": 10, "data_seed": 3, "precision": "bf16"})).to_dict("records")
    assert row["differs"].split("; ") == [
        "epochs 10 (reported: 400)",
        "other settings than in the authors' own recipe of 400 epochs: lr 0.1 (0.05), nesterov true (false), "
        "head cosine (linear), augment rotation 15 (0), augment policy none (cifar10), augment cutout 0 (0.5)",
        "ours is the last epoch (authors: best epoch on the test set)",
        "other images (data seed 3)",
        "precision bf16 (reported: not stated)",
    ]
    differs = found(stored("balpoe", config={"backbone": "cifar_resnet20"}))["differs"]
    assert differs.str.contains("backbone cifar_resnet20 (reported: ResNet-32)", regex=False).all()
    standard = found(stored("balpoe")).set_index("published")["differs"]
    assert set(standard["BalPoE (calibrated)"]) == {
        "images by the rule of Cao et al., the same ones only if read from the official archive"
    }
    assert standard["BalPoE"].str.startswith("epochs 200 (reported: not stated (inferred 200))").sum() == 1
    assert "drawn as by Cui et al." in found(stored("ncl"))["differs"].iloc[0]
    assert "the authors' draw of images is not stated" in found(stored("ce"))["differs"].iloc[0]


def test_results_without_a_paper_have_nothing_beside_them(make_result, tmp_path):
    plain = make_result("ce")
    table = found(Collection({"x": plain.model_copy(update={"run_id": "x"})}, {"x": tmp_path / "x.json"}))
    assert not len(table)
    assert cells(table) == notes(table) == []


def test_figures_as_text_with_numbered_notes(stored):
    table = found(stored("balpoe", top1=50.2, ece=4.0))
    rows = [dict(zip(HEADER, row, strict=True)) for row in cells(table)]
    assert len(rows) == len(table) > 10
    shown = next(row for row in rows if row["Reported"] == "52.0 ± 0.5")
    assert (shown["Metric"], shown["Measured"], shown["Gap"]) == ("Acc", "50.2", "−1.8")
    note = notes(table)[int(shown["Note"]) - 1]
    assert note.startswith(f"{shown['Note']}. {SLIDES} calibration table")
    assert note.endswith("the same ones only if read from the official archive.")
    assert {int(row["Note"]) for row in rows} == set(range(1, len(notes(table)) + 1))


def test_where_the_source_itself_is_in_doubt_that_is_said(stored):
    columns = {name: [50.0] for name in ("top1", "macro", "many", "medium", "few", "ece", "mce", "nll")}
    columns |= {"distribution": ["forward-5"], "prior": ["unknown"], "prior_error": [None]}
    shift = ShiftTable(images=[10], classes=[2], **columns)
    table = found(stored("balpoe", shift=shift))
    doubtful = table[table["differs"].str.contains("likely that of ratio 2")]
    assert doubtful[["metric", "reported"]].values.tolist() == [["Acc, forward-5", 54.8]]


@pytest.mark.slow
@pytest.mark.parametrize("name", registry.method_names())
def test_claims_are_in_the_table_and_their_settings_are_the_methods(name):
    cls = registry.method(name)
    keys = [claim.key for claim in paper_of(cls).claims]
    assert len(keys) == len(set(keys))
    assert all(len(reported_numbers(key)) for key in keys)
    for dataset in ("cifar100-lt", "imagenet-lt", "inaturalist2018"):  # of which some methods have defaults
        fitting_claims(
            cls, resolve(RunConfig(method=name, dataset=dataset)).config
        )  # refuses settings it does not know


def test_claims_of_balpoe_on_imagenet_are_those_of_its_own_taus():
    found = fitting_claims(registry.method("balpoe"), resolve(RunConfig(method="balpoe", dataset="imagenet-lt")).config)
    assert any(key.startswith("BalPoE|ImageNet-LT|") for key in found)


def test_what_the_authors_did_otherwise_is_said_beside_their_figures():
    key = "LADE|CIFAR-100-LT|100|ResNet-32|standard (200)"
    run = resolve(RunConfig(method="lade", dataset="cifar100-lt", hyperparameters={"alpha": 0.2})).config
    words = fitting_claims(registry.method("lade"), run)[key]
    assert words[0] == "alpha 0.2 (reported: 0.1)"
    assert any("128 features" in one for one in words)
    assert any("warm-up" in one for one in words)
