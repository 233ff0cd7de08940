"""Pruning: what is ended early, what is kept, and that a search with it is as exact as one without."""

import functools
import json
import multiprocessing
import os
import signal
import tomllib
from dataclasses import replace

import pytest
from optuna.trial import TrialState

from ltbench.errors import LtbenchError
from ltbench.results.store import read
from ltbench.runs import run, search_journal, train, tune
from ltbench.runs.launchers import local
from ltbench.runs.options import RunOptions
from ltbench.runs.search_settings import SearchSettings
from ltbench.runs.shared_search import tune_shared
from tests.runs.searches import BASE, trials_in

pytestmark = pytest.mark.usefixtures("small_network")
RANDOM, MEDIAN, HYPERBAND = (SearchSettings(sampler="random", pruner=name) for name in ("none", "median", "hyperband"))


def states(folder):
    return [trial.state.name for trial in trials_in(folder)]


@pytest.mark.slow
@pytest.mark.parametrize("settings", [MEDIAN, HYPERBAND], ids=["median", "hyperband"])
def test_pruning_prunes_and_finds_the_same_best_trial_for_nine_seeds_of_ten(search, tmp_path, curves, settings):
    same, epochs, pruned = 0, [0, 0], []
    for seed in range(10):
        base, found = BASE.replace(seed=seed), []
        for one in (RANDOM, settings):
            ended = curves(seed)
            found.append(search(20, base, name=f"{one.pruner} {seed}", settings=one))
            epochs[one is settings] += sum(trained for _, trained in ended)
        same += found[0].best == found[1].best
        pruned.append(found[1].pruned)
        assert states(tmp_path / f"{settings.pruner} {seed}").count("PRUNED") == found[1].pruned
        assert (found[0].pruned, found[1].trials, found[1].failed) == (0, 20, 0)
    assert same >= 9
    assert min(pruned) > 0
    assert epochs[0] == 10 * 20 * 10
    assert epochs[1] < 0.9 * epochs[0]


