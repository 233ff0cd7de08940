"""Fixtures that many tests share."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

GOLDEN = Path(__file__).parent / "golden"


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
