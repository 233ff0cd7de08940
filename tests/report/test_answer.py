"""The answer of a table in one sentence, and the commands that mend what it lacks."""

import shlex
import subprocess
from shutil import which

import pytest

from ltbench.registry.declared import hyperparameter_defaults, recipe_of
from ltbench.report.answer import answer, labelling_command, remedies
from ltbench.report.citations import bibtex, citation_keys
from ltbench.report.collection import Collection
from ltbench.report.commands import predict_command
from ltbench.report.contents import contents
from ltbench.report.latex import latex
from ltbench.report.leaderboard import leaderboards
from ltbench.report.table import Notes, Table
from ltbench.results.records import PaperRecord

RECIPE = recipe_of("standard", "digits-lt").model_dump()


@pytest.fixture
def made(make_result):
    """The leaderboard of accuracies by method and seed, and the results that it was made of."""

    def make(scores, seconds=None, **other):
        results = []
        for method, all_ in scores.items():
            values = hyperparameter_defaults(method, "digits-lt", 20.0) or {}
            for seed, top1 in enumerate(all_):
                cost = {"training_seconds": (seconds or {}).get(method, 12.0)}
                usual = {"recipe": RECIPE, "settings": {"hyperparameters": values}}
                results.append(make_result(method, seed, top1=top1, cost=cost, **{**usual, **other}))
        stored = Collection(
            {one.run_id: one for one in results},
            {one.run_id: f"runs/digits-lt/{one.config.method}/{one.run_id}.json" for one in results},
        )
        (board,) = leaderboards(stored)
        return board, stored

    return make


CLEAR = {"balpoe": (80.0, 81.0, 82.2), "ce": (50.0, 51.0, 52.1), "sade": (60.0, 61.1, 62.0)}


def test_a_clear_winner(made):
    board, _ = made(CLEAR)
    assert answer(board) == "BalPoE wins with 81.1 %, significantly better than all 2 others (5 % level)."


def test_no_clear_winner_names_the_ties_and_the_cheapest_of_them(made):
    # Differences of 0.5, 0.3, -0.5 and so on: nothing is significant; ce is far behind on every seed.
    scores = {
        "proco": (98.0, 98.5, 98.1), "balpoe": (97.5, 98.2, 98.6), "ldam_drw": (97.9, 97.4, 98.3),
        "ce": (50.0, 51.0, 52.1),
    }  # fmt: skip
    board, _ = made(scores, {"proco": 10.0, "balpoe": 20.0, "ldam_drw": 3.0, "ce": 1.0})
    assert answer(board) == (
        "No clear winner: ProCo leads with 98.2 %, 3 of 4 methods tie at 5 %; cheapest of them LDAM-DRW, 0.3 x the "
        "time."
    )


def test_nothing_is_decided_without_a_test(made):
    board, stored = made({"balpoe": (80.0,), "ce": (50.0,)})
    assert answer(board) == (
        "Nothing is decided: BalPoE is ahead with 80.0 %, but no two rows have been tested against each other."
    )
    lack = remedies(board, stored)[-1]
    assert lack.sentence.startswith("All rows have fewer than 3 seeds")
    # The whole command: the same data, the same recipe, both methods at their defaults.
    assert lack.commands == (
        "ltbench run --method balpoe,ce --dataset digits-lt --imbalance-ratio 20 --recipe standard --seeds 0-4",
    )


def test_rows_with_more_seeds_are_not_ahead_of_one_that_beats_them(make_result):
    scores = {("ce", 0): 40.0, ("ce", 1): 40.2, ("ncl", 0): 44.0, ("ncl", 1): 43.0, ("balpoe", 0): 52.0}
    results = [make_result(method, seed, top1=top1) for (method, seed), top1 in scores.items()]
    (board,) = leaderboards(Collection({one.run_id: one for one in results}, {one.run_id: "" for one in results}))
    assert answer(board) == (
        "No row is first: NCL leads with 43.5 % among those with all seeds; "
        "BalPoE is ahead of it on the seeds that both have."
    )


def test_seeds_that_a_row_lacks_since_they_failed_are_named(make_result):
    runs = [make_result(method, seed, top1=60.0 + seed) for method in ("ce", "ncl") for seed in range(4)]
    lost = make_result("ncl", 4, status="failed", reason="the loss is nan in epoch 3")
    other = make_result("ncl", 3, status="failed", settings={"epochs": 7})
    runs += [make_result("ce", 4, top1=64.0), lost, other]
    stored = Collection({one.run_id: one for one in runs}, {one.run_id: f"runs/{one.run_id}.json" for one in runs})
    (board,) = leaderboards(stored)
    (lack,) = remedies(board, stored)
    assert lack.sentence == "NCL (seed 4 failed) lacks seeds, so that it has no rank; more are trained by:"


