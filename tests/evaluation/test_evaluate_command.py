"""ltbench evaluate: what it prints and stores, and what it refuses."""

import csv
import io
import json

import pytest
import torch

from ltbench.config import RunConfig
from ltbench.results.records import Metrics
from ltbench.results.store import read
from ltbench.runs.options import RunOptions
from ltbench.runs.run import run

COUNTS = [200, 50, 5]
FIGURES = {name for name, field in Metrics.model_fields.items() if field.annotation in (float, float | None)}


def noisy(seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(3).repeat_interleave(20)
    return torch.randn(60, 3, generator=generator) + 2 * torch.nn.functional.one_hot(labels, 3), labels


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A real run with a validation part, and the cache that its logits are in."""
    folder = tmp_path_factory.mktemp("digits")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LTBENCH_CACHE", str(folder / "cache"))
        settings = {"backbone": "cifar_resnet8", "batch_size": 8, "lr": 0.03}  # learns enough for a temperature
        config = RunConfig(method="balpoe", epochs=1, validation=True, **settings)
        result = run(config, RunOptions(device="cpu", out=folder / "runs"))
    return result, folder


@pytest.fixture
def real(digits, monkeypatch):
    result, folder = digits
    monkeypatch.setenv("LTBENCH_CACHE", str(folder / "cache"))
    return result, folder / "runs" / "digits-lt" / "balpoe" / f"{result.run_id}.json"


def rows(cli, *words):
    done = cli("evaluate", *words, "--format", "json")
    assert done.code == 0, done.err
    return json.loads(done.out)


@pytest.mark.slow
def test_a_real_runs_figures_come_out_again(cli, real):
    result, path = real
    (row,) = rows(cli, path)
    assert {name: row[name] for name in FIGURES} == result.test.model_dump(include=FIGURES)
    assert (row["method"], row["seed"], row["images"], row["classes"]) == ("balpoe", 0, 400, 10)


@pytest.mark.slow
def test_a_real_runs_temperature_comes_out_again(cli, real):
    result, path = real
    (row,) = rows(cli, path, "--temperature")
    stored = result.test.model_dump()["temperature_scaled"]
    assert stored["fitted_for"]["prior"] == "balanced"
    assert {name: row[name] for name in stored} == stored


@pytest.mark.slow
def test_a_real_result_without_the_newer_fields_becomes_what_it_was(cli, real, tmp_path):
    _, path = real
    whole = json.loads(path.read_text())
    older = {name: value for name, value in whole.items() if name not in ("outcomes", "shift")}
    older["method"] = {name: value for name, value in whole["method"].items() if name != "paper"}
    copy = tmp_path / "older" / "digits-lt" / "balpoe" / path.name
    copy.parent.mkdir(parents=True)
    copy.write_text(json.dumps(older))
    done = cli("evaluate", "--all", "--results", "older", "--store")
    assert done.code == 0
    assert f"{copy.relative_to(tmp_path)}: added outcomes, shift, method.paper" in done.out
    assert "1 of 1 results completed, 0 were complete" in done.out
    assert copy.read_text() == path.read_text()
    again = cli("evaluate", copy, "--store")
    assert again.out == "0 of 1 results completed, 1 were complete\n"
    assert copy.read_text() == path.read_text()
    assert [found.name for found in copy.parent.iterdir()] == [path.name]


def test_runs_by_their_first_digits_and_all_of_them(cli, stored_run):
    runs = [stored_run(*noisy(seed), COUNTS, seed=seed) for seed in range(3)]
    ids = sorted(run.result.run_id for run in runs)
    assert sorted(row["run_id"] for row in rows(cli, "--all")) == ids
    assert [row["run_id"] for row in rows(cli, ids[1][:6], ids[0])] == [ids[1], ids[0]]


def test_runs_of_other_folders(cli, stored_run):
    run = stored_run(*noisy(), COUNTS, folder="elsewhere")
    assert rows(cli, "--all", "--results", "elsewhere")[0]["run_id"] == run.result.run_id


def test_what_was_asked_for_is_on_record_in_each_row(cli, stored_run):
    stored_run(*noisy(), COUNTS, validation=noisy(1), logit_prior=1.0)
    options = ("--bins", 10, "--shots", "60,10", "--temperature", "--test-prior", "backward-5", "--prior", "estimated")
    (row,) = rows(cli, "--all", *options)
    asked = {name: row[name] for name in ("bins", "shots", "test_prior", "prior")}
    assert asked == {"bins": 10, "shots": "60,10", "test_prior": "backward-5", "prior": "estimated"}
    assert row["temperature"] > 0
    assert 0 <= row["prior_error"] <= 1
    assert row["images"] < 60


def test_tables_for_text_markdown_and_csv(cli, stored_run, monkeypatch):
    run = stored_run(*noisy(), COUNTS)
    test = run.result.test
    done = cli("evaluate", "--all", "--format", "csv")
    (row,) = csv.DictReader(io.StringIO(done.out))
    assert float(row["ece"]) == test.ece
    assert row["temperature"] == ""
    title = "digits-lt, IR 20, standard recipe: whole test set, 60 images; 15 bins; many > 100, few < 20"
    markdown = cli("evaluate", "--all", "--format", "md").out
    assert f"### {title}" in markdown
    assert f"| {run.result.run_id} | ce" in markdown
    for width, tables in ((200, 1), (80, 2)):
        monkeypatch.setenv("COLUMNS", str(width))
        text = cli("evaluate", "--all").out
        assert title.split() == text.split()[: len(title.split())]
        assert text.count(run.result.run_id) == tables
        assert all(len(line) <= width for line in text.splitlines())
        shown = {f"{test.top1:.1f}", f"{test.worst_class:.1f}", f"{test.nll:.3f}", f"{test.classwise_ece:.1f}"}
        assert shown <= set(text.split())


def test_hyper_parameters_tell_rows_of_a_method_apart(cli, stored_run):
    stored_run(*noisy(), COUNTS, method="balpoe")
    run = stored_run(*noisy(1), COUNTS, method="balpoe", seed=1)
    mixed = run.result.config.replace(hyperparameters={"mixup": 0.4, "taus": [0, 1]})
    run.path.write_text(run.result.model_copy(update={"config": mixed}).model_dump_json())
    stored_run(*noisy(), COUNTS, method="ce")
    out = cli("evaluate", "--all", "--format", "md").out
    assert "| balpoe, mixup=0.4, taus=0,1 |" in out
    assert out.count("| balpoe  ") == 1


def test_what_cannot_be_evaluated_is_named_and_counted_and_the_rest_goes_on(cli, stored_run, tmp_path):
    fine, gone, changed = (stored_run(*noisy(seed), COUNTS, seed=seed) for seed in range(3))
    gone.file.unlink()
    gone.predictions.save(changed.file, run_id=changed.result.run_id)
    (tmp_path / "runs" / "damaged.json").write_text("{")
    done = cli("evaluate", "--all", "--format", "json")
    assert done.code == 2
    assert [row["run_id"] for row in json.loads(done.out)] == [fine.result.run_id]
    assert f"not evaluated: {gone.result.run_id}: its logits are not in the cache" in done.err
    assert "--rerun" in done.err
    assert f"not evaluated: {changed.result.run_id}: the logits are not those that the result was made" in done.err
    assert "damaged.json" in done.err
    assert "3 of 4 runs could not be evaluated" in done.err


def test_one_complaint_of_many_runs_is_said_once(cli, stored_run):
    ids = [stored_run(*noisy(seed), COUNTS, seed=seed).result.run_id for seed in range(3)]
    done = cli("evaluate", *ids, "--temperature")
    assert done.code == 2
    assert done.err.count("no validation images") == 1
    assert all(run_id in done.err for run_id in ids)


def test_nothing_is_stored_of_a_run_whose_logits_are_others(cli, stored_run):
    run, other = (stored_run(*noisy(seed), COUNTS, seed=seed) for seed in range(2))
    other.predictions.save(run.file, run_id=run.result.run_id)
    before = run.path.read_bytes()
    done = cli("evaluate", run.path, other.path, "--store")
    assert done.code == 2
    assert run.path.read_bytes() == before
    assert read(other.path).shift is not None
    assert "1 of 2 results completed, 0 were complete" in done.out


BAD = [
    ([], ["either runs or --all", "name runs, or give --all"]),
    (["--all", "abc"], ["either runs or --all", "name runs, or give --all"]),
    (["ffff"], ["no run 'ffff'", "1 of 1 runs"]),
    (["--all", "--bins", "0"], ["--bins", "greater than or equal to 1"]),
    (["--all", "--shots", "100"], ["'100' is no shot rule", "--shots", "MANY,FEW"]),
    (["--all", "--shots", "20,100"], ["'20,100' is no shot rule"]),
    (["--all", "--shots", "a,b"], ["'a,b' is no shot rule"]),
    (["--all", "--test-prior", "forward-3"], ["unknown test prior 'forward-3'", "--test-prior", "forward-"]),
    (["--all", "--prior", "guessed"], ["--prior", "'guessed'", "estimated"]),
    (["--all", "--store", "--bins", "10"], ["--store", "leave out the options"]),
    (["--all", "--store", "--shots", "50,10"], ["--store"]),
    (["--all", "--store", "--temperature"], ["--store"]),
    (["--all", "--store", "--prior", "known"], ["--store"]),
    (["--all", "--store", "--test-prior", "uniform"], ["--store"]),
    (["--all", "--store", "--format", "csv"], ["--store"]),
    (["--all", "--results", "none"], ["none", "results folder does not exist"]),
    (["--all", "--results", "empty"], ["no finished run to evaluate", "--results"]),
]


@pytest.mark.parametrize(("words", "parts"), BAD, ids=lambda value: " ".join(value)[:40])
def test_bad_input_is_one_message_and_changes_nothing(cli, stored_run, tmp_path, words, parts):
    run = stored_run(*noisy(), COUNTS)
    (tmp_path / "empty").mkdir()
    before = run.path.read_bytes()
    done = cli("evaluate", *words)
    assert done.code == 2
    assert done.out == ""
    assert all(part in done.err for part in parts), done.err
    assert "Traceback" not in done.err
    assert run.path.read_bytes() == before
