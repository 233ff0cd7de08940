"""Packages whose names are imported on first use, so that a command pays only for what it needs."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_names(
    package: str, homes: Mapping[str, str], renamed: Mapping[str, str] | None = None
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` of a package (PEP 562).

    Args:
        package: its ``__name__``.
        homes: name -> the package's module that defines it.
        renamed: name of older versions -> the name now.
    """

    def get(name: str) -> Any:
        if name not in homes:
            hint = f"; it is called {renamed[name]}" if renamed and name in renamed else ""
            raise AttributeError(f"module '{package}' has no attribute '{name}'{hint}", name=name)
        return getattr(import_module(f"{package}.{homes[name]}"), name)

    def names() -> list[str]:
        return sorted({*vars(import_module(package)), *homes} - {"TYPE_CHECKING", "lazy_names"})

    return get, names
