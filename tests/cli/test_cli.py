"""The commands from end to end, on the digits, and what they print."""

import io
import json
import re
import shlex
import subprocess
import sys

import pandas as pd
import pytest
from PIL import Image

from ltbench import registry
from ltbench.cli.reproduce import folder_options, reproduce_command
from ltbench.config import Recipe, RunConfig
from ltbench.results.records import BatchSplit
from ltbench.results.store import Store, read
from ltbench.runs import sweep, train
from ltbench.runs.resolve import resolve

pytestmark = pytest.mark.usefixtures("small_network")

RUN = ("run", "--backbone", "cifar_resnet8", "--epochs", 1, "--device", "cpu")


@pytest.fixture
def trainings(monkeypatch):
    """The method and seed of every training from now on, as a list that grows."""
    seen = []
    fit = train.fit

    def counted(method, *args, seed, **options):
        if method.stages(Recipe()):
            seen.append((type(method).__name__, seed))
        return fit(method, *args, seed=seed, **options)

    monkeypatch.setattr("ltbench.runs.train.fit", counted)
    return seen


def stored(folder):
    """Every result below a folder, by method and seed."""
    results = map(read, sorted(folder.rglob("*.json")))
    return {(one.config.method, one.config.seed): one for one in results}


@pytest.mark.slow
def test_several_methods_and_seeds_are_run_stored_and_reported(cli, tmp_path):
    done = cli(*RUN, "--method", "ce,balpoe", "--seeds", "0-1")
    assert (done.code, done.notes) == (0, "")
    results = stored(tmp_path / "runs")
    assert set(results) == {("balpoe", 0), ("balpoe", 1), ("ce", 0), ("ce", 1)}
    recorded = results["balpoe", 0].method
    assert (recorded.name, recorded.defaults) == ("BalPoE", {"mixup": 0.4, "taus": [0.0, 1.0, 2.0], "width": 1.0})
    for (method, seed), result in results.items():
        assert result.status == "done"
        assert f"{method} on digits-lt, seed {seed}: top-1 {result.test.top1:.2f} " in done.out
        assert f"runs/digits-lt/{method}/{result.run_id}.json\n" in done.out

    texts = {style: cli("report", "--format", style) for style in ("md", "csv", "json", "latex")}
    counted = "4 result files; left out: none.\n"  # where the output is no text that says it itself
    said = {style: (one.code, one.err) for style, one in texts.items()}
    assert said == {"md": (0, ""), "csv": (0, counted), "json": (0, counted), "latex": (0, counted)}
    assert counted in texts["md"].out
    rows = json.loads(texts["json"].out)
    assert {(row["label"], row["n"], row["seeds"]) for row in rows} == {
        ("Cross Entropy", 2, "0,1"),
        ("BalPoE", 2, "0,1"),
    }
    top1 = [results["ce", seed].test.top1 for seed in (0, 1)]
    (ce,) = (row for row in rows if row["method"] == "ce")
    assert ce["top1"] == pytest.approx(sum(top1) / 2)
    assert len(pd.read_csv(io.StringIO(texts["csv"].out))) == 2
    shown = re.findall(r"^\| (Cross Entropy|BalPoE) +\|(?: +\d+ \|)? +2 \|", texts["md"].out, re.MULTILINE)
    assert sorted(shown) == [
        "BalPoE",
        "BalPoE",
        "Cross Entropy",
        "Cross Entropy",
    ]  # the leaderboard and the differences
    assert r"\toprule" in texts["latex"].out

    assert cli("report", "--format", "json", "--output", "tables/board.json").out == ""
    assert (tmp_path / "tables" / "board.json").read_text() == texts["json"].out


def test_a_stored_run_is_not_trained_again_unless_asked_to(cli, tmp_path, trainings):
    cli(*RUN, "--method", "ce")
    (path,) = tmp_path.rglob("runs/**/*.json")
    before, age = read(path), path.stat().st_mtime_ns
    again = cli(*RUN, "--method", "ce", "--seeds", "0-1")
    assert trainings == [("CrossEntropy", 0), ("CrossEntropy", 1)]
    assert path.stat().st_mtime_ns == age
    first, _ = again.out.split("ce on digits-lt, seed 1")
    assert "stored, skipped; --rerun repeats it" in first
    assert again.out.count("stored, skipped") == 1
    forced = cli(*RUN, "--method", "ce", "--rerun")
    assert trainings[2:] == [("CrossEntropy", 0)]
    assert "stored, skipped" not in forced.out
    assert path.stat().st_mtime_ns > age
    assert read(path).metrics == before.metrics  # the same machine, one thread: bit for bit


