"""The list of runs that a command line or a file describes; read and checked without torch."""

import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ltbench import registry
from ltbench.config import RunConfig, read_toml, validated
from ltbench.errors import LtbenchError, LtbenchWarning, UnsuitableMethodError
from ltbench.runs.resolve import resolve

TUNING_SEED = 1000
"""Seed of all trials of a search, far from the seeds that a final comparison uses."""
MOST_SEEDS = 10_000
"""Largest number of seeds in one list; more are a slip of the keyboard, and each would be a run."""


def parse_seeds(text: str) -> list[int]:
    """Seeds from "0-4", "0,2,5" or "3".

    Raises:
        LtbenchError: for anything else, for a range that runs backwards, and for too many.
    """
    seeds: dict[int, None] = {}  # in order, each once
    for part in text.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,10})(?:-([0-9]{1,10}))?\s*", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if first > last:
            shown = text if len(text) <= 100 else f"{text[:100]}..."
            raise LtbenchError(
                f"'{shown}' is no list of seeds", where="--seeds", hint="write 0-4 or 0,2,5, the smaller first"
            )
        if last - first < MOST_SEEDS:
            seeds.update(dict.fromkeys(range(first, last + 1)))
        if last - first >= MOST_SEEDS or len(seeds) > MOST_SEEDS:
            raise LtbenchError(
                f"more than {MOST_SEEDS:,} seeds", where="--seeds", hint="each is a run; start them in several sweeps"
            )
    return list(seeds)


def parse_methods(text: str) -> list[str]:
    """Method names from "ce,balpoe"; "all" is every method that loads."""
    if text == "all":
        return list(registry.loadable(registry.method_names(), registry.declaration))
    return list(dict.fromkeys(name.strip() for name in text.split(",")))


def read_runs(path: Path) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """The runs that a file describes, as plain settings, and the tuning that chose them, if any.

    Args:
        path: a TOML file with the settings of one run, or with shared settings and a [[runs]] table for each; or
            a result (JSON), to repeat it.

    Raises:
        LtbenchError: if the file is missing or malformed.
    """
    if path.suffix == ".json":
        from ltbench.results.store import read

        result = read(path)
        return [result.config.model_dump()], result.tuning
    shared = read_toml(path)
    tuning = shared.pop("tuning", None)
    runs = shared.pop("runs", [{}])
    if not isinstance(runs, list) or not all(isinstance(one, dict) for one in runs):
        raise LtbenchError("'runs' must be a list of [[runs]] tables", where=path)
    tables = [tuning or {}, *(one.get("hyperparameters", {}) for one in (shared, *runs))]
    if not all(isinstance(table, dict) for table in tables):
        raise LtbenchError("'hyperparameters' and 'tuning' must be tables", where=path)
    common = shared.get("hyperparameters", {})
    return [{**shared, **one, "hyperparameters": {**common, **one.get("hyperparameters", {})}} for one in runs], tuning


def expand(
    described: Sequence[Mapping[str, Any]], flags: Mapping[str, Any], *, where: object = None
) -> list[RunConfig]:
    """Every combination of described run, method and seed.

    Args:
        described: settings of each run; ``method`` and ``seeds`` may be lists, also in text.
        flags: from the command line; they beat what is described, and hyper-parameters are merged.
        where: the description comes from.

    Raises:
        LtbenchError: for a setting that is unknown or out of range.
    """
    configs = []
    for one in described:
        settings = {**one, **{name: value for name, value in flags.items() if name != "hyperparameters"}}
        hyperparameters = {**one.get("hyperparameters", {}), **flags.get("hyperparameters", {})}
        names = _in_text(settings.pop("method", "balpoe"))
        methods = parse_methods(names)
        seeds = parse_seeds(_in_text(settings.pop("seeds", settings.pop("seed", 0))))
        own = []
        for method in methods:
            for seed in seeds:
                run_settings = {
                    **settings,
                    "method": method,
                    "seed": seed,
                    "hyperparameters": hyperparameters,
                }
                own.append(validated(RunConfig, run_settings, where=where))
        configs += _suitable(own) if names == "all" else own
    return configs


def _suitable(configs: Sequence[RunConfig]) -> list[RunConfig]:
    """The runs whose methods can be carried out with their settings; a warning names those that cannot."""
    kept: list[RunConfig] = []
    left_out: dict[str, str] = {}
    for config in configs:
        if config.method in left_out:
            continue
        try:
            if config.train == "head":
                resolve(config)
            kept.append(config)
        except UnsuitableMethodError as error:
            left_out[config.method] = str(error).partition("\n")[0]
    if left_out:
        message = f"left out of all methods: {'; '.join(left_out.values())}"
        warnings.warn(message, LtbenchWarning, stacklevel=3)
    return kept


def _in_text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