def test_a_pruned_trial_is_on_record_and_never_the_best(search, tmp_path, curves):
    curves()
    found = search(20, settings=MEDIAN)
    trials = trials_in(tmp_path / "search")
    assert {trial.state for trial in trials[:5]} == {TrialState.COMPLETE}, "the median takes five of them"
    pruned = [trial for trial in trials if trial.state == TrialState.PRUNED]
    assert found.pruned == len(pruned) > 0
    tuning = tomllib.loads(found.best_file.read_text())["tuning"]
    assert (tuning["pruner"], tuning["sampler"], tuning["pruned"]) == ("median", "random", len(pruned))
    assert trials[tuning["best_trial"]].state == TrialState.COMPLETE
    for trial in pruned:
        assert tuning["history"][trial.number] == {
            "number": trial.number,
            "params": {"mixup": round(trial.params["mixup"], 4)},
            "pruned_after": trial.last_step,
            "last_macro": trial.value,
        }
        assert 5 <= trial.last_step < 10
        others = [one.intermediate_values[trial.last_step] for one in trials[: trial.number] if one not in pruned]
        assert max(trial.intermediate_values.values()) < sorted(others)[len(others) // 2], "below the median"
    best = tuning["best_trial"]
    study = trials[best].user_attrs
    assert found.best.hyperparameters == study["hyperparameters"]


def test_a_pruned_trial_is_not_the_best_though_it_was_ahead_when_it_ended(search, curves, monkeypatch):
    """The last trial is at 100 % when it ends."""
    curves()
    works = tune.run

    def ahead(config, options):
        made = works(config, options)
        if len(options.pruning.trials) == 5:
            curve = made.validation_curve.model_copy(update={"values": {5: 100.0}})
            update = {"status": "pruned", "reason": "so", "metrics": {}, "validation_curve": curve}
            return made.model_copy(update=update)
        return made

    monkeypatch.setattr(tune, "run", ahead)
    found = search(6, settings=MEDIAN)
    assert (found.pruned, found.values[0] < 91) == (1, True)


def on_record(folder):
    return [
        (one.state, one.params, one.value, one.intermediate_values, one.user_attrs, one.system_attrs)
        for one in trials_in(folder)
    ]


@pytest.fixture
def workers(monkeypatch):
    """Worker processes that take no time and end in the order of our choice."""

    def install(pick):
        class Pool:
            def __init__(self, count, options):
                self.options, self.jobs = options, []

            def __enter__(self):
                return self

            def __exit__(self, *error):
                pass

            def start(self, position, config, pruning):
                self.jobs.append((position, config, pruning))

            def next_result(self):
                position, config, pruning = self.jobs.pop(pick)
                return position, tune.run(config, replace(self.options, pruning=pruning)), False

        monkeypatch.setattr(local, "WorkerPool", Pool)

    return install


@pytest.mark.parametrize("settings", [MEDIAN, HYPERBAND], ids=["median", "hyperband"])
def test_what_is_pruned_does_not_depend_on_which_worker_is_faster(search, tmp_path, curves, workers, settings):
    curves()
    for name, pick in (("first", 0), ("last", -1)):
        workers(pick)
        search(20, name=name, parallel=3, settings=settings)
    assert on_record(tmp_path / "first") == on_record(tmp_path / "last")
    assert "PRUNED" in states(tmp_path / "first")


@pytest.mark.slow
@pytest.mark.parametrize("parallel", [1, 3])
@pytest.mark.parametrize("settings", [MEDIAN, HYPERBAND], ids=["median", "hyperband"])
@pytest.mark.filterwarnings("ignore:.*the last line was not written whole:ltbench.errors.LtbenchWarning")
def test_a_search_with_pruning_that_is_killed_ends_as_an_undisturbed_one(
    search, tmp_path, curves, workers, settings, parallel
):
    curves()
    workers(0)
    work = functools.partial(search, 12, parallel=parallel, settings=settings)
    work(name="whole")
    assert "PRUNED" in states(tmp_path / "whole")
    lines = (tmp_path / "whole" / "study.journal").read_bytes().count(b"\n")
    append = search_journal._Journal.append_logs
    for number in range(60, lines, 17):
        written = []

        def killed(self, logs, written=written, number=number):
            written.append(logs)
            if len(written) == number:
                with self.path.open("a") as file:
                    file.write(json.dumps(logs[0])[:9])
                os.kill(os.getpid(), signal.SIGKILL)
            append(self, logs)

        def run_killed(name, killed=killed):
            search_journal._Journal.append_logs = killed
            work(name=name)

        process = multiprocessing.get_context("fork").Process(target=run_killed, args=(f"killed {number}",))
        process.start()
        process.join(60)
        assert process.exitcode == -signal.SIGKILL
        work(name=f"killed {number}")
        assert on_record(tmp_path / f"killed {number}") == on_record(tmp_path / "whole")
        best = [(tmp_path / name / "best.toml").read_bytes() for name in ("whole", f"killed {number}")]
        assert best[0] == best[1]


@pytest.mark.slow
@pytest.mark.parametrize("settings", [MEDIAN, HYPERBAND], ids=["median", "hyperband"])
def test_workers_on_a_storage_prune(tmp_path, curves, settings):
    ended = curves()
    url = f"sqlite:///{tmp_path}/search.db"
    found = tune_shared(BASE, 12, tmp_path / "search", url, RunOptions(device="cpu"), settings=settings)
    assert (found.trials, found.failed) == (12, 0)
    assert found.pruned == sum(trained < 10 for _, trained in ended) > 0


def test_pruning_with_several_objectives_is_refused(search):
    with pytest.raises(LtbenchError, match="may be ahead in another, so none can end early"):
        search(2, settings=SearchSettings(objectives=("macro", "ece"), pruner="median"))


@pytest.mark.slow
def test_trials_of_a_network_are_pruned_stored_as_pruned_and_cost_what_they_trained(search, tmp_path):
    """Real training at a flat rate: there are values after three and four of four epochs."""
    base = BASE.replace(epochs=None, recipe={"name": "flat", "epochs": 4, "milestones": [], "warmup": 0, "lr": 0.03})
    base = base.replace(lr=None, batch_size=32)
    found = search(6, base, settings=HYPERBAND)
    results = [read(path) for path in sorted((tmp_path / "search" / "runs").rglob("*.json"))]
    assert {result.status for result in results} == {"done", "pruned"}
    assert sum(result.status == "pruned" for result in results) == found.pruned
    for result in results:
        assert result.validation_curve.first == 3
        assert list(result.validation_curve.values) == ([3, 4] if result.status == "done" else [3])
        assert len(result.curve) == (4 if result.status == "done" else 3)
        if result.status == "done":
            assert result.validation_curve.values[4] == result.metrics["validation"].macro
        else:
            assert result.metrics == {}
            assert (
                result.reason == f"after 3 epochs: macro {result.validation_curve.values[3]:.2f} on validation images"
            )
            assert result.cost.training_seconds > 0
    pruned = next(result for result in results if result.status == "pruned")
    again = run.run(pruned.config, RunOptions(device="cpu", out=tmp_path / "search" / "runs", evaluate_test=False))
    assert (again.status, again.run_id, len(again.curve)) == ("done", pruned.run_id, 4), "goes on from its checkpoint"
    assert again.curve[:3] == pruned.curve


def test_a_search_without_a_complete_trial_says_what_became_of_them(search, curves, monkeypatch):
    curves()
    works, count = tune.run, []

    def ends(config, options):
        count.append(config)
        made = works(config, options)
        if len(count) == 1:
            return made.model_copy(update={"status": "failed", "reason": "bad luck", "metrics": {}})
        return made.model_copy(update={"status": "pruned", "reason": "so", "metrics": {}})

    monkeypatch.setattr(tune, "run", ends)
    with pytest.raises(LtbenchError, match="no trial is complete: 2 were pruned, and 1 failed"):
        search(3, settings=MEDIAN)


def test_a_metric_that_the_data_do_not_have_fails_the_trial_when_it_is_measured_first(search, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "shot_groups", lambda data: {"many": [0], "medium": [1], "few": []})
    with pytest.raises(LtbenchError, match="all 1 trials failed, the last: there is no few without such classes"):
        search(1, BASE.replace(batch_size=64), settings=SearchSettings(objectives=("few",), pruner="median"))