@pytest.mark.slow
def test_paths_and_devices_are_no_part_of_a_run(cli, trainings):
    cli(*RUN, "--method", "ce")
    again = cli(*RUN[:-2], "--method", "ce", "--data-dir", "elsewhere", "--checkpoint-every", 1)
    assert "stored, skipped" in again.out
    assert len(trainings) == 1


@pytest.mark.slow
def test_a_file_with_a_list_of_runs(cli, tmp_path):
    (tmp_path / "runs.toml").write_text("""
        epochs = 1
        backbone = "cifar_resnet8"
        seeds = "0-1"
        [[runs]]
        method = "ce"
        hyperparameters = { mixup = 0.2 }
        [[runs]]
        method = "balanced_softmax"
        seed = 5
    """)
    assert cli("run", "--config", "runs.toml", "--device", "cpu", "--out", "out").code == 0
    results = stored(tmp_path / "out")
    assert set(results) == {("ce", 0), ("ce", 1), ("balanced_softmax", 5)}
    assert results["ce", 0].config.hyperparameters == {"mixup": 0.2}
    assert "stored, skipped" in cli("run", "--config", "runs.toml", "--out", "out", "--method", "ce", "--seeds", 1).out


@pytest.mark.slow
def test_a_result_is_repeated_with_or_without_changes(cli, tmp_path, trainings):
    cli(*RUN, "--method", "balpoe", "--set", "experts=2", "--set", "spread=0.3", "--lr", 0.05)
    (path,) = tmp_path.rglob("runs/**/*.json")
    assert "stored, skipped" in cli("run", "--config", path).out
    assert cli("run", "--config", path, "--seeds", 3, "--device", "cpu").code == 0
    results = stored(tmp_path / "runs")
    assert results["balpoe", 3].config.hyperparameters["taus"] == [0.7, 1.3]
    assert trainings == [("BalPoE", 0), ("BalPoE", 3)]


@pytest.mark.slow
def test_posthoc_adjustment_starts_from_the_stored_cross_entropy_run(cli, tmp_path, trainings):
    cli(*RUN, "--method", "ce")
    (path,) = tmp_path.rglob("ce/*.json")
    age = path.stat().st_mtime_ns
    assert cli(*RUN, "--method", "logit_adjustment_posthoc").code == 0
    assert trainings == [("CrossEntropy", 0)]
    assert path.stat().st_mtime_ns == age
    results = stored(tmp_path / "runs")
    assert set(results) == {("ce", 0), ("logit_adjustment_posthoc", 0)}
    adjusted, ce = results["logit_adjustment_posthoc", 0], results["ce", 0]
    assert adjusted.method.uses == {"ce": ce.run_id}
    assert adjusted.cost.training_seconds == ce.cost.training_seconds
    assert adjusted.test.bins != ce.test.bins


@pytest.mark.slow
def test_posthoc_adjustment_trains_cross_entropy_where_there_is_none(cli, tmp_path, trainings):
    assert cli(*RUN, "--method", "logit_adjustment_posthoc", "--set", "mixup=0.2").code == 0
    assert trainings == [("CrossEntropy", 0)]
    assert stored(tmp_path / "runs")["ce", 0].config.hyperparameters == {"mixup": 0.2}


REPRODUCED = [
    {},
    {"method": "ce", "seed": 7, "epochs": 3},
    {"recipe": "long", "batch_size": 32, "lr": 0.0123456789, "data_seed": 3},
    {"imbalance": "step", "class_order": "drawn"},
    {"imbalance_ratio": 12.3456789, "precision": "bf16", "validation": True},
    {"hyperparameters": {"mixup": 0.123456789, "taus": [-0.5, 1.23456789]}},
    {"hyperparameters": {"taus": [1]}},
    {"batch_norm_images": 32},
    {"hyperparameters": {"taus": [[0.0] * 10, [2.0] * 9 + [1.23456789]]}},
    {"dataset": "folder-lt", "backbone": "resnet18", "image_size": 96, "cache_resized": 128, "decode": "gpu"},
    {"method": "logit_adjustment_posthoc", "validation": True, "hyperparameters": {"select_tau": True}},
    {"method": "logit_adjustment", "hyperparameters": {"tau": 1e-7}},
    {"method": "vs"},
    {"method": "ncl", "dataset": "cifar100-lt", "recipe": "paper", "epochs": 7},
]


