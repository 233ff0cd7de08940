"""What a table is said to recommend."""

import math
import re
from dataclasses import fields

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltbench.report.advice import advise
from ltbench.report.answer import remedies
from ltbench.report.collection import collect
from ltbench.report.how_trained import HowTrained
from ltbench.report.leaderboard import Leaderboard, leaderboards
from ltbench.results.records import BinTable, FittedFor
from ltbench.results.store import Store

NAN = float("nan")


def row(label="a", **values):
    usual = {
        "n": 5, "top1": 60.0, "top1_low": 59.0, "top1_high": 61.0, "macro": 50.0, "many": 80.0, "few": 30.0, "ece": 2.0,
        "training_seconds": 100.0, "multiply_adds": 1e6, "p": NAN, "significantly_worse": False,
        "behind": 1.0, "behind_n": 5, "lacks_seeds": "",
    }  # fmt: skip
    return {"label": label, "setting": label, "run_ids": [], **usual, **values}


def said(*rows, **options):
    """The advice about a table of these rows."""
    return advise(table(*rows, **options))


def lacking(*rows):
    """What a table of these rows lacks."""
    return [one.sentence for one in remedies(table(*rows))]


def table(*rows, metric="top1", validation=False, best=None):
    """A table whose first row leads.

    Args:
        rows: as ``row`` makes them; behind is the difference to the first row.
        best: metric -> the setting that is best in it.
    """
    rows = [{**one, "behind": rows[0][metric] - one[metric]} if one["behind"] == 1 else one for one in rows]
    shown = {
        "title": "a table", "key": {"validation": validation}, "metric": metric, "rows": pd.DataFrame(rows),
        "leads": True, "reference": rows[0]["setting"], "best": best or {}, "seeds": (0, 1, 2, 3, 4),
        "trained": HowTrained("a table", "", None),
    }  # fmt: skip
    unseen: dict = {field.name: None for field in fields(Leaderboard)}
    return Leaderboard(**{**unseen, **shown})


def test_a_row_is_not_the_cheapest_for_want_of_others_on_its_hardware():
    best = row("a", top1=62.0, training_seconds=300.0, hardware="two threads")
    other = row("b", training_seconds=100.0, hardware="one thread")
    text = said(best, other)
    assert "No other row was trained on its hardware, so that training times cannot be compared." in text
    assert "cheapest" not in text
    assert "Over b, the cheapest row to train" in said({**best, "hardware": "one thread"}, other)
    assert "What training the other rows costs is not known." in said(best, {**other, "training_seconds": NAN})


def test_a_difference_that_holds_is_a_recommendation_with_its_gain_and_price():
    # 62.0 - 60.5 = 1.5 over the next; over the cheapest, b: 62.0 - 58.0 = 4.0, at 300 / 100 and 2.4 / 1.2 of its cost.
    text = said(
        row("c, mixup=0.4", top1=62.0, top1_low=61.2, top1_high=62.9, training_seconds=300.0, multiply_adds=2.4e6),
        row("a", top1=60.5, p=0.01, significantly_worse=True, training_seconds=150.0),
        row("b", top1=58.0, p=0.002, significantly_worse=True, multiply_adds=1.2e6),
    )
    assert text == (
        "Take c (mixup=0.4), as far as accuracy decides. c (mixup=0.4) reaches 62.0 % accuracy (mean of 5 seeds, 95 % "
        "interval 61.2 to 62.9), 1.5 points more than a, the next. Paired tests over seeds find it significantly "
        "better than all 2 other rows (5 % level, adjusted for their number and for the choice of the best). Over b, "
        "the cheapest row to train, it gains 4.0 points, which holds, and takes 3.0 times its training time and 2.0 "
        "times its multiply-adds an image. The ECE of c (mixup=0.4) is 2.0 %: its confidence is near its accuracy on "
        "average. On few-shot classes it has 30.0 %, on many-shot classes 80.0 %."
    )


def test_where_the_difference_may_be_chance_a_cheaper_row_is_named():
    text = said(
        row("a", top1=62.0, training_seconds=300.0),
        row("b", top1=61.8, p=0.6, training_seconds=200.0),
        row("c", top1=61.5, p=0.4, training_seconds=90.0),
        row("d", top1=61.0, p=0.2, training_seconds=80.0),
        row("e", top1=40.0, p=0.001, significantly_worse=True, training_seconds=70.0),
    )
    assert text.startswith(
        "Accuracy alone does not decide: a is first, but not significantly better than every other row."
    )
    assert "significantly better than 1 of 4 other rows (5 % level, adjusted" in text
    assert "the choice of the best); no significant lead over b, c and d." in text
    assert "Where cost counts: c took 0.30 times its training time and is 0.5 points behind." in text
    assert "Take " not in text


