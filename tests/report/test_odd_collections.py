"""Valid results in odd company: few seeds, seeds of their own, failed runs, other lengths. No format may crash.

By hand, longer: ``LTBENCH_FUZZ_CASES=500 LTBENCH_FUZZ_SEED=7 pytest tests/report/test_odd_collections.py``.
"""

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest

CASES = int(os.environ.get("LTBENCH_FUZZ_CASES", "8"))
SEED = int(os.environ.get("LTBENCH_FUZZ_SEED", "0"))
RESULTS = Path(__file__).parents[2] / "results/suites/digits-lt"
METHODS = ("ce", "balanced_softmax", "logit_adjustment", "ldam_drw", "balpoe", "sade", "sade_tta", "crt", "paco")
VIEWS = (
    ("--format", "text", "--explain"),
    ("--format", "text", "--parts", "all", "--settings", "all"),
    ("--format", "text", "--sort", "method", "--columns", "rank,acc,few,train"),
    ("--format", "md"),
    ("--format", "csv"),
    ("--format", "json"),
    ("--format", "latex", "--parts", "all"),
    ("--format", "bibtex"),
    ("--format", "svg"),
    ("--format", "html"),
)
SLOW = {"html"}
"""Drawn for a case in twelve."""
ALWAYS_SHOWN = {"text", "md", "csv", "json"}
"""Formats that show a collection, however odd it is, if one run of it is done."""


def setting(rng: random.Random, trees: dict[str, list[dict[str, Any]]], first: int) -> list[dict[str, Any]]:
    """The runs of one setting: a method, its seeds from the first, and what is not as usual about it."""
    method = rng.choice(METHODS)
    seeds = [seed for seed in range(first, first + rng.choice((1, 2, 3, 3, 5, 5))) if rng.random() < 0.9]
    epochs = rng.choice((60, 60, 60, 6))
    mixup = rng.choice((None, None, 0.0, 0.4))
    dataset = rng.choice(("digits-lt", "digits-lt", "digits-lt", "cifar10-lt"))
    searched = rng.choice((None, None, None, {"trials": 20}))
    runs = []
    for seed in seeds:
        tree = json.loads(json.dumps(rng.choice(trees[method])))
        tree["run_id"], tree["config"]["seed"] = f"{rng.getrandbits(48):012x}", seed
        tree["config"]["recipe"]["epochs"], tree["config"]["dataset"] = epochs, dataset
        if mixup is not None:
            tree["config"]["hyperparameters"]["mixup"] = mixup
        tree["tuning"] = searched
        if rng.random() < 0.15:
            tree["status"], tree["reason"] = rng.choice(("failed", "interrupted")), "the loss is not finite"
            tree["metrics"], tree["outcomes"], tree["shift"], tree["cost"] = {}, None, None, None
        if rng.random() < 0.1:
            tree["outcomes"] = None
        if rng.random() < 0.1:
            tree["curve"] = []
        runs.append(tree)
    return runs


@pytest.fixture(scope="module")
def trees():
    """Stored results of the methods."""
    return {
        method: [json.loads(path.read_text()) for path in sorted((RESULTS / method).glob("*.json"))[:6]]
        for method in METHODS
    }


@pytest.mark.slow
@pytest.mark.usefixtures("leaderboards_once")
@pytest.mark.filterwarnings("ignore::ltbench.errors.LtbenchWarning")
@pytest.mark.parametrize("case", range(CASES))
def test_every_view_of_an_odd_collection(cli, tmp_path, trees, case):
    rng = random.Random(f"{SEED}-{case}")
    firsts = rng.choice(((0,), (0, 0), (0, 0, 0, 3), (0, 10, 20, 30), (0, 0, 0, 0, 7, 7, 7, 3)))
    runs = [run for first in firsts for run in setting(rng, trees, first)]
    for run in runs:
        (tmp_path / f"{run['run_id']}.json").write_text(json.dumps(run, indent=1))
    for view in VIEWS:
        if view[1] in SLOW and case % 12:
            continue
        said = cli("report", "--results", tmp_path, *view)
        assert said.code in (0, 1, 2), said.err
        if view[1] in ALWAYS_SHOWN:
            assert said.code == (0 if any(run["status"] == "done" for run in runs) else 2), (view, said.err)
        assert "Traceback" not in said.err
        assert "unexpected error" not in said.err, f"{view}: {said.err}"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ltbench.errors.LtbenchWarning")
@pytest.mark.parametrize("view", [*VIEWS, ("--figures", "reliability")])
def test_seeds_with_bins_of_their_own_numbers(cli, tmp_path, trees, view):
    for seed, tree in enumerate(json.loads(json.dumps(trees["ce"][:3]))):
        tree["config"]["seed"], tree["run_id"] = seed, f"{seed:012x}"
        tree["config"] |= {"recipe": trees["ce"][0]["config"]["recipe"], "hyperparameters": {"mixup": 0.0}}
        if seed == 1:
            for part in tree["metrics"].values():
                part["bins"] = {name: [*values, 0] for name, values in part["bins"].items()}
        (tmp_path / f"{seed}.json").write_text(json.dumps(tree))
    said = cli("report", "--results", tmp_path, *view)
    assert "unexpected error" not in said.err
    assert (said.code == 0) == ("--figures" not in view), said.err
    assert ("of different numbers of bins" in said.err) == ("--figures" in view)