@pytest.mark.slow
@pytest.mark.parametrize("settings", REPRODUCED, ids=str)
def test_the_command_to_reproduce_a_run_describes_the_same_run(cli, monkeypatch, tmp_path, make_result, settings):
    config = resolve(RunConfig(**settings)).config
    asked = []
    monkeypatch.setattr(sweep, "run_all", lambda configs, options, *_: asked.append((configs, options.rerun)) or [])
    monkeypatch.setattr("ltbench.runs.data_folder.check_data_is_there", lambda *_: None)
    result = make_result().model_copy(update={"config": config})
    words = shlex.split(reproduce_command(result, tmp_path / "result.json"))
    assert words[0] == "ltbench"
    assert cli(*words[1:]).code == 0
    ((configs, rerun),) = asked
    assert [resolve(one).config for one in configs] == [config]
    assert rerun


def test_a_run_of_several_processes_is_reproduced_by_as_many(tmp_path, make_result):
    config = resolve(RunConfig(batch_norm_images=16)).config
    ways = [BatchSplit(processes=1, accumulate=4, batch_norm_images=16)]
    ways.append(BatchSplit(processes=2, accumulate=2, batch_norm_images=16))
    result = make_result().model_copy(update={"config": config})
    words = reproduce_command(result, tmp_path / "result.json", ways)
    assert words.startswith("torchrun --standalone --nproc-per-node 2 -m ltbench run --method balpoe")
    assert "--batch-norm-images 16" in words
    assert "--accumulate 2" in words


@pytest.mark.slow
def test_a_run_with_a_table_of_labels_is_reproduced_with_it(cli, tmp_path):
    """Also by the commands of a report; without it, the folders would be the classes."""
    names = [f"{folder}/{i}.png" for folder in "ab" for i in range(10)]
    for number, name in enumerate(names):
        (tmp_path / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (10 * number,) * 3).save(tmp_path / "mine" / name)
    rows = "".join(f"{name},{'xy'[number % 2]}\n" for number, name in enumerate(names))
    (tmp_path / "mine" / "other.csv").write_text("photo,kind\n" + rows)
    words = ("--dataset", "folder-lt", "--data-dir", "mine", "--labels", "other.csv", "--label-columns", "photo,kind")
    done = cli("run", "--method", "ce,focal", *words, "--image-size", 8, "--epochs", 1, "--backbone", "cifar_resnet8")
    assert done.code == 0, done.err
    path = next((tmp_path / "runs" / "folder-lt" / "ce").glob("*.json"))
    stored = json.loads(path.read_text())
    assert (stored["data"]["classes"], stored["config"]["labels"]) == (["x", "y"], None)
    reproduce = shlex.split(cli("show", path.stem).out.splitlines()[-1].removeprefix("reproduce "))
    lacking = next(line for line in cli("report").out.splitlines() if "--seeds 0-4" in line)
    for command in (reproduce, [*shlex.split(lacking), "--epochs", "1"]):
        again = [word.replace("DIR", "mine") for word in command[1:]]
        assert cli(*again, *(["--rerun"] if command is not reproduce else [])).code == 0
    found = [json.loads(one.read_text()) for one in (tmp_path / "runs").rglob("*.json")]
    assert {tuple(one["data"]["classes"]) for one in found} == {("x", "y")}
    assert sum(one["config"]["method"] == "ce" for one in found) == 5


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mine", "standard"])
def test_a_run_with_a_recipe_of_the_users_own_is_reproduced_from_its_file(cli, tmp_path, trainings, name):
    (tmp_path / f"{name}.toml").write_text("epochs = 1\nmomentum = 0.5\n")
    cli("run", "--method", "ce", "--recipe", f"{name}.toml", "--device", "cpu")
    (path,) = tmp_path.rglob("runs/**/*.json")
    (tmp_path / f"{name}.toml").unlink()
    reproduce = cli("show", path.stem).out.splitlines()[-1].removeprefix("reproduce ").split()
    assert reproduce == ["ltbench", "run", "--config", str(path.relative_to(tmp_path)), "--rerun"]
    assert cli(*reproduce[1:], "--device", "cpu").code == 0
    assert len(trainings) == 2
    assert list(tmp_path.rglob("runs/**/*.json")) == [path]