def test_rows_with_no_seed_in_common_are_told_which_to_train(make_result):
    # At least half of the rows have a seed of the table: of three rows with seeds of their own, none.
    own_seeds = {"balpoe": (0, 1, 2), "sade": (3, 4, 5), "ce": (6, 7, 8, 9)}
    results = [make_result(method, seed, top1=50.0 + seed) for method, seeds in own_seeds.items() for seed in seeds]
    stored = Collection({one.run_id: one for one in results}, {one.run_id: one.run_id for one in results})
    (board,) = leaderboards(stored)
    assert board.seeds == ()
    (remedy,) = remedies(board, stored)
    assert remedy.sentence.endswith("lack seeds, too few for a test of every row; more are trained by:")
    assert all("--seeds 6-9" in command for command in remedy.commands)
    assert answer(board) == "Nothing is decided: too few of the rows share seeds for a comparison."


def test_a_single_row_is_compared_with_nothing(made):
    board, _ = made({"ce": (50.0, 51.0, 52.0)})
    assert answer(board) == "Nothing to compare: Cross Entropy stands alone with 51.0 %."


def test_a_row_without_some_seeds_does_not_lead(made):
    board, stored = made({"balpoe": (80.0, 81.0, 82.0), "ce": (50.0, 51.0, 52.1), "sade": (90.0, 91.0)})
    assert answer(board) == (
        "No row is first: BalPoE leads with 81.0 % among those with all seeds; SADE is ahead of it on the seeds that "
        "both have."
    )
    assert board.rows["label"].tolist()[-1] == "SADE †"
    lack = remedies(board, stored)[-1]
    assert "--method sade " in lack.commands[0]
    assert lack.commands[0].endswith("--seeds 0-4")


def test_a_command_with_weights_names_the_size_of_the_images(made):
    """Without it, it would be that of the weights and not the data set's."""
    weights = {"weights": "sha256:" + "0" * 64, "backbone": "resnet18"}
    for settings, named in ((weights, True), ({}, False)):
        board, stored = made({"balpoe": (80.0,), "ce": (50.0,)}, settings=settings)
        (command,) = remedies(board, stored)[-1].commands
        assert ("--image-size 8" in command) == named


def test_far_too_few_epochs_are_said_with_the_whole_training(made):
    board, stored = made(CLEAR, recipe={**RECIPE, "epochs": 6})
    lack = remedies(board, stored)[-1]
    assert lack.sentence.startswith("Far too few epochs")
    assert lack.commands == (
        "ltbench run --method balpoe,ce,sade --dataset digits-lt --imbalance-ratio 20 --recipe standard --seeds 0-2",
    ) or lack.commands == (
        "ltbench run --method balpoe,sade,ce --dataset digits-lt --imbalance-ratio 20 --recipe standard --seeds 0-2",
    )
    board, stored = made(CLEAR, recipe={**RECIPE, "epochs": 7})  # more than a tenth of 60
    assert remedies(board, stored) == []


def test_chance_level_is_said(made):
    # Ten classes of 40 images: chance is 10 %, its standard deviation sqrt(0.1 * 0.9 / 400) = 1.5 %, so that 13 % is
    # what guessing reaches, and 13.1 % is not.
    scores = {"ce": (12.9, 13.0, 12.8), "sade": (50.0, 51.0, 52.2), "balpoe": (13.1, 13.1, 13.2)}
    board, stored = made(scores)
    test = next(iter(stored.results.values())).test.model_copy(update={"total": [40] * 10, "correct": [4] * 10})
    results = {name: one.model_copy(update={"metrics": {"test": test}}) for name, one in stored.results.items()}
    said = [lack.sentence for lack in remedies(board, Collection(results, stored.paths))]
    assert said == ["Cross Entropy is at chance level, 10 % with 10 classes."]


def test_an_accuracy_that_few_images_cannot_tell_from_guessing_is_not_called_chance_level(made):
    # Two classes of 8 images: chance is 50 %, its standard deviation sqrt(0.5 * 0.5 / 16) = 12.5 %: 74 % is within two.
    board, stored = made({"ce": (74.0, 74.1, 74.2), "balpoe": (99.0, 99.0, 99.1)})
    test = next(iter(stored.results.values())).test.model_copy(update={"total": [8, 8], "correct": [6, 6]})
    results = {name: one.model_copy(update={"metrics": {"test": test}}) for name, one in stored.results.items()}
    assert [lack.sentence for lack in remedies(board, Collection(results, stored.paths))] == [
        "Cross Entropy is perhaps no better than guessing (50 % with 2 classes): 16 test images are too few to tell."
    ]