def test_one_run_each_tells_nothing_yet():
    rows = row("a", n=1, top1=62.0, top1_low=NAN), row("b", n=1, top1=50.0)
    text = said(*rows)
    assert text.startswith("Nothing can be recommended yet: no two rows have been tested against each other")
    assert "62.0 % accuracy (one run), 12.0 points more than b" in text
    assert "it gains 12.0 points, which is not tested" in text or "It is itself the cheapest row to train." in text
    assert lacking(*rows) == ["All rows have fewer than 3 seeds, too few for a test of every row."]


def test_the_only_row_is_compared_with_nothing():
    text = said(row("a", n=2))
    assert text.startswith("a is the only row of this table, so there is nothing to compare it with.")
    assert lacking(row("a", n=2)) == ["a has fewer than 3 seeds, too few for a test of every row."]


def test_seeds_that_are_not_shared_are_asked_for():
    rows = row("a", top1=62.0), row("b", p=0.3), row("c", behind_n=2)
    assert "no significant lead over b; c could not be tested." in said(*rows)
    assert lacking(*rows) == ["c lacks seeds, too few for a test of every row."]


def test_leads_and_gains_are_differences_on_the_seeds_of_both():
    # By their own means b is 4.0 behind, on the two seeds that both have 0.5.
    rows = (
        row("a", top1=62.0, training_seconds=200.0),
        row("b †", top1=58.0, behind=0.5, behind_n=2, lacks_seeds="2,3,4"),
    )
    text = said(*rows)
    assert "0.5 points more than b †, the next (on the 2 seeds that both have)." in text
    assert (
        "Over b †, the cheapest row to train, it gains 0.5 points (on the 2 seeds that both have), which is not" in text
    )
    assert lacking(*rows) == ["b lacks seeds, too few for a test of every row."]
    text = said(row("a", training_seconds=90.0), row("b", top1=61.0, behind=0.4, p=0.5, training_seconds=30.0))
    assert "Where cost counts: b took 0.33 times its training time and is 0.4 points behind." in text


def test_where_no_row_is_first_none_is_recommended(tmp_path, make_result):
    for method, scores in {"a": (60.0, 61.0, 62.0), "b": (50.0, 51.1, 52.0), "c": (60.5, 61.5)}.items():
        for seed, top1 in enumerate(scores):
            Store(tmp_path).save(make_result(method, seed, top1=top1))
    (board,) = leaderboards(collect([tmp_path]))
    text = advise(board)
    assert text.startswith(
        "No row is first: c † is ahead of a, the best row that lacks none, on the seeds that both have. The other rows "
        "are compared with a. a reaches 61.0 % accuracy (mean of 3 seeds), 10.0 points more than b, the next. Paired "
        "tests over seeds find it significantly better than the other row"
    )
    assert "Take" not in text
    assert [one.sentence for one in remedies(board)] == [
        "1 of 3 rows have fewer than 3 seeds, too few for a test of every row."
    ]


def test_the_best_of_few_shot_classes_is_that_of_the_table():
    rows = row("a", top1=62.0, few=30.0), row("b", few=35.0), row("c †", few=50.0, lacks_seeds="4")
    assert "it has 30.0 %, on many-shot classes 80.0 %; the best there is b with 35.0 %." in said(
        *rows, best={"few": "b"}
    )
    assert "the best there" not in said(*rows, best={"few": "a"})
    assert "the best there" not in said(*rows)  # none is best


def test_equal_rows_are_level():
    text = said(row("a", top1=60.02), row("b", top1=60.01, p=1.0))
    assert "60.0 % accuracy (mean of 5 seeds, 95 % interval 59.0 to 61.0), level with b, the next." in text


def test_an_unbalanced_test_set_is_judged_class_by_class():
    text = said(row("a", macro=51.0), row("b", macro=49.5, p=0.2), metric="macro")
    assert "a reaches 51.0 % accuracy averaged over classes (the test set is not balanced)" in text
    assert "1.5 points more than b" in text


def test_what_is_not_known_is_said_to_be_so():
    unknown = {"training_seconds": NAN, "multiply_adds": NAN, "ece": NAN, "few": NAN, "many": NAN}
    text = said(row("a", top1=62.0, **unknown), row("b", p=0.2, **unknown))
    assert "What training costs is not known." in text
    assert "How well its confidence is calibrated is not known." in text
    assert "shot" not in text
    assert "costs what is not known" in said(row("a", top1=62.0, **unknown), row("b", p=0.2))