@pytest.mark.slow
def test_show_prints_a_run_and_a_command_that_can_be_copied(cli, tmp_path, trainings):
    learns = ("--batch-size", 8, "--lr", 0.03)  # enough for a temperature
    cli(*RUN, *learns, "--method", "balpoe", "--set", "mixup=0.3", "--validation")
    (path,) = tmp_path.rglob("runs/**/*.json")
    result = read(path)
    for name in (path.stem[:5], path.stem, path):
        shown = cli("show", name)
        assert (shown.code, shown.err) == (0, "")
        for word in (
            f"{result.run_id} (done)",
            "mixup=0.3",
            "taus=0,1,2",
            "cifar_resnet8",
            "standard",
            "validation",
            "3, which share conv1, bn1, layer1; each has its own layer2, layer3",
        ):
            assert word in " ".join(shown.out.split()), word
        assert f"top-1 {result.test.top1:.2f}" in shown.out
    reproduce = shown.out.splitlines()[-1].removeprefix("reproduce ").strip()
    assert cli(*shlex.split(reproduce)[1:]).code == 0
    assert len(trainings) == 2
    assert list(tmp_path.rglob("runs/**/*.json")) == [path]


def test_show_prints_a_run_of_a_method_that_is_not_at_hand(cli, tmp_path, make_result):
    path = Store(tmp_path / "runs").save(make_result("theirs", status="failed", reason="the loss is nan"))
    shown = cli("show", path.stem)
    assert shown.code == 0
    assert "(failed: the loss is nan)" in shown.out


@pytest.mark.slow
def test_a_method_of_ones_own(cli, tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "mine.py").write_text(
        '"""Mine."""\nfrom ltbench_methods.ce import CrossEntropy\n\nclass Mine(CrossEntropy):\n    """Just mine."""\n'
    )
    assert cli(*RUN, "--method", "mine", "--methods-dir", "own").code == 0
    assert stored(tmp_path / "runs")["mine", 0].method.revision.startswith("file ")
    assert re.search(r"^mine +baseline +Just mine\.$", cli("list", "methods", "--methods-dir", "own").out, re.M)


def test_a_report_says_what_it_leaves_out_and_merges_folders(cli, tmp_path, make_result):
    here, there = Store(tmp_path / "here"), Store(tmp_path / "there")
    here.save(make_result(seed=0, top1=40.0))
    there.save(make_result(seed=0, top1=40.0))
    there.save(make_result(seed=1, top1=50.0))
    failed = there.save(make_result(seed=2, status="failed", reason="the loss is nan"))
    stopped = there.save(make_result(seed=3, status="interrupted", reason="stopped by the user"))
    damaged = there.save(make_result(seed=4))
    damaged.write_text("{")
    done = cli("report", "--results", "here", "--results", "there", "--format", "json")
    assert done.code == 0
    (row,) = json.loads(done.out)
    assert (row["n"], row["top1"]) == (2, 45.0)
    assert f"left out: {failed.relative_to(tmp_path)}: failed: the loss is nan" in done.err
    assert f"left out: {stopped.relative_to(tmp_path)}: interrupted: stopped by the user" in done.err
    assert str(damaged.relative_to(tmp_path)) in done.err
    assert done.err.count("left out:") == 4
    assert done.err.endswith(
        "6 result files; left out: 1 not readable, 1 failed, 1 interrupted, 1 of runs that stand there twice.\n"
    )


def test_lists(cli):
    for what, names in {
        "methods": registry.method_names(),
        "datasets": registry.dataset_names(),
        "backbones": ["cifar_resnet20", "cifar_resnet32", "resnet50"],
        "recipes": ["long", "standard"],
    }.items():
        done = cli("list", what)
        assert (done.code, done.err) == (0, "")
        assert set(names) <= {line.split()[0] for line in done.out.splitlines()}, what


def test_doctor_says_what_is_there(cli, tmp_path):
    done = cli("doctor", "--data-dir", "data")
    assert done.code == 0
    lines = dict(re.split(r"  +", line, maxsplit=1) for line in done.out.splitlines())
    assert {"python", "ltbench", "torch", "timm", "device", "cache folder", "data folder"} <= set(lines)
    assert lines["digits-lt"] == "ready"
    assert lines["cifar10-lt"] == "not there; ltbench data prepare cifar10-lt"
    assert lines["data folder"] == str(tmp_path / "data")


@pytest.mark.slow
def test_a_data_set_is_verified(cli, tmp_path):
    done = cli("data", "verify", "digits-lt")
    lines = dict(re.split(r"  +", line, maxsplit=1) for line in done.out.splitlines())
    assert (lines["classes"], lines["test images"]) == ("10", "400")
    assert lines["training images"] == "464, 138 to 6 a class"
    cli(*RUN, "--method", "ce")
    fingerprints = stored(tmp_path / "runs")["ce", 0].data.fingerprints
    assert {name: lines[f"fingerprint of {name}"] for name in ("train", "test")} == fingerprints
    assert "a class" in cli("data", "verify", "digits-lt", "--imbalance-ratio", 1).out
    assert cli("data", "prepare", "digits-lt").code == 0


