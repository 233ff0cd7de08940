"""The stored runs keep their names: what a run id is made of does not change by itself."""

import json
from pathlib import Path

import pytest

from ltbench import registry
from ltbench.config import RunConfig, canonical_json, run_id
from ltbench.runs.resolve import resolve
from ltbench.runs.run_list import expand, read_runs

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
STORED = ("cifar100-lt-10-epochs", "digits-lt", "digits-lt-poster", "digits-lt-sam")
SUITES = [ROOT / "benchmarks" / "suites" / f"{name}.toml" for name in STORED]
"""The suites that are carried out; others take a cluster."""


@pytest.fixture(scope="module")
def stored():
    """Every stored result as plain data, by its file."""
    files = {file: json.loads(file.read_text()) for file in sorted((ROOT / "results").rglob("*.json"))}
    found = {file: result for file, result in files.items() if "run_id" in result}
    assert len(found) > 300
    return found


def own_id(config, fingerprint):
    return run_id(config, registry.revision(registry.method(config.method)), fingerprint)


def test_every_stored_run_has_the_id_of_its_settings(stored):
    wrong = {}
    for file, result in stored.items():
        config = RunConfig.model_validate(result["config"])
        ids = {file.stem, result["run_id"], own_id(config, canonical_json(result["data"]["fingerprints"]))}
        # Pre-trained weights need not be at hand.
        own = resolve(config, find_weights=False).config.replace(weights=config.weights, pretrained=config.pretrained)
        if len(ids) > 1 or own != config:
            wrong[str(file.relative_to(ROOT))] = ids
    assert not wrong


@pytest.mark.parametrize("suite", SUITES, ids=lambda path: path.stem)
def test_the_runs_of_a_suite_are_those_that_are_stored(suite, stored):
    fingerprints = {}
    for result in stored.values():
        if not result["config"]["validation"]:
            fingerprints[result["config"]["dataset"]] = canonical_json(result["data"]["fingerprints"])
    runs, _ = read_runs(suite)
    configs = [resolve(config).config for config in expand(runs, {}, where=suite)]
    ids = {own_id(config, fingerprints[config.dataset]): config.method for config in configs}
    missing = {one: method for one, method in ids.items() if one not in {file.stem for file in stored}}
    assert not missing
