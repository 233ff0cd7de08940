"""Stored runs made by hand: a result, and its logits in the cache."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from ltbench.data.long_tail import ShotRule
from ltbench.evaluation.measure import measure
from ltbench.evaluation.predict import Predictions
from ltbench.files import paths
from ltbench.results.records import DataRecord
from ltbench.results.store import Store


@pytest.fixture
def stored_run(tmp_path, make_result) -> Callable[..., SimpleNamespace]:
    """``stored_run(logits, labels, counts, ...)``: gives the result, its path, its predictions and their file."""

    def store(logits, labels, counts, *, validation=None, logit_prior=0.0, folder=Path("runs"), seed=0, **options):
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
            part.save(paths.cache_dir() / "runs" / result.run_id / f"{name}.npz", run_id=result.run_id)
        path = Store(tmp_path / folder).save(result)
        file = paths.cache_dir() / "runs" / result.run_id / "test.npz"
        return SimpleNamespace(result=result, path=path, predictions=parts["test"], file=file)

    return store