def test_a_large_calibration_error_asks_for_a_temperature_unless_there_is_one():
    assert "train with --validation, which fits a temperature" in said(row(ece=12.0))
    assert "do not take its confidence for a probability." in said(row(ece=12.0), validation=True)


def test_an_error_within_the_noise_is_not_held_against_a_row():
    floor = {"ece_floor": 4.9, "ece_floor_limit": 6.5, "ece_debiased": 1.2}
    text = said(row(ece=6.0, **floor))
    assert (
        "6.0 %, within the noise (a perfectly calibrated model measures 4.9 % on average, and at most 6.5 % in" in text
    )
    assert "95 of 100 cases): nothing here says that its confidence is miscalibrated." in text
    assert "do not take its confidence for a probability" in said(row(ece=12.0, **(floor | {"ece_debiased": 11.5})))
    # 5.2 % are large, but what is left without the noise is not
    small = said(row(ece=5.2, ece_floor=1.0, ece_floor_limit=1.4, ece_debiased=4.9))
    assert "5.2 %, 4.9 % without the noise: its confidence is near its accuracy on average." in small


def test_only_a_temperature_for_the_test_set_and_of_enough_images_is_named(tmp_path, make_result):
    def text(prior, images, estimator=2):
        result = make_result("ce", ece=20.0, mce=20.0, settings={"validation": True})
        fitted_for = FittedFor(prior=prior, effective_images=images, estimator=estimator)
        scaled = {"temperature": 2.0, "ece": 3.0, "fitted_for": fitted_for}
        test = result.test.model_copy(update={"temperature_scaled": scaled})
        folder = tmp_path / f"{prior}{images}{estimator}"
        Store(folder).save(result.model_copy(update={"metrics": {"test": test}}))
        stored = collect([folder])
        return advise(leaderboards(stored)[0], stored)

    words = "its logits divided by the temperature that its validation images give have an ECE of 3.0 %"
    assert words in text("balanced", 2000.0)
    assert words not in text("balanced", 1999.0)
    assert words not in text("balanced", 2000.0, estimator=1)
    assert words not in text("validation", None)
    assert "--validation" not in text("validation", None)


@pytest.mark.parametrize(("tail", "is_named"), [(1, False), (10_000, True)])
def test_validation_is_named_where_it_holds_out_enough_images(tmp_path, make_result, tail, is_named):
    # A fifth of 10,000 and of 1 image, which is one, are worth 2^2 / (1/2000 + 1/1) = 4; of both 10,000 4000.
    result = make_result("ce", ece=20.0, mce=20.0)
    counts = {"counts": [10_000, tail], "trained_on": [10_000, tail], "shots": {"many": 10_000, "few": 20}}
    groups = {"many": [], "medium": [0], "few": [1]} if tail == 1 else {"many": [], "medium": [0, 1], "few": []}
    test = result.test.model_copy(update={} if groups["few"] else {"few": None})
    data = result.data.model_copy(update={**counts, "groups": groups})
    Store(tmp_path).save(result.model_copy(update={"data": data, "metrics": {"test": test}}))
    stored = collect([tmp_path])
    text = advise(leaderboards(stored)[0], stored)
    assert ("or train with --validation" in text) == is_named
    assert "do not take its confidence for a probability" in text


@pytest.mark.parametrize(("sure", "right", "word"), [(0.9, 0.7, "over"), (0.88, 0.95, "under")])
def test_what_a_confidence_means_from_the_bins(tmp_path, make_result, sure, right, word):
    # Bin 14 of 15 reaches from 13/15 = 86.7 % to 14/15 = 93.3 %.
    count, gap = [0] * 13 + [2 * 10**6, 0], 100 * abs(sure - right)
    bins = BinTable(count=count, confidence=[0.0] * 13 + [sure, 0.0], accuracy=[0.0] * 13 + [right, 0.0])
    for seed in range(2):
        result = make_result(seed=seed, top1=100 * right, ece=gap, mce=gap)
        tests = {"test": result.metrics["test"].model_copy(update={"bins": bins})}
        Store(tmp_path).save(result.model_copy(update={"metrics": tests}))
    stored = collect([tmp_path])
    (board,) = leaderboards(stored)
    text = advise(board, stored)
    assert f"({word}-confident on the whole); where it is 87 to 93 % sure, {100 * right:.1f} % are right" in text


