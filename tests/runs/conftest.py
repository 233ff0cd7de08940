"""Searches for hyper-parameters, with trials that are trained, or with such as take no time."""

import functools

import optuna
import pytest

from ltbench.runs import tune
from ltbench.runs.launchers import local
from ltbench.runs.options import RunOptions
from tests.runs.searches import BASE


@pytest.fixture
def search(tmp_path):
    """Search in a folder of the test's own."""

    def run(trials, base=BASE, name="search", **options):
        return tune.tune(base, trials, tmp_path / name, RunOptions(device="cpu"), **options)

    return run


@pytest.fixture
def pool(monkeypatch, make_result):
    """Replace the workers by ones that end in the order of our choice, and take no time."""

    def install(pick, stop_after=99):
        ended = []

        class Pool:
            def __init__(self, count, options):
                self.count, self.under_way = count, []

            def __enter__(self):
                return self

            def __exit__(self, *error):
                pass

            def start(self, position, config):
                self.under_way.append((position, config))
                assert len(self.under_way) <= self.count

            def next_result(self):
                if len(ended) == stop_after:
                    raise KeyboardInterrupt
                position, config = self.under_way.pop(pick)
                ended.append(config)
                mixup = config.hyperparameters["mixup"]
                result = make_result(settings={"hyperparameters": {"mixup": mixup}}, macro=90 - (mixup - 0.3) ** 2)
                return position, result.model_copy(update={"metrics": {"validation": result.test}}), False

        monkeypatch.setattr(local, "WorkerPool", Pool)
        return ended

    eager = functools.partial(optuna.samplers.TPESampler, n_startup_trials=2)
    monkeypatch.setattr(optuna.samplers, "TPESampler", eager)
    return install


@pytest.fixture
def at_once(monkeypatch, make_result):
    """Trials that take no time, one worker."""

    def result(config, options):
        mixup = config.hyperparameters["mixup"]
        made = make_result(settings={"hyperparameters": {"mixup": mixup}}, macro=90 - (mixup - 0.3) ** 2)
        return made.model_copy(update={"metrics": {"validation": made.test}})

    monkeypatch.setattr(tune, "run", result)
    eager = functools.partial(optuna.samplers.TPESampler, n_startup_trials=2)
    monkeypatch.setattr(optuna.samplers, "TPESampler", eager)