def test_what_trains_more_epochs_is_not_asked_for_twice_and_failed_seeds_are_named(made, make_result):
    scores = {"ce": (50.0, 51.0, 52.1), "balpoe": (60.0, 61.0)}
    board, stored = made(scores, recipe={**RECIPE, "epochs": 6})
    failed = make_result(
        "balpoe", 2, status="failed", recipe={**RECIPE, "epochs": 6},
        settings={"hyperparameters": hyperparameter_defaults("balpoe", "digits-lt", 20.0)},
    )  # fmt: skip
    stored = Collection({**stored.results, failed.run_id: failed}, {**stored.paths, failed.run_id: "x"})
    longer, seeds = remedies(board, stored)[-2:]
    assert longer.sentence == "Far too few epochs to tell methods apart; the recipe's are trained by:"
    assert longer.commands
    assert seeds.sentence == "1 of 2 rows have fewer than 3 seeds, too few for a test of every row."
    assert seeds.commands == ()


def test_options_that_are_not_the_data_sets_own_are_in_the_command(made):
    settings = {"hyperparameters": {"mixup": 0.3}, "backbone": "cifar_resnet8", "precision": "bf16", "validation": True}
    board, stored = made({"ce": (50.0,)}, recipe={**RECIPE, "epochs": 50, "lr": 0.05}, settings=settings)
    lack = remedies(board, stored)[-1]
    words = shlex.split(lack.commands[0])
    for name, value in {
        "--backbone": "cifar_resnet8", "--precision": "bf16", "--epochs": "50", "--lr": "0.05", "--set": "mixup=0.3",
        "--imbalance-ratio": "20", "--recipe": "standard", "--dataset": "digits-lt", "--seeds": "0-4",
    }.items():  # fmt: skip
        assert words[words.index(name) + 1] == value
    assert "--validation" in words
    assert "--batch-size" not in words  # that of the recipe


def test_settings_that_are_not_default_have_commands_of_their_own(made, make_result):
    board, stored = made({"balpoe": (80.0,), "ce": (50.0,)})
    other = make_result("sade", 0, top1=60.0, recipe=RECIPE, settings={"hyperparameters": {"mixup": 0.4}})
    results = {**stored.results, other.run_id: other}
    stored = Collection(results, {**stored.paths, other.run_id: f"mine/digits-lt/sade/{other.run_id}.json"})
    (board,) = leaderboards(stored)
    lack = remedies(board, stored)[-1]
    assert len(lack.commands) == 2
    assert any(
        "--method sade" in one and "--set mixup=0.4" in one and one.endswith("--out mine") for one in lack.commands
    )


@pytest.fixture
def cited(made):
    """A leaderboard whose methods have papers, two of one author and year."""
    board, stored = made({**CLEAR, "ride": (55.0, 56.0, 57.3)})

    def paper(title):
        entry = f"@inproceedings{{li2022,\n  title = {{{title}}},\n  author = {{Jun Li}},\n  year = {{2022}}\n}}"
        return PaperRecord(title=title, authors="Jun Li", venue="CVPR", year=2022, bibtex=entry, claims=[])

    papers = {"balpoe": "One", "ce": "Two", "sade": "One"}
    results = {
        name: one.model_copy(
            update={"method": one.method.model_copy(update={"paper": paper(papers[one.config.method])})}
        )
        if one.config.method in papers
        else one
        for name, one in stored.results.items()
    }
    return board, Collection(results, stored.paths)


def test_papers_of_one_author_and_year_have_keys_of_their_own(cited):
    _, stored = cited
    assert citation_keys(stored) == {"balpoe": "li2022one", "sade": "li2022one", "ce": "li2022two"}
    entries = bibtex(stored)
    assert entries.count("@inproceedings{") == 2
    assert "@inproceedings{li2022one,\n  title = {One}" in entries
    assert "@inproceedings{li2022two,\n  title = {Two}" in entries


def test_the_key_of_a_paper_does_not_depend_on_the_other_methods(cited):
    _, stored = cited
    assert citation_keys(
        Collection({name: one for name, one in stored.results.items() if one.config.method == "ce"})
    ) == {"ce": "li2022two"}


