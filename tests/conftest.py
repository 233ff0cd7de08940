"""Fixtures that many tests share."""

import gc
import itertools
import multiprocessing
import os
import re
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

# Every process that a test starts would compile all sources again.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# torch is imported in hooks and fixtures: pytest-xdist's own process, for which its workers wait, needs none.
gc.disable()  # until all tests are collected: the collector would go through all modules again and again, for seconds
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of processes that tests start: their networks are too small to share
# After a kill a file is whole that the kernel has; that the disk has it is for power cuts, and takes long.
os.fsync = lambda descriptor: None
# A shell lets what it starts in the background ignore Ctrl-C, and the processes of tests would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
GOLDEN = Path(__file__).parent / "golden"
_caches = itertools.count()
SEED = int(os.environ.get("LTBENCH_TEST_SEED", "0"))


_collected_garbage: list[bool] = []


def _stop_collecting() -> None:
    _collected_garbage.append(gc.isenabled())
    gc.disable()


def _collect_again() -> None:
    if _collected_garbage.pop():
        gc.enable()


def _begin_as_a_fork() -> None:
    """Free nothing that earlier tests have left: a session of onnxruntime would wait for threads that are not there."""
    gc.freeze()
    _collect_again()


# The parent has no need to freeze anything; to undo that would undo what is frozen once all tests are collected.
os.register_at_fork(before=_stop_collecting, after_in_parent=_collect_again, after_in_child=_begin_as_a_fork)

settings.register_profile("whole", deadline=None)
settings.register_profile("quick", deadline=None, max_examples=20)


def pytest_configure(config: pytest.Config) -> None:
    """Draw fewer examples where slow tests are left out; a deadline would fail on a busy machine."""
    if not config.getoption("--hypothesis-profile", None):
        settings.load_profile("quick" if config.getoption("markexpr") == "not slow" else "whole")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out files and folders none of whose tests will run: what they import takes seconds."""
    if "not browser" in config.getoption("markexpr") and collection_path == Path(__file__).parent / "browser":
        return True
    if config.getoption("markexpr") != "not slow" or not (collection_path.is_dir() or collection_path.suffix == ".py"):
        return None
    files = [*collection_path.rglob("test_*.py")] if collection_path.is_dir() else [collection_path]
    slow = [file for file in files if re.search(r"^pytestmark = .*pytest\.mark\.slow", file.read_text(), re.MULTILINE)]
    return True if files and slow == files else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that have slow tests, so that of several workers none is left with a long one at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Collect garbage again, but leave out all modules and tests, which live to the end; train in one thread."""
    import torch

    torch.set_num_threads(1)
    gc.freeze()
    gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Draw the same weights whatever ran before: a test that fails in one order fails in all.

    A hook and no fixture, since fixtures of a module are made before a test's own. Another ``LTBENCH_TEST_SEED``
    shows which tests pass by the luck of their draw.
    """
    import torch

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
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test starts with an empty cache folder."""
    folder = tmp_path_factory.getbasetemp() / f"empty-cache{next(_caches)}"
    folder.mkdir()
    monkeypatch.setenv("LTBENCH_CACHE", str(folder))


@pytest.fixture(autouse=True)
def _temporary_methods() -> Iterator[None]:
    """Methods of a user's own that a test makes known end with it."""
    from ltbench import registry

    with registry.temporary_methods():
        yield


