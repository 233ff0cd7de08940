"""Suites: TOML files that say what is compared, and which of their runs a folder of results has; without torch."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from ltbench.config import RunConfig, canonical_json, read_toml
from ltbench.errors import unknown
from ltbench.results.schema import Result
from ltbench.runs.resolve import resolve

_PACKAGE = "ltbench_suites"


def suite_names() -> list[str]:
    """The suites that come with ltbench."""
    return sorted(Path(entry.name).stem for entry in files(_PACKAGE).iterdir() if entry.name.endswith(".toml"))


def suite_file(suite: str) -> Path:
    """The file of a suite.

    Args:
        suite: the name of one that comes with ltbench, or a path that ends in .toml.

    Raises:
        LtbenchError: for an unknown name, with the nearest known ones.
    """
    if suite.endswith(".toml"):
        return Path(suite)
    if suite not in suite_names():
        raise unknown("suite", suite, suite_names(), where="--suite")
    return Path(str(files(_PACKAGE) / f"{suite}.toml"))


def suite_summary(name: str) -> str:
    """What a suite compares, in a line."""
    return str(read_toml(suite_file(name)).get("summary", ""))


def distinct(configs: Iterable[RunConfig]) -> list[RunConfig]:
    """The runs, each once: a flag makes those equal that a list in the file had made different."""
    return list({canonical_json(config.model_dump(mode="json")): config for config in configs}.values())


def settings_key(config: RunConfig, unstated: Collection[str] = ("image_size",)) -> str:
    """Text by which a run that a suite describes is found among stored ones, whose data and weights are not at hand.

    Of runs with pre-trained weights all counts but what the weights determine: their hash and image size. Of runs with
    a table of labels all counts but the table, whose content is known by the data's fingerprints. A data seed counts
    where something is drawn by it.

    Args:
        config: of the run, everything filled in, as stored results have it.
        unstated: settings that the weights determine where there are some.
    """
    pretrained = config.starts_from_weights
    left_out = {"weights", "pretrained", "labels", "label_columns", "keep_classes_without_test_images"}
    left_out |= set(unstated) if pretrained else set()
    left_out |= set() if config.draws_images else {"data_seed"}
    return canonical_json([config.model_dump(mode="json", exclude=left_out), pretrained])


def described_key(config: RunConfig, unstated: Collection[str] = ("image_size",)) -> str:
    """``settings_key`` of a run as somebody has described it.

    Raises:
        LtbenchError: as ``resolve``.
    """
    return settings_key(resolve(config, find_weights=False).config, unstated)


def _unstated(config: RunConfig) -> frozenset[str]:
    """What the description of a run leaves to whoever brings the weights."""
    return frozenset(name for name in ("backbone", "image_size") if getattr(config, name) is None)


def done_keys(stored: Iterable[Result]) -> set[str]:
    """The keys of the settings of stored runs that are done and that ltbench has trained."""
    trained = (one for one in stored if one.status == "done" and one.recipe)
    return {settings_key(one.config) for one in trained}


@dataclass(frozen=True)
class SuiteSetting:
    """The runs of a suite that differ in their seed only, and what is stored of them."""

    config: RunConfig
    """Settings of the first one, as described."""
    seeds: tuple[int, ...]
    done: tuple[int, ...]
    """The seeds whose results are done."""
    failed: Mapping[int, str]
    """Why the runs of other seeds have failed."""

    @property
    def missing(self) -> list[int]:
        """The seeds that have no finished run."""
        return [seed for seed in self.seeds if seed not in self.done]


def suite_settings(configs: Sequence[RunConfig], stored: Iterable[Result]) -> list[SuiteSetting]:
    """What is stored of each setting of a suite, known by their settings.

    Args:
        configs: the runs of the suite, as described.
        stored: results, those of other runs included.
    """
    trained = [result for result in stored if result.recipe]  # by ltbench

    @cache
    def by_key(unstated: frozenset[str]) -> dict[str, Result]:
        found: dict[str, Result] = {}
        for result in trained:
            key = settings_key(result.config, unstated)
            if key not in found or (result.status == "done" and result.test is not None):
                found[key] = result
        return found

    grouped: dict[str, list[RunConfig]] = {}
    for config in configs:
        grouped.setdefault(_without_seed(config), []).append(config)
    return [_stored_seeds(same, by_key) for same in grouped.values()]


def _stored_seeds(
    configs: Sequence[RunConfig], by_key: Callable[[frozenset[str]], Mapping[str, Result]]
) -> SuiteSetting:
    unstated = _unstated(configs[0])
    results = {config.seed: by_key(unstated).get(described_key(config, unstated)) for config in configs}
    done = [seed for seed, one in results.items() if one is not None and one.status == "done" and one.test is not None]
    failed = {seed: one.reason or "" for seed, one in results.items() if one is not None and one.status == "failed"}
    return SuiteSetting(configs[0], tuple(results), tuple(done), failed)


def of_suite(configs: Sequence[RunConfig], stored: Mapping[str, Result]) -> list[str]:
    """The ids of the stored runs that a suite describes, whatever their status.

    Args:
        configs: the runs of the suite, as described.
        stored: results by run id.
    """
    wanted: dict[frozenset[str], set[str]] = {}
    for config in configs:
        unstated = _unstated(config)
        wanted.setdefault(unstated, set()).add(described_key(config, unstated))
    trained = {run_id: one.config for run_id, one in stored.items() if one.recipe}
    return [
        run_id
        for run_id, config in trained.items()
        if any(settings_key(config, unstated) in keys for unstated, keys in wanted.items())
    ]


def _without_seed(config: RunConfig) -> str:
    values: dict[str, Any] = config.without_seed()
    return canonical_json(values)
