"""The search for hyper-parameters: what it looks at, that it goes on, and what comes of it."""

import json
import shlex
import tomllib
from dataclasses import replace

import numpy as np
import optuna
import pytest
import timm
from optuna.trial import TrialState
from safetensors.torch import save_file

from ltbench import registry
from ltbench.config import RunConfig
from ltbench.data.datasets.digits import Digits
from ltbench.errors import LtbenchError
from ltbench.method import Range
from ltbench.results.store import Store, read
from ltbench.runs import run, train, tune
from ltbench.runs.options import RunOptions
from ltbench.runs.resolve import check_search, resolve, search_space
from ltbench.runs.tune import SearchIdentity
from tests.runs.searches import BASE, outcomes, study_in, trials_in

pytestmark = pytest.mark.usefixtures("small_network")


@pytest.fixture(scope="module")
def _trained_trials():
    return {}


@pytest.fixture
def each_trial_once(monkeypatch, _trained_trials):
    """Train a trial once for all tests with this, which look at searches: an equal one stores its result at once."""
    train_trial = tune.run

    def once(config, options):
        assert options.pruning is None, "what ends early depends on other trials"
        key = (config.model_dump_json(), options.evaluate_test)
        if key not in _trained_trials:
            _trained_trials[key] = train_trial(config, options)
        Store(options.out).save(_trained_trials[key])
        return _trained_trials[key]

    monkeypatch.setattr(tune, "run", once)


@pytest.mark.slow
def test_trials_are_runs_that_leave_the_test_set_alone(search, tmp_path):
    told = []
    found = search(2, on_trial=told.append)
    results = [read(path) for path in sorted((tmp_path / "search" / "runs").rglob("*.json"))]
    assert len(results) == found.trials == len(told) == 2
    for result in results:
        assert result.config.validation
        assert result.config.seed == 1000
        assert set(result.metrics) == {"validation"}
        assert result.test is None
    by_id = {result.run_id: result for result in results}
    for trial in trials_in(tmp_path / "search"):
        result = by_id[trial.user_attrs["run_id"]]
        assert trial.value == result.metrics["validation"].macro
        assert trial.user_attrs["ece"] == result.metrics["validation"].ece
        assert result.config.hyperparameters == {"mixup": round(trial.params["mixup"], 4)}
    first, second = (result.metrics["validation"].macro for result in results)
    assert first != second
    assert found.accuracy == max(first, second)
    (best,) = (result for result in results if result.metrics["validation"].macro == found.accuracy)
    assert found.best == BASE.replace(hyperparameters=best.config.hyperparameters, seed=0)


@pytest.mark.slow
def test_the_labels_of_the_test_set_change_nothing(search, tmp_path, monkeypatch):
    search(2, name="true")
    load = Digits.load

    def scrambled(self, folder, image_size):
        raw = load(self, folder, image_size)
        labels = np.random.default_rng(0).permutation(raw.test.labels)
        return replace(raw, test=replace(raw.test, labels=labels, images=raw.test.images[::-1].copy()))

    monkeypatch.setattr(Digits, "load", scrambled)
    search(2, name="scrambled")
    assert outcomes(tmp_path / "true") == outcomes(tmp_path / "scrambled")
    assert len({value for _, value, _ in outcomes(tmp_path / "true")}) == 2
    ids = [{trial.user_attrs["run_id"] for trial in trials_in(tmp_path / name)} for name in ("true", "scrambled")]
    assert not ids[0] & ids[1]  # really trained on the other data


@pytest.mark.slow
@pytest.mark.usefixtures("each_trial_once")
def test_a_search_goes_on_where_it_was_and_ends_as_if_never_stopped(search, tmp_path):
    assert search(1, name="parts").trials == 1
    assert search(3, name="parts").trials == 3
    assert len(trials_in(tmp_path / "parts")) == 3
    search(3, name="whole")
    assert outcomes(tmp_path / "parts") == outcomes(tmp_path / "whole")
    best = [(tmp_path / name / "best.toml").read_text() for name in ("parts", "whole")]
    assert best[0] == best[1]


@pytest.mark.slow
@pytest.mark.usefixtures("each_trial_once")
def test_a_search_that_is_complete_trains_nothing(search, tmp_path, monkeypatch):
    first = search(2)
    monkeypatch.setattr(tune, "run", None)
    assert search(1) == first
    assert search(2) == first


