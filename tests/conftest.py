"""Fixtures that many tests share."""

import gc
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

torch.set_num_threads(1)  # the networks of the tests are too small to share out
# A forked process frees nothing that earlier tests have left: a session of onnxruntime would wait for threads that are
# not there.
os.register_at_fork(before=gc.freeze, after_in_parent=gc.unfreeze)
GOLDEN = Path(__file__).parent / "golden"
SEED = int(os.environ.get("LTBENCH_TEST_SEED", "0"))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Draw the same weights whatever ran before: a test that fails in one order fails in all.

    A hook and no fixture, since fixtures of a module are made before a test's own. Another ``LTBENCH_TEST_SEED``
    shows which tests pass by the luck of their draw.
    """
    torch.manual_seed(SEED)


@pytest.fixture(scope="session")
def golden_losses() -> Callable[[str], dict[str, np.ndarray]]:
    """The arrays of one case of the published implementations' losses."""
    archive = np.load(GOLDEN / "losses.npz")
    return lambda case: _case(archive, case)


@pytest.fixture(scope="session")
def golden_networks() -> Callable[[str], dict[str, np.ndarray]]:
    """The arrays of one published network: its state, inputs and logits."""
    archive = np.load(GOLDEN / "networks.npz")
    return lambda case: _case(archive, case)


def _case(archive: Any, case: str) -> dict[str, np.ndarray]:
    found = {name.removeprefix(f"{case}/"): archive[name] for name in archive.files if name.startswith(f"{case}/")}
    assert found, f"no golden case {case}"
    return found


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every test starts with an empty cache folder."""
    monkeypatch.setenv("LTBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield


@pytest.fixture
def cli(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Iterator[Callable[..., SimpleNamespace]]:
    """Call ``ltbench`` in a folder of its own, as a shell does; gives the exit code, stdout and stderr."""
    from ltbench.cli import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # main() replaces these two
    handler = signal.getsignal(signal.SIGTERM)

    def call(*words: object) -> SimpleNamespace:
        monkeypatch.setattr(sys, "argv", ["ltbench", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return SimpleNamespace(code=ended.value.code or 0, out=printed.out, err=printed.err)

    yield call
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def make_result() -> Callable[..., Any]:
    """Make results by hand: ``make_result(method, seed, top1=..., settings={...}, ...)``."""
    return _made_result


def _made_result(
    method: str = "ce",
    seed: int = 0,
    *,
    status: str = "done",
    reason: str | None = None,
    recipe: dict[str, Any] | None = None,
    settings: dict[str, Any] | None = None,
    data: str = "aaaaaaaaaaaaaaaa",
    revision: str = "1",
    transductive: bool = False,
    track: str | None = None,
    tuning: dict[str, Any] | None = None,
    cost: dict[str, Any] | None = None,
    **figures: float | None,
) -> Any:
    from ltbench.config import Recipe, RunConfig, run_id
    from ltbench.store import BinTable, Cost, DataRecord, MethodRecord, Metrics, Result

    config = RunConfig(
        method=method, seed=seed, imbalance_ratio=20, image_size=8, backbone="cifar_resnet20",
        recipe=Recipe(**{"name": "standard", **(recipe or {})}), **(settings or {}),
    )  # fmt: skip
    names = ("top1", "macro", "many", "medium", "few", "worst_class", "nll", "brier", "ece", "mce")
    names += ("overconfidence", "adaptive_ece", "classwise_ece")
    metrics = Metrics(
        **{**dict.fromkeys(names, 50.0), **figures},
        bins=BinTable(count=[2], confidence=[0.5], accuracy=[0.5]),
        correct=[1, 0], total=[1, 1], mean_probability=[0.5, 0.5], expert_mean_probability=[[0.5, 0.5]],
    )  # fmt: skip
    costs = {
        "parameters": 270_000, "multiply_adds": 2_500_000, "training_seconds": 12.0,
        "training_images_per_second": 900.0, "evaluation_images_per_second": 9000.0,
        "peak_memory_bytes": 10**9, "peak_memory_of": "process",
    }  # fmt: skip
    return Result(
        run_id=run_id(config, revision, data),
        status=status,
        reason=reason,
        config=config,
        data=DataRecord(
            fingerprints={"train": data, "test": "f" * 16},
            classes=["0", "1"], counts=[20, 1], trained_on=[20, 1], shots={"many": 100, "few": 20},
            groups={"many": [], "medium": [0], "few": [1]}, without_validation=[],
        ),
        method=MethodRecord(
            revision=revision, logit_prior=None, transductive=transductive, track=track, uses={}
        ),
        metrics={"test": metrics} if status == "done" else {},
        cost=Cost(**{**costs, **(cost or {})}) if status == "done" else None,
        tuning=tuning,
        provenance={"versions": {"python": "3.11.7"}},
    )  # fmt: skip


@pytest.fixture
def make_full_result() -> Callable[..., Any]:
    """Results with all that a run keeps of its test images, from labels, predictions and confidences.

    ``make_full_result(method, seed, classes=(...), labels=[...], predicted=[...], confidence=[...], shift={...})``
    """
    return _full_result


def _full_result(
    method: str = "ce",
    seed: int = 0,
    *,
    classes: tuple[str, ...] = ("ant", "bee", "cow"),
    labels: Any = (0, 0, 1, 1, 2, 2),
    predicted: Any = (0, 0, 1, 1, 2, 0),
    confidence: Any = (0.9, 0.9, 0.9, 0.9, 0.9, 0.9),
    shift: dict[str, list[Any]] | None = None,
    bibtex: str = "@inproceedings{some2020, title={Some}}",
    **other: Any,
) -> Any:
    from ltbench.outcomes import Outcomes
    from ltbench.store import PaperRecord, ShiftTable

    true, guess, sure = np.array(labels), np.array(predicted), np.array(confidence, dtype=np.float32)
    correct = np.bincount(true[true == guess], minlength=len(classes))
    total = np.bincount(true, minlength=len(classes))
    made = _made_result(method, seed, **{"top1": 100 * float((true == guess).mean()), **other})
    size = range(len(classes))
    counts = [120 // (label + 1) for label in size]
    data = made.data.model_copy(
        update={
            "classes": list(classes), "counts": counts, "trained_on": counts,
            "groups": {"many": [0], "medium": list(size[1:-1]), "few": [size[-1]]},
        }
    )  # fmt: skip
    test = made.metrics["test"].model_copy(update={"correct": correct.tolist(), "total": total.tolist()})
    paper = PaperRecord(title="Some", authors="A. Author and B. Author", venue="V", year=2020, bibtex=bibtex, claims=[])
    return made.model_copy(
        update={
            "data": data,
            "metrics": {"test": test},
            "outcomes": Outcomes.of(true, guess, sure),
            "shift": ShiftTable(**shift) if shift else None,
            "method": made.method.model_copy(update={"paper": paper}),
        }
    )
