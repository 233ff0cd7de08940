"""Stored runs made by hand: a result, and its logits in the cache."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

from ltbench import places
from ltbench.data.longtail import ShotRule
from ltbench.evaluate.measure import measure
from ltbench.evaluate.predict import Predictions
from ltbench.store import DataRecord, Store


@pytest.fixture(scope="session")
def simulation() -> Callable[[str], ModuleType]:
    """``simulation(name)``: a script of benchmarks/statistics as a module."""

    def load(name: str) -> ModuleType:
        path = Path(__file__).parents[2] / "benchmarks" / "statistics" / f"{name}.py"
        spec = importlib.util.spec_from_file_location(f"benchmarks_statistics_{name}", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # where dataclasses look for it
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture
def stored_run(tmp_path, make_result) -> Callable[..., SimpleNamespace]:
    """``stored_run(logits, labels, counts, ...)``: gives the result, its path, its predictions and their file."""

    def store(logits, labels, counts, *, validation=None, logit_prior=0.0, folder=Path("results"), seed=0, **options):
        counts = torch.tensor(counts).numpy()
        parts = {"test": Predictions(logits, logits[None], labels)}
        if validation is not None:
            parts["validation"] = Predictions(validation[0], validation[0][None], validation[1])
        result = make_result(seed=seed, settings={"validation": validation is not None}, **options)
        groups = ShotRule().groups(counts)
        data = DataRecord(
            fingerprints={"train": "a" * 16, "test": "f" * 16}, classes=[str(c) for c in range(len(counts))],
            counts=counts.tolist(), trained_on=counts.tolist(), shots={"many": 100, "few": 20}, groups=groups,
            without_validation=[],
        )  # fmt: skip
        metrics = {name: measure(part.logits, part.labels, part.experts, groups) for name, part in parts.items()}
        method = result.method.model_copy(update={"logit_prior": logit_prior})
        result = result.model_copy(update={"data": data, "metrics": metrics, "method": method})
        for name, part in parts.items():
            part.save(places.cache_dir() / "runs" / result.run_id / f"{name}.npz", run_id=result.run_id)
        path = Store(tmp_path / folder).save(result)
        file = places.cache_dir() / "runs" / result.run_id / "test.npz"
        return SimpleNamespace(result=result, path=path, predictions=parts["test"], file=file)

    return store
