"""The scripts of benchmarks/statistics."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


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