def test_latex_cites_papers_and_keeps_commands_in_comments(cited):
    board, stored = cited
    shown = latex(contents([board], stored))
    assert r"BalPoE~\cite{li2022one} & 1 & 3 &" in shown
    assert r"Cross Entropy~\cite{li2022two}" in shown
    assert r"RIDE & " in shown
    assert shown.startswith(r"% Needs \usepackage{booktabs}. Papers: ltbench report --format bibtex")
    assert r"\label{tab:digits-lt-ir-20-resnet-20}" in shown
    assert r"\caption{digits-lt $\cdot$ IR 20 $\cdot$ ResNet-20 $\cdot$ standard recipe, 60 epochs" in shown


@pytest.mark.slow
@pytest.mark.skipif(which("pdflatex") is None, reason="needs pdflatex")
def test_latex_compiles_within_two_columns(cited, tmp_path):
    board, stored = cited
    signs = Table("Signs", ["Method", "Acc", "What"], [["a", "≈ 1 ± 2", "b"]], "2 rows with p ≥ .05.", words=["What"])
    long = Table("Long", ["Published as", "Note"], [[str(row), "1"] for row in range(100)])
    body = latex(contents([board], stored)) + latex([signs, long, Notes("1. A source, 50 %.")])
    assert "p $\\geq$ .05" in body
    assert all(line.isascii() for line in body.splitlines() if not line.startswith("%"))
    (tmp_path / "table.tex").write_text(
        "\\documentclass[10pt,twocolumn]{article}\n\\usepackage[letterpaper,margin=0.8125in]{geometry}\n"
        "\\usepackage{booktabs}\n\\begin{document}\n" + body + "\\end{document}\n"
    )
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "table.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout
    assert (tmp_path / "table.pdf").stat().st_size > 1000


def test_rows_below_the_tie_that_no_test_tells_apart_are_counted_apart_from_it(made):
    # LDAM-DRW is 20 behind on every seed; cross entropy, which is further behind in the mean, is ahead on one.
    scores = {"balpoe": (80.0, 81.0, 82.0), "sade": (80.1, 80.8, 81.9), "ldam_drw": (60.0, 61.0, 62.1)}
    board, _ = made({**scores, "ce": (10.0, 81.5, 70.0)}, dict.fromkeys((*scores, "ce"), 5.0))
    rows = board.rows.set_index("method")
    assert rows["significantly_worse"].to_dict() == {"balpoe": False, "sade": False, "ldam_drw": True, "ce": False}
    assert rows["place"].tolist() == [1.0, 1.0, 3.0, 4.0]
    assert answer(board) == (
        "No clear winner: BalPoE leads with 81.0 %, 2 of 4 methods tie at 5 % and 1 more, whose seeds vary widely, is "
        "not significantly worse; it is the cheapest of them."
    )


def test_of_own_images_the_first_row_labels_new_ones_by_its_run_of_the_lowest_seed(make_result):
    results = [
        make_result(method, seed, top1=top1 + seed, settings={"dataset": dataset})
        for dataset in ("folder-lt", "digits-lt")
        for method, top1 in (("balpoe", 80.0), ("ce", 60.0))
        for seed in (2, 1, 3)
    ]
    paths = {one.run_id: f"mine/{one.config.dataset}/{one.config.method}/{one.run_id}.json" for one in results}
    stored = Collection({one.run_id: one for one in results}, paths)
    first = make_result("balpoe", 1, settings={"dataset": "folder-lt"}).run_id
    found = {board.key["dataset"]: labelling_command(board, stored) for board in leaderboards(stored)}
    assert found == {"folder-lt": f"ltbench predict {first} NEW_IMAGES --results mine", "digits-lt": ""}
    assert predict_command(make_result("not_ours"), "runs/digits-lt/not_ours/x.json").endswith("--methods-dir DIR")


def test_a_row_with_a_seed_less_is_tested_but_has_no_rank(made):
    board, stored = made({"balpoe": (80.0, 81.0, 82.0, 83.0, 84.1), "ce": (70.0, 71.0, 72.0, 73.1)})
    (lack,) = remedies(board, stored)
    assert lack.sentence == "Cross Entropy lacks seeds, so that it has no rank; more are trained by:"


def test_a_row_that_lacks_seeds_is_not_said_to_scatter(made):
    scores = {"balpoe": (80.0, 81.0, 82.0, 83.0, 84.1), "sade": (60.0, 61.0, 62.0, 63.0, 64.1)}
    board, _ = made({**scores, "ce": (80.1, 80.9, 82.1, 82.9)})
    assert answer(board).endswith(", Cross Entropy lacks seeds and is not significantly worse.")
