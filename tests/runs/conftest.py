"""Searches for hyper-parameters, with trials that are trained, or with such as take no time."""

import functools

import numpy as np
import optuna
import pytest

from ltbench.results.records import ValidationRecord
from ltbench.runs import shared_search, tune
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

            def start(self, position, config, pruning=None):
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


@pytest.fixture
def curves(monkeypatch, make_result):
    """Trials of ten epochs that take no time, and are measured after each from the fifth on: slow at first, and noisy.

    ``install(seed)`` gives the list of what was carried out.
    """

    def install(seed=0, noise=0.3):
        ended = []

        def result(config, options):
            mixup = config.hyperparameters["mixup"]
            final = 90 - 40 * (mixup - 0.3) ** 2
            drawn = np.random.default_rng([seed, int(1e4 * mixup)]).normal(0, noise, 11)
            values = {}
            made = make_result(settings={"hyperparameters": {"mixup": mixup}}, macro=final + drawn[10])
            for epochs in range(5, 11):
                values[epochs] = final + drawn[epochs] - (10 - epochs)
                if options.pruning is not None and epochs < 10 and options.pruning.ends(values, 5, 10):
                    made = made.model_copy(update={"status": "pruned", "reason": options.pruning.reason(values)})
                    break
            record = ValidationRecord(metric="macro", values=values, first=5, epochs=10)
            metrics = {} if made.status == "pruned" else {"validation": made.test}
            ended.append((mixup, epochs))
            curve = record if options.pruning is not None else None
            return made.model_copy(update={"metrics": metrics, "validation_curve": curve})

        for module in (tune, shared_search):
            monkeypatch.setattr(module, "run", result)
        return ended

    return install
