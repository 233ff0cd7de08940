"""The list of runs that a command line or a file describes; read and checked without torch."""

import itertools
import json
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ltbench import registry
from ltbench.config import RunConfig, read_toml, validated
from ltbench.errors import LtbenchError, LtbenchWarning, UnsuitableMethodError
from ltbench.runs.resolve import resolve

TUNING_SEED = 1000
"""Seed of all trials of a search, far from the seeds that a final comparison uses."""
MOST_RUNS = 100_000
"""Largest number of runs that a file may describe, before seeds and methods."""
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
            a result (JSON), to repeat it. ``imbalance_ratio``, ``dataset``, ``backbone`` and ``recipe`` may be lists,
            and ``grid`` a table with a list for each of some hyper-parameters: every combination is a run.

    Raises:
        LtbenchError: if the file is missing or malformed, or describes too many runs.
    """
    if path.suffix == ".json":
        from ltbench.results.store import read

        result = read(path)
        return [result.config.model_dump()], result.tuning
    shared = read_toml(path)
    tuning = shared.pop("tuning", None)
    shared.pop("summary", None)  # what a list of suites shows
    runs = shared.pop("runs", [{}])
    if not isinstance(runs, list) or not all(isinstance(one, dict) for one in runs):
        raise LtbenchError("'runs' must be a list of [[runs]] tables", where=path)
    if not runs:
        raise LtbenchError("'runs' is empty", where=path, hint="write a [[runs]] table for each run, or leave runs out")
    tables = [tuning or {}, *(one.get(name, {}) for one in (shared, *runs) for name in ("hyperparameters", "grid"))]
    if not all(isinstance(table, dict) for table in tables):
        raise LtbenchError("'hyperparameters', 'grid' and 'tuning' must be tables", where=path)
    described = []
    for one in runs:
        if {"seed", "seeds"} <= one.keys():
            raise LtbenchError("seed and seeds exclude each other", where=path, hint="give one of the two")
        own_seeds = one.keys() & {"seed", "seeds"}  # they beat the shared ones, by whichever name
        usual = {name: value for name, value in shared.items() if not (own_seeds and name in ("seed", "seeds"))}
        merged = {name: {**shared.get(name, {}), **one.get(name, {})} for name in ("hyperparameters", "grid")}
        for combined in _combinations({**usual, **one, **merged}, path):
            described.append(combined)
            if len(described) > MOST_RUNS:
                raise LtbenchError(f"more than {MOST_RUNS:,} runs", where=path, hint="divide them among several files")
    return described, tuning


_LISTS = ("dataset", "imbalance_ratio", "backbone", "recipe")
"""Settings that a file may give a list of; ``method`` and ``seeds`` are others, which a flag may have, too."""


def _combinations(settings: Mapping[str, Any], path: Path) -> Iterator[dict[str, Any]]:
    """Every combination of the settings that are lists and of the hyper-parameters of the grid."""
    grid = settings["grid"]
    for name, values in grid.items():
        if not isinstance(values, list) or not values:
            raise LtbenchError(
                f"grid.{name} is no list of values", where=path, hint=f"write grid = {{ {name} = [0.0, 0.4] }}"
            )
    lists = {name: settings[name] for name in _LISTS if isinstance(settings.get(name), list)}
    for name, values in lists.items():
        if not values:
            raise LtbenchError(f"{name} is an empty list", where=path, hint="leave it out, or name one value")
    rest = {name: value for name, value in settings.items() if name not in {*lists, "grid"}}
    for chosen in _product(lists):
        for hyperparameters in _product(grid):
            yield {**rest, **chosen, "hyperparameters": {**settings["hyperparameters"], **hyperparameters}}


def _product(lists: Mapping[str, Iterable[Any]]) -> Iterator[dict[str, Any]]:
    for values in itertools.product(*lists.values()):
        yield dict(zip(lists, values, strict=True))


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
        if flags.get("train") == "all" and "feature_views" not in flags:  # of a run that trained on frozen features
            settings.pop("feature_views", None)
        hyperparameters = {**one.get("hyperparameters", {}), **flags.get("hyperparameters", {})}
        _refuse_no_number(hyperparameters, where or "--set")
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


def _refuse_no_number(hyperparameters: Mapping[str, Any], where: object) -> None:
    """Refuse NaN and infinity at once: runs are told apart as JSON, which holds neither."""
    for name, value in hyperparameters.items():
        try:
            json.dumps(value, allow_nan=False, default=str)
        except ValueError:
            raise LtbenchError(f"{name} is no finite number: {value}", where=where) from None


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