@pytest.mark.slow
def test_a_run_that_diverges_is_stored_as_failed_and_the_others_go_on(cli, tmp_path, trainings):
    (tmp_path / "runs.toml").write_text(
        "method = 'ce'\nepochs = 1\n[[runs]]\nlr = 1e30\n[[runs]]\nlr = 0.1\nseed = 1\n"
    )
    done = cli("run", "--config", "runs.toml", "--device", "cpu")
    assert done.code == 1
    results = stored(tmp_path / "runs")
    failed = results["ce", 0]
    assert (failed.status, failed.test, results["ce", 1].status) == ("failed", None, "done")
    assert re.match("the loss is (nan|inf) in epoch 1", failed.reason)
    assert f"ce on digits-lt, seed 0: failed: {failed.reason}" in done.out
    again = cli("run", "--config", "runs.toml", "--device", "cpu")
    assert (again.code, again.out.count("stored, skipped")) == (1, 1)
    assert trainings == [("CrossEntropy", 0), ("CrossEntropy", 1), ("CrossEntropy", 0)]
    assert f"failed: {failed.reason}" in cli("report").err


@pytest.mark.slow
def test_a_posthoc_run_on_a_run_that_fails_fails_with_its_reason(cli, tmp_path):
    assert cli(*RUN, "--method", "logit_adjustment_posthoc", "--lr", 1e30).code == 1
    results = stored(tmp_path / "runs")
    assert {result.status for result in results.values()} == {"failed"}
    reason = results["logit_adjustment_posthoc", 0].reason
    assert results["ce", 0].run_id in reason
    assert reason.endswith(results["ce", 0].reason)


@pytest.mark.slow
def test_a_run_that_is_stopped_says_how_to_go_on(cli, tmp_path, monkeypatch):
    def stop(*args, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("ltbench.runs.train.fit", stop)
        done = cli(*RUN, "--method", "ce")
    assert done.code == 130
    assert "the same command resumes" in done.err
    assert stored(tmp_path / "runs")["ce", 0].status == "interrupted"
    assert cli(*RUN, "--method", "ce").code == 0
    assert stored(tmp_path / "runs")["ce", 0].status == "done"


@pytest.mark.slow
@pytest.mark.filterwarnings("default::ltbench.errors.LtbenchWarning")
def test_a_warning_is_one_line_without_its_source(cli):
    done = cli(*RUN, "--set", "taus=0,1")
    assert done.code == 0
    assert done.notes == ("ltbench: note: the taus average to 0.5 and not to one: the combined prediction is biased\n")


@pytest.mark.slow
def test_help_is_fast_because_it_imports_no_heavy_library():
    code = """
import runpy, sys
sys.argv = ["ltbench", *sys.argv[1:]]
try:
    runpy.run_module("ltbench", run_name="__main__")
finally:
    print("heavy:", sorted({"torch", "timm", "pandas", "optuna", "numpy", "sklearn", "pydantic"} & set(sys.modules)))
"""
    # Options of a command are checked by pydantic's models, which the list of commands need not wait for.
    for words, heavy in ((["--help"], []), (["run", "--help"], ["pydantic"]), (["tune", "--help"], ["pydantic"])):
        done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        assert "Usage: " in done.stdout
        assert done.stdout.endswith(f"heavy: {heavy}\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("list", "methods", "balpoe", "--format", "md"), "the page is about all methods"),
        (("list", "methods", "--results", "runs"), "only the page about methods takes costs from results"),
        (("tune", "--method", "ce", "--seed", -1), "--seed"),
    ],
)
def test_options_that_would_be_ignored_or_misread_are_refused(cli, words, said):
    done = cli(*words)
    assert done.code == 2
    assert said in done.err
    assert "--seeds" not in done.err


def test_the_folder_of_a_users_images_is_named_in_commands(tmp_path, monkeypatch):
    """A folder data/ that has something else in it is no reason to leave it out."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "cifar-100-python").mkdir(parents=True)
    config = RunConfig(dataset="folder-lt")
    assert folder_options(config) == ["--data-dir", "DIR"]
    assert folder_options(config, tmp_path / "photos") == ["--data-dir", str(tmp_path / "photos")]
    assert folder_options(RunConfig(dataset="digits-lt")) == []