def test_the_plainest_row_is_the_one_that_does_nothing_about_rare_classes(tmp_path, make_result):
    def stored(method, top1, seconds, prior, head="cosine", **settings):
        for seed in range(3):
            result = make_result(
                method,
                seed,
                top1=top1 + seed / 10,
                recipe={"head": head},
                cost={"training_seconds": seconds},
                settings=settings,
            )
            record = result.method.model_copy(update={"logit_prior": prior})
            Store(tmp_path).save(result.model_copy(update={"method": record}))

    stored("balpoe", 60.0, 30.0, 0.0)
    stored("ce", 50.0, 12.0, 1.0)
    stored("cutmix", 52.0, 11.0, 1.0, hyperparameters={"cutmix": 1.0})
    stored("vs", 51.0, 10.0, None, head="linear")
    runs = collect([tmp_path])
    (board,) = leaderboards(runs)
    assert "Over Cross Entropy, the cheapest row that does nothing about rare classes, it gains 10.0 points" in advise(
        board, runs
    )
    assert "Over VS Loss, the cheapest row to train, it gains 9.0 points" in advise(board)


def percentages():
    return st.floats(0, 100)


@st.composite
def tables(draw):
    """Rows as a table may hold them: ties, figures that are missing, costs of nothing, tests that could not be made."""
    size = draw(st.integers(1, 7))
    maybe = st.one_of(st.just(NAN), percentages())
    rows = []
    for label in "abcdefg"[:size]:
        p = draw(st.one_of(st.just(NAN), st.floats(0, 1)))
        values = {name: draw(maybe) for name in ("many", "few", "ece", "top1_low", "top1_high")}
        costs = {
            name: draw(st.sampled_from([NAN, 0.0, 0.5, 3.0, 1e6])) for name in ("training_seconds", "multiply_adds")
        }
        top1 = draw(st.one_of(st.sampled_from([50.0, 60.0]), percentages()))
        rows.append(
            row(label, n=draw(st.integers(1, 10)), top1=top1, p=p, significantly_worse=p < 0.05, **values, **costs)
        )
    rows.sort(key=lambda one: -one["top1"])
    rows[0] |= {"p": NAN, "significantly_worse": False}
    return rows


def in_the_table(rows):
    """Every number that the text may hold: figures, differences from the first row, ratios of costs, counts."""
    best, shown = rows[0], {"95", "5", "3", "0", "4"} | {str(count) for count in range(1, len(rows) + 1)}
    for one in rows:
        shown |= {f"{one[name]:.1f}" for name in ("top1", "top1_low", "top1_high", "many", "few", "ece")}
        shown |= {f"{best['top1'] - one['top1']:.1f}", str(one["n"])}
        for cost in ("training_seconds", "multiply_adds"):
            pair = best[cost], one[cost]
            if all(value > 0 for value in pair):
                shown |= {f"{pair[0] / pair[1]:.1f}", f"{pair[1] / pair[0]:.2f}"}
    return shown


@pytest.mark.slow
@given(tables())
def test_the_text_says_no_more_than_the_table(rows):
    text = said(*rows)
    assert set(re.findall(r"\d+(?:\.\d+)?", text)) <= in_the_table(rows)
    assert "nan" not in text
    others = rows[1:]
    certain = bool(others) and all(one["significantly_worse"] for one in others)
    assert text.startswith(f"Take {rows[0]['label']},") == certain
    nothing = bool(others) and all(math.isnan(one["p"]) for one in others)
    assert text.startswith("Nothing can be recommended yet") == nothing
    told = re.search(r"Over (\w), .*?, (which \w+(?: \w+)*), and", text)
    if told:
        against = next(one for one in others if one["label"] == told[1])
        assert (told[2] == "which holds") == against["significantly_worse"]
    assert 2 <= len(re.findall(r"[.:] [A-Z]|\.$", text)) <= 10


def test_nobody_is_asked_to_train_more_of_what_was_trained_elsewhere(tmp_path, make_result):
    for name, revision in (("mine", "scored"), ("weights", "imported")):
        Store(tmp_path).save(make_result(name, revision=revision))
    stored = collect([tmp_path])
    *_, lack = remedies(leaderboards(stored)[0], stored)
    assert (lack.sentence, lack.commands) == ("All rows have fewer than 3 seeds, too few for a test of every row.", ())
    Store(tmp_path).save(make_result("ce"))
    stored = collect([tmp_path])
    # The recipe of these results is no file's, so that the result itself names it.
    path = stored.paths[make_result("ce").run_id]
    command = f"ltbench run --config {path} --seeds 0-4 --out {tmp_path}"
    *_, lack = remedies(leaderboards(stored)[0], stored)
    assert lack.sentence.endswith("more are trained by:")
    assert lack.commands == (command,)
