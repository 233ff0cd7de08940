"""A file of search options: TOML that takes the place of the ranges that a method declares."""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ltbench import registry
from ltbench.config import Frozen, read_toml, validated
from ltbench.errors import LtbenchError, unknown
from ltbench.method.search_space import Choice, Range

Number = int | float
_EXAMPLE = "low = 0.1 and high = 0.5, or choices = [0.1, 0.5]"


class _Option(Frozen):
    """What a table of the file may have."""

    low: Number | None = None
    high: Number | None = None
    log: bool = False
    step: Number | None = None
    choices: list[bool | int | float | str] | None = None


def read_space(path: Path, methods: list[str]) -> dict[str, dict[str, Range | Choice]]:
    """The search options of a file, by method and hyper-parameter.

    Args:
        path: a TOML file with a table for each hyper-parameter: ``low`` and ``high``, with ``log`` or ``step`` if need
            be; or ``choices``. It holds for the methods that have the hyper-parameter; what stands below [method.NAME]
            for this method alone. Numbers are whole where low, high and step are.
        methods: that are searched.

    Raises:
        LtbenchError: if the file is missing or malformed, or an option makes no sense.
    """
    content = read_toml(path)
    if not content:
        raise LtbenchError("there is no option in it", where=path, hint=f"write [mixup] and below it: {_EXAMPLE}")
    own = content.pop("method", {})
    if not isinstance(own, dict):
        raise LtbenchError("'method' must be a table of methods", where=path, hint="write [method.balpoe.mixup]")
    for name in own.keys() - set(methods):
        raise LtbenchError(
            f"there are options for {name}, which is not searched", where=path, hint=f"searched: {', '.join(methods)}"
        )
    shared = _options(content, path, "")
    known = {name: _known(name) for name in methods}
    for option in shared:
        if not any(option in names for names in known.values()):
            kind = f"hyper-parameter of {', '.join(methods)}"
            raise unknown(kind, option, {one for names in known.values() for one in names}, where=path)
    return {
        name: {option: value for option, value in shared.items() if option in known[name]}
        | _options(own.get(name, {}), path, f"method.{name}.")
        for name in methods
    }


def _known(method: str) -> set[str]:
    """What may be searched of a method: its hyper-parameters, and what it is searched through instead of some."""
    config = registry.declaration(method).config
    return {*config.search_space(), *config.optional_space(), *config.model_fields}


def _options(tables: Any, path: Path, prefix: str) -> dict[str, Range | Choice]:
    if not isinstance(tables, Mapping):
        raise LtbenchError(f"'{prefix.rstrip('.')}' must be a table of hyper-parameters", where=path)
    return {name: _option(table, f"{path}, [{prefix}{name}]") for name, table in tables.items()}


def _option(table: Any, where: str) -> Range | Choice:
    example = f"write {_EXAMPLE}"
    if not isinstance(table, Mapping):
        raise LtbenchError("no table of a hyper-parameter", where=where, hint=example)
    one = validated(_Option, table, where=where, kind="key")
    fault = _fault(one)
    if fault is not None:
        raise LtbenchError(fault, where=where, hint=example)
    if one.choices is not None:
        return Choice(tuple(one.choices))
    assert one.low is not None
    assert one.high is not None
    return Range(one.low, one.high, one.log, one.step)


def _fault(one: _Option) -> str | None:
    """What is wrong with an option, in words."""
    if one.choices is not None:
        if one.model_fields_set != {"choices"}:
            return "choices and a range exclude each other"
        same = any(type(a) is type(b) and a == b for a, b in itertools.combinations(one.choices, 2))
        return "there is nothing to choose" if len(one.choices) < 2 else "a choice is there twice" if same else None
    if one.low is None or one.high is None:
        return "a range takes low and high"
    if not one.low < one.high:
        return f"low = {one.low} is not below high = {one.high}"
    if one.log and one.low <= 0:
        return "a logarithmic range takes low > 0"
    if one.log and one.step is not None:
        return "log and step exclude each other"
    if one.step is not None and not 0 < one.step <= one.high - one.low:
        return f"step = {one.step} does not lie between 0 and high - low"
    return None