@pytest.fixture
def cli(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Iterator[Callable[..., SimpleNamespace]]:
    """Call ``ltbench`` in a folder of its own, as a shell does.

    It gives the exit code, stdout, stderr, and as notes the lines of stderr that tell no progress.
    """
    from ltbench.cli import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # main() replaces these two
    handlers = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)}

    def call(*words: object) -> SimpleNamespace:
        monkeypatch.setattr(sys, "argv", ["ltbench", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        notes = re.sub(r"^(\d+ (runs?|trials)\b|(run|trial) \d+/).*\n", "", printed.err, flags=re.MULTILINE)
        return SimpleNamespace(code=ended.value.code or 0, out=printed.out, err=printed.err, notes=notes)

    yield call
    for number, handler in handlers.items():  # of a process that ltbench ends, which a test does not
        signal.signal(number, handler)


@pytest.fixture
def small_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train a network of 8 layers on the digits where no other is asked for, and not one of 20."""
    from ltbench.data.datasets.digits import Digits

    monkeypatch.setattr(Digits, "backbone", "cifar_resnet8")


@pytest.fixture
def forked_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fork the workers of ``--parallel``, which need not import torch then; where their start is not looked at."""
    from ltbench.runs.launchers import pool

    fork = multiprocessing.get_context("fork")
    monkeypatch.setattr(pool.multiprocessing, "get_context", lambda method: fork)


@pytest.fixture(scope="module")
def _leaderboards() -> dict[Any, list[Any]]:
    return {}


@pytest.fixture
def leaderboards_once(monkeypatch: pytest.MonkeyPatch, _leaderboards: dict[Any, list[Any]]) -> None:
    """Work out the leaderboards of the same result files once a module, whatever formats they are shown in."""
    from ltbench.report import leaderboard

    make = leaderboard.leaderboards

    def once(stored: Any) -> list[Any]:
        files = [(run_id, stored.paths[run_id]) for run_id in stored.results]
        key = (*((run_id, path, path.stat().st_mtime_ns) for run_id, path in files), *stored.left_out)
        if key not in _leaderboards:
            _leaderboards[key] = make(stored)
        return [*_leaderboards[key]]

    monkeypatch.setattr(leaderboard, "leaderboards", once)


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
    from ltbench.results.records import Cost, DataRecord, MethodRecord, Metrics
    from ltbench.results.schema import Result

    own = {"imbalance_ratio": 20, "image_size": 8, "backbone": "cifar_resnet20", **(settings or {})}
    config = RunConfig(method=method, seed=seed, recipe=Recipe(**{"name": "standard", **(recipe or {})}), **own)
    metrics = Metrics(**_made_figures(**figures))
    costs = {
        "parameters": 270_000, "multiply_adds": 2_500_000, "training_seconds": 12.0,
        "training_images_per_second": 900.0, "evaluation_images_per_second": 9000.0,
        "peak_memory_bytes": 10**9, "peak_memory_of": "process",
    }  # fmt: skip
    counts, groups = [20, 1], {"many": [], "medium": [0], "few": [1]}
    if figures.get("many") is not None:
        counts, groups = [200, 20, 1], {"many": [0], "medium": [1], "few": [2]}
    elif "few" in figures and figures["few"] is None:
        counts, groups = [20, 20], {"many": [], "medium": [0, 1], "few": []}
    return Result(
        run_id=run_id(config, revision, data),
        status=status,
        reason=reason,
        config=config,
        data=DataRecord(
            fingerprints={"train": data, "test": "f" * 16},
            classes=["0", "1", "2"][: len(counts)], counts=counts, trained_on=counts, shots={"many": 100, "few": 20},
            groups=groups, without_validation=[],
        ),
        method=MethodRecord(
            revision=revision, logit_prior=None, transductive=transductive, track=track, uses={}
        ),
        metrics={"test": metrics} if status == "done" else {},
        cost=Cost(**{**costs, **(cost or {})}) if status == "done" else None,
        tuning=tuning,
        provenance={"versions": {"python": "3.11.7"}},
    )  # fmt: skip


def _made_figures(**given: float | None) -> dict[str, Any]:
    """Metrics of two classes with as many test images, or three, which agree with their counts and bins.

    Args:
        given: figures that are wanted; top1 is 50, and few is top1, unless said otherwise. There is a many-shot class
            only where many is given. Medium is what makes top1 the mean.
    """
    images = 10**6
    top1 = float(given.get("top1") or given.get("macro") or 0.0) if {"top1", "macro"} & given.keys() else 50.0
    few = given["few"] if given.get("few") is not None else top1
    many = [given["many"]] if given.get("many") is not None else []
    by_class = [*many, (2 + len(many)) * top1 - sum(many) - few, few]
    correct = [round(accuracy / 100 * images) for accuracy in by_class]
    ece, mce = given.get("ece", 50.0), given.get("mce", max(50.0, given.get("ece") or 0.0))
    assert ece is not None and mce is not None
    whole, even = images * len(by_class), [1 / len(by_class)] * len(by_class)
    in_error = round(whole * ece / mce) if mce else 0
    right = top1 / 100
    sure = right + mce / 100 if right + mce / 100 <= 1 else right - mce / 100
    return {
        **dict.fromkeys(("nll", "adaptive_ece", "classwise_ece", "overconfidence"), 50.0),
        "brier": 0.5,
        **given,
        "top1": top1, "macro": top1, "worst_class": min(by_class), "many": given.get("many"),
        "medium": top1 if "few" in given and given["few"] is None else by_class[-2],
        "few": given.get("few", few), "ece": ece, "mce": mce,
        "bins": {
            "count": [in_error, whole - in_error], "confidence": [sure, right], "accuracy": [right, right],
        },
        "correct": correct, "total": [images] * len(by_class),
        "mean_probability": even, "expert_mean_probability": [even],
    }  # fmt: skip


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
    from ltbench.results.predictions import PackedPredictions
    from ltbench.results.records import PaperRecord, ShiftTable

    true, guess, sure = np.array(labels), np.array(predicted), np.array(confidence, dtype=np.float32)
    correct = np.bincount(true[true == guess], minlength=len(classes))
    total = np.bincount(true, minlength=len(classes))
    by_class = 100 * correct / np.where(total > 0, total, np.nan)
    made = _made_result(method, seed, **other)
    size = range(len(classes))
    counts = [max(120 // (label + 1), 2) for label in size[:-1]]
    counts.append(min(120 // len(classes), counts[-1] - 1))  # the last class alone is few-shot
    groups = {"many": [0], "medium": list(size[1:-1]), "few": [size[-1]]}
    data = made.data.model_copy(
        update={
            "classes": list(classes),
            "counts": counts,
            "trained_on": counts,
            "groups": groups,
            "shots": {"many": 100, "few": counts[-1] + 1},
        }
    )
    table = _binned(sure.astype(float), true == guess)
    figures = {
        "top1": 100 * float((true == guess).mean()), "macro": float(np.nanmean(by_class)),
        "worst_class": float(np.nanmin(by_class)), **{name: _mean(by_class[labels]) for name, labels in groups.items()},
        "correct": correct.tolist(), "total": total.tolist(), "mean_probability": [1 / len(classes)] * len(classes),
        "expert_mean_probability": [[1 / len(classes)] * len(classes)], **table,
    }  # fmt: skip
    test = made.metrics["test"].model_copy(update=figures)
    paper = PaperRecord(title="Some", authors="A. Author and B. Author", venue="V", year=2020, bibtex=bibtex, claims=[])
    return made.model_copy(
        update={
            "data": data,
            "metrics": {"test": test},
            "outcomes": PackedPredictions.of(true, guess, sure),
            "shift": ShiftTable(**shift) if shift else None,
            "method": made.method.model_copy(update={"paper": paper}),
        }
    )


def _mean(values: Any) -> float | None:
    there = values[~np.isnan(values)]
    return float(there.mean()) if len(there) else None


def _binned(confidence: Any, right: Any) -> dict[str, Any]:
    """ECE, MCE and the table of 15 bins that they are of."""
    from ltbench.results.records import BinTable

    place = np.clip(np.ceil(confidence * 15 - 1e-9).astype(int) - 1, 0, 14)
    count = np.bincount(place, minlength=15)
    sure, hits = (np.bincount(place, each, 15) / np.maximum(count, 1) for each in (confidence, right))
    gaps = 100 * np.abs(sure - hits)
    return {
        "ece": float((gaps * count).sum() / count.sum()),
        "mce": float(gaps[count > 0].max()),
        "bins": BinTable(count=count.tolist(), confidence=sure.tolist(), accuracy=hits.tolist()),
    }