@pytest.mark.slow
@pytest.mark.usefixtures("each_trial_once")
def test_a_trial_that_was_killed_is_tried_again_with_the_same_parameters(search, tmp_path, monkeypatch):
    search(1, name="killed")

    def die(*args, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(tune, "run", die)
        with pytest.raises(KeyboardInterrupt):
            search(3, name="killed")
    killed = trials_in(tmp_path / "killed")[-1]
    assert killed.state == TrialState.RUNNING
    found = search(3, name="killed")
    assert (found.trials, found.failed) == (3, 0)
    after = trials_in(tmp_path / "killed")
    assert [trial.state for trial in after].count(TrialState.RUNNING) == 0
    assert (after[1].params, after[1].state) == (killed.params, TrialState.COMPLETE)
    assert [trial.number for trial in after] == [0, 1, 2]
    search(3, name="whole")
    assert outcomes(tmp_path / "killed") == outcomes(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.usefixtures("each_trial_once")
def test_a_killed_trial_keeps_parameters_that_would_not_be_drawn_again(search, tmp_path):
    search(1)
    study = study_in(tmp_path / "search")
    study.sampler = optuna.samplers.RandomSampler(seed=99)
    drawn = study.ask().suggest_float("mixup", 0.0, 1.0)
    search(2)
    assert [trial.state.name for trial in trials_in(tmp_path / "search")] == ["COMPLETE", "COMPLETE"]
    assert outcomes(tmp_path / "search")[1][0] == {"mixup": drawn}


@pytest.mark.slow
def test_a_trial_does_not_stand_in_for_a_run_that_looks_at_the_test_set(tmp_path):
    config = BASE.replace(validation=True)
    trial = RunOptions(device="cpu", out=tmp_path, evaluate_test=False)
    first = run.run(config, trial)
    assert run.run(config, trial) == first
    final = run.run(config, replace(trial, evaluate_test=True))
    assert set(final.metrics) == {"validation", "test"}
    assert final.metrics["validation"] == first.metrics["validation"]
    assert run.run(config, trial) == final  # which serves both


@pytest.mark.slow
def test_a_trial_that_failed_does_not_stand_in_for_a_run(tmp_path, monkeypatch):
    trained = []
    fit = train.fit
    monkeypatch.setattr("ltbench.runs.train.fit", lambda *args, **options: trained.append(1) or fit(*args, **options))
    config = BASE.replace(validation=True, lr=1e30)
    for _ in range(2):
        assert run.run(config, RunOptions(device="cpu", out=tmp_path, evaluate_test=False)).status == "failed"
    assert len(trained) == 2


def test_weights_normalised_in_another_way_make_another_search(tmp_path):
    """Their hash, which the settings have, does not tell what their ``config.json`` says."""
    save_file(timm.create_model("cifar_resnet8", in_chans=1).state_dict(), tmp_path / "model.safetensors")
    base, options = BASE.replace(weights=str(tmp_path)), RunOptions(device="cpu", out=tmp_path / "runs")
    found = []
    for mean in (0.1, 0.9):
        about = {"architecture": "cifar_resnet8", "pretrained_cfg": {"mean": [mean] * 3, "std": [0.25] * 3}}
        (tmp_path / "config.json").write_text(json.dumps(about))
        found.append(SearchIdentity.of(base, search_space(base), options))
    study = optuna.create_study()
    for name, value in found[0].facts.items():
        study.set_user_attr(name, value)
    assert found[0].differences(study) == []
    assert found[1].differences(study) == ["normalisation (config.json of the weights)"]


@pytest.mark.parametrize(
    "change",
    [{"method": "balanced_softmax"}, {"epochs": 2}, {"seed": 1}, {"lr": 0.2}, {"imbalance_ratio": 10}],
    ids=str,
)
def test_another_search_in_the_folder_is_refused(search, tmp_path, at_once, change):
    search(1)
    before = trials_in(tmp_path / "search")
    with pytest.raises(LtbenchError, match="the folder holds a search with other settings") as caught:
        search(2, BASE.replace(**change))
    assert str(tmp_path / "search") in str(caught.value)
    ((name, value),) = change.items()
    assert f"({name}: {getattr(BASE, name)} there, {value} here)" in str(caught.value)
    assert trials_in(tmp_path / "search") == before


@pytest.mark.slow
@pytest.mark.usefixtures("each_trial_once")
def test_failed_trials_count_and_do_not_win(search, tmp_path, monkeypatch):
    run = tune.run

    def sometimes(config, options):
        low = config.hyperparameters["mixup"] < threshold
        return run(config.replace(lr=1e30) if low else config, options)

    search(3, name="fair")
    mixups = sorted(params["mixup"] for params, *_ in outcomes(tmp_path / "fair"))
    threshold = mixups[1]
    monkeypatch.setattr(tune, "run", sometimes)
    found = search(3)
    assert (found.trials, found.failed) == (3, 1)
    assert found.best.hyperparameters["mixup"] >= threshold
    (failed,) = (trial for trial in trials_in(tmp_path / "search") if trial.state == TrialState.FAIL)
    assert failed.user_attrs["reason"].startswith("the loss is ")
    history = tomllib.loads(found.best_file.read_text())["tuning"]["history"]
    assert [set(trial) for trial in history if trial["number"] == failed.number] == [{"number", "params", "reason"}]
    with monkeypatch.context() as patched:
        patched.setattr(tune, "run", None)
        assert search(3).failed == 1  # a failure is an outcome: not tried again


@pytest.mark.slow
def test_a_search_in_which_every_trial_fails_says_why(search, tmp_path):
    with pytest.raises(LtbenchError, match="all 2 trials failed, the last: the loss is "):
        search(2, BASE.replace(lr=1e30))
    assert not (tmp_path / "search" / "best.toml").exists()


@pytest.mark.slow
def test_what_is_fixed_is_not_searched(search, tmp_path):
    found = search(1, BASE.replace(method="logit_adjustment", hyperparameters={"mixup": 0.3}))
    (trial,) = trials_in(tmp_path / "search")
    assert set(trial.params) == {"tau"}
    assert found.best.hyperparameters["mixup"] == 0.3


@pytest.mark.slow
def test_balpoes_experts_are_searched_and_best_toml_has_their_taus(search, tmp_path):
    found = search(1, BASE.replace(method="balpoe"))
    (trial,) = trials_in(tmp_path / "search")
    assert set(trial.params) == {"experts", "spread", "mixup"}
    best = tomllib.loads(found.best_file.read_text())["hyperparameters"]
    assert len(best["taus"]) == trial.params["experts"]
    assert (max(best["taus"]) - min(best["taus"])) / 2 == pytest.approx(trial.params["spread"], abs=1e-4)
    short = {name: round(trial.params[name], 4) for name in ("spread", "mixup")}
    short["experts"] = trial.params["experts"]
    assert resolve(RunConfig(hyperparameters=short)).config == resolve(RunConfig(hyperparameters=best)).config


def test_what_is_off_is_searched_where_it_is_asked_for():
    base = BASE.replace(method="ce", hyperparameters={"mixup": 0.0, "sam_variant": "focal-sam"})
    space = search_space(base, ["sam", "sam_gamma"])
    assert space == {"sam": Range(0.01, 1.0, log=True), "sam_gamma": Range(0.5, 5.0)}
    checked = check_search(base, space)
    assert checked.config.hyperparameters == {
        "mixup": 0.0, "sam": 0.01, "sam_variant": "focal-sam", "sam_gamma": 0.5, "sam_share": 0.8,
    }  # fmt: skip
    assert set(search_space(BASE.replace(method="ce"))) == {"mixup"}
    assert set(registry.method("cutmix").Config.optional_space()) == {"sam", "sam_gamma", "sam_share"}


@pytest.mark.parametrize(
    ("settings", "search", "message"),
    [
        ({}, ["momentum"], "unknown setting to search 'momentum'"),
        ({"sam": 0.1}, ["sam"], "sam is both fixed and searched"),
        ({}, ["sam_gamma"], "sam_gamma is a setting of sam_variant=focal-sam and has no effect on sam"),
        ({"sam_variant": "imbsam"}, [], "sam_variant has no effect without a radius"),
        ({"mixup": 0.0}, [], "leaves nothing to search"),
    ],
)
def test_a_search_of_what_has_no_effect_is_refused(settings, search, message):
    base = BASE.replace(method="ce", hyperparameters=settings)
    with pytest.raises(LtbenchError) as error:
        check_search(base, search_space(base, search))
    assert message in str(error.value)


@pytest.mark.slow
def test_trials_have_the_radius_that_is_searched(search, tmp_path):
    base = BASE.replace(method="ce", hyperparameters={"mixup": 0.0})
    found = search(1, base, space=search_space(base, ["sam"]))
    (trial,) = trials_in(tmp_path / "search")
    assert set(trial.params) == {"sam"}
    assert found.best.hyperparameters == {"mixup": 0.0, "sam": round(trial.params["sam"], 4)}


@pytest.mark.slow
def test_a_search_with_several_workers_does_not_depend_on_who_is_first(search, tmp_path, pool):
    told = []
    for name, pick in (("first", 0), ("last", -1)):
        pool(pick)
        search(9, name=name, parallel=3, on_trial=told.append)
    assert outcomes(tmp_path / "first") == outcomes(tmp_path / "last")
    assert len(outcomes(tmp_path / "first")) == 9
    assert [trial.number for trial in told] == [*range(9), *range(9)]
    pool(0)
    search(9, name="two", parallel=2)
    assert outcomes(tmp_path / "two") != outcomes(tmp_path / "first"), "what is known when a trial is chosen counts"


def test_a_search_with_several_workers_that_is_stopped_goes_on_as_if_it_were_not(search, tmp_path, pool):
    pool(0)
    search(9, name="whole", parallel=3)
    pool(-1, stop_after=5)
    with pytest.raises(KeyboardInterrupt):
        search(9, name="stopped", parallel=3)
    assert [trial.state for trial in trials_in(tmp_path / "stopped")].count(TrialState.RUNNING) == 3
    pool(-1)
    assert search(9, name="stopped", parallel=3).trials == 9
    assert outcomes(tmp_path / "stopped") == outcomes(tmp_path / "whole")


def test_best_toml_is_written_anew_by_each_call_and_only_if_it_differs(search, at_once):
    file = search(2).best_file
    text, stamp = file.read_bytes(), file.stat().st_mtime_ns
    search(1)  # fewer than there are: nothing to do
    assert file.stat().st_mtime_ns == stamp
    file.write_text("changed by hand")
    search(2)
    assert file.read_bytes() == text


@pytest.mark.slow
def test_best_toml_is_replayed_with_the_search_on_record(cli, tmp_path):
    done = cli("tune", "--method", "ce", "--trials", 2, "--epochs", 1, "--device", "cpu", "--seed", 5)
    assert done.code == 0
    lines = done.out.splitlines()
    assert [line.split(":")[0] for line in lines[:2]] == ["trial 1", "trial 2"]
    assert lines[2].startswith("best of 2 trials (0 failed): validation macro accuracy ")
    command = shlex.split(lines[4].removeprefix("next: "))
    assert command == ["ltbench", "run", "--config", "tune/digits-lt-ce/best.toml", "--seeds", "0-4"]
    best = tomllib.loads((tmp_path / command[3]).read_text())
    assert (best["tuning"]["trials"], best["tuning"]["failed"], best["tuning"]["seed"]) == (2, 0, 5)
    assert "validation" in best["tuning"]["objective"]
    assert best["tuning"]["space"] == {"mixup": {"low": 0.0, "high": 1.0, "log": False}}
    trials = trials_in(tmp_path / "tune" / "digits-lt-ce")
    assert best["tuning"]["history"] == [
        {
            "number": trial.number,
            "params": {"mixup": round(trial.params["mixup"], 4)},
            "macro": trial.value,
            "ece": trial.user_attrs["ece"],
        }
        for trial in trials
    ]

    assert cli(*command[1:], "--seeds", "0-1", "--device", "cpu").code == 0
    results = [read(path) for path in sorted((tmp_path / "runs").rglob("*.json"))]
    assert sorted(result.config.seed for result in results) == [0, 1]
    for result in results:
        assert result.config.hyperparameters == best["hyperparameters"]
        assert not result.config.validation
        assert result.test is not None
        assert result.tuning == best["tuning"]
        assert result.config.recipe.epochs == 1


@pytest.mark.slow
def test_the_command_says_that_another_search_is_there(cli):
    words = ("tune", "--method", "ce", "--trials", 1, "--epochs", 1, "--device", "cpu", "--out", "here")
    assert cli(*words).code == 0
    done = cli(*words, "--lr", 0.3)
    assert done.code == 2
    assert "holds a search with other settings" in done.err
    assert "choose another --out" in done.err


def test_several_methods_have_a_search_each_with_the_same_budget(cli, tmp_path, monkeypatch, make_result):
    """The trials here take no time; those of vs all fail."""

    def result(config, options):
        made = make_result(config.method, macro=90.0, settings={"hyperparameters": config.hyperparameters})
        if config.method == "vs":
            return made.model_copy(update={"status": "failed", "reason": "bad luck", "metrics": {}})
        return made.model_copy(update={"metrics": {"validation": made.test}})

    monkeypatch.setattr(tune, "run", result)
    done = cli("tune", "--method", "ce,vs,balpoe", "--trials", 3, "--device", "cpu", "--out", "searches")
    assert done.code == 1
    assert "vs: all 3 trials failed, the last: bad luck" in done.err
    for method in ("ce", "balpoe"):
        best = tomllib.loads((tmp_path / "searches" / method / "best.toml").read_text())
        assert (best["method"], best["tuning"]["trials"]) == (method, 3)
        assert f"ltbench run --config searches/{method}/best.toml" in done.out
    alone = cli("tune", "--method", "ce", "--trials", 3, "--device", "cpu", "--out", "alone")
    assert alone.code == 0
    assert (tmp_path / "alone" / "best.toml").read_bytes() == (tmp_path / "searches" / "ce" / "best.toml").read_bytes()
