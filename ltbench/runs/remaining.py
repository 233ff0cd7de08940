"""What is left of a list of runs, and how long it will take: from stored runs alike, else from measured steps."""

import statistics
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

from ltbench import registry
from ltbench.config import ResolvedRun, RunConfig, canonical_json
from ltbench.errors import LtbenchError, LtbenchWarning
from ltbench.files.paths import dataset_folder
from ltbench.progress import ProgressUpdate
from ltbench.results.provenance import hardware
from ltbench.results.schema import Result
from ltbench.results.store import Store, read
from ltbench.runs.estimate import TimeEstimate, estimate
from ltbench.runs.last_dataset import LastDataset
from ltbench.runs.options import RunOptions, for_run
from ltbench.runs.plan import data_key, plan_run
from ltbench.runs.resolve import resolve
from ltbench.runs.stored import find_stored
from ltbench.runs.suite import described_key, done_keys
from ltbench.training.device import choose_device


def stored_results(configs: Iterable[RunConfig], options: RunOptions) -> list[Result]:
    """The results of some methods on their data sets, and of those that they start from, as far as they can be read."""
    found = []
    pairs = dict.fromkeys((config.dataset, config.method) for config in configs)
    for config in {(config.dataset, config.method): config for config in configs}.values():
        with suppress(LtbenchError):  # the run will say it
            uses = registry.method(config.method).uses(resolve(config, find_weights=False).config)
            pairs |= dict.fromkeys((config.dataset, base.method) for base in uses.values())
    for dataset, method in pairs:
        for path in sorted((Store(options.out).folder / dataset_folder(dataset) / method).glob("*.json")):
            try:
                found.append(read(path))
            except LtbenchError:  # the run that it is of will say it
                continue
    return found


def left(configs: Sequence[RunConfig], options: RunOptions, stored: Sequence[Result]) -> list[RunConfig]:
    """The runs that are not stored as done, in their order.

    A run is stored if its result is the one that it would give today, its images included. Where these or its weights
    are not at hand, its settings must do.

    Args:
        configs: the runs.
        options: how they will be carried out.
        stored: results in the folder that they are stored in.
    """
    done = done_keys(stored)
    options = replace(options, last_dataset=options.last_dataset or LastDataset())
    found = []
    for config in configs:
        try:
            planned = plan_run(resolve(config), options, saves=False)
            is_stored = find_stored(planned, options) is not None
        except LtbenchError:
            is_stored = not options.rerun and described_key(config) in done
        if not is_stored:
            found.append(config)
    return found


@dataclass(frozen=True)
class RunTime:
    """How long a run is expected to take, the runs that it alone starts from included."""

    seconds: float
    source: Literal["stored", "estimate"]
    """Runs alike on the same hardware, or steps that were timed."""


def run_times(
    configs: Sequence[RunConfig], options: RunOptions, stored: Sequence[Result], *, measure: bool = True
) -> list[RunTime | LtbenchError | None]:
    """How long each of some runs will take on this machine; an error where steps cannot be timed.

    None where no steps were to be timed.

    A run that others start from is counted once: as itself if it is in the list, not at all if it is stored, else with
    the first that needs it. So are frozen features, with the first run whose time is measured; whether they are in the
    cache already is not looked at.

    Args:
        configs: the runs that are left.
        options: the device; the listener hears of the timing.
        stored: results, of other runs as well.
        measure: whether to time steps of runs like which none is stored.
    """
    options = replace(options, last_dataset=options.last_dataset or LastDataset())
    times = _Times(options, stored, measure)
    known = {described_key(config) for config in configs} | done_keys(stored)
    found = []
    for position, config in enumerate(configs):
        options.listener(ProgressUpdate("estimating", 0.0, run=position))
        with warnings.catch_warnings(action="ignore", category=LtbenchWarning):  # the run will say it
            found.append(times.of(config, known, for_run(options, position)))
        options.listener(ProgressUpdate("", 1.0, run=position))
    return found


class _Times:
    """Looks up or measures how long runs take, each setting once."""

    def __init__(self, options: RunOptions, stored: Sequence[Result], measure: bool) -> None:
        self.measure = measure
        self._by_id = {one.run_id: one for one in stored}
        here = _machine(hardware(choose_device(options.device)))
        self._pace: dict[str, list[float]] = {}
        for one in stored:
            seconds = self._own_seconds(one)
            if seconds is not None and _machine(one.provenance.get("hardware", {})) == here:
                self._pace.setdefault(_alike(one.config), []).append(seconds / one.config.full_recipe.epochs)
        self._measured: dict[str, TimeEstimate | LtbenchError] = {}
        self._encoded: set[tuple[str, str]] = set()
        """The frozen features that a run has been charged with."""

    def _own_seconds(self, result: Result) -> float | None:
        """Seconds of training and evaluation, without those of the runs that it started from."""
        cost = result.cost
        if result.status != "done" or result.recipe is None or cost is None or cost.training_seconds is None:
            return None
        if any(one.processes > 1 for one in cost.divisions):  # which took less time than this machine will
            return None
        bases = [self._by_id.get(run_id) for run_id in result.method.uses.values()]
        if None in bases:
            return None  # how much of the time is that of others, nobody can say
        before = sum((one.cost.training_seconds or 0.0) for one in bases if one is not None and one.cost is not None)
        images = sum(result.test.total) if result.test is not None else 0
        evaluation = images / cost.evaluation_images_per_second if cost.evaluation_images_per_second else 0.0
        return max(0.0, cost.training_seconds - before) + evaluation

    def of(self, config: RunConfig, known: set[str], options: RunOptions) -> RunTime | LtbenchError | None:
        """The time of a run and of those that it starts from, unless they are known; these are known from then on."""
        try:
            own = self._own(config, options)
            if own is None:
                return None
            seconds, source = own.seconds, own.source
            for base in registry.method(config.method).uses(resolve(config).config).values():
                key = described_key(base)
                if key not in known:
                    known.add(key)
                    other = self.of(base, known, options)
                    if not isinstance(other, RunTime):
                        return other
                    seconds += other.seconds
                    source = "estimate" if "estimate" in (source, other.source) else "stored"
            return RunTime(seconds, source)
        except LtbenchError as error:
            return error

    def _own(self, config: RunConfig, options: RunOptions) -> RunTime | None:
        resolved = resolve(config)
        key = _alike(resolved.config)
        if key in self._pace:
            return RunTime(statistics.median(self._pace[key]) * resolved.recipe.epochs, "stored")
        if not self.measure:
            return None
        length = canonical_json([key, resolved.recipe.epochs])
        if length not in self._measured:
            try:
                self._measured[length] = estimate(config, replace(options, shard=False), rounds=1)
            except LtbenchError as error:
                self._measured[length] = error
        found = self._measured[length]
        if isinstance(found, LtbenchError):
            raise found
        own = found.seconds - sum(base.seconds for base in found.starts_from)
        return RunTime(own - self._shared_encoding(resolved, found), "estimate")

    def _shared_encoding(self, run: ResolvedRun, found: TimeEstimate) -> float:
        """Seconds of computing those frozen features of a run that an earlier one computes."""
        if found.encoding is None:
            return 0.0
        config = run.config
        network = canonical_json([config.backbone, config.weights, config.precision, config.feature_views])
        shared = 0
        for what, images in found.encoding.images_of.items():
            features = (data_key(run) + network, what)
            shared += images if features in self._encoded else 0
            self._encoded.add(features)
        return shared * found.encoding.seconds_per_image


def _alike(config: RunConfig) -> str:
    """Text that runs share whose epochs take equally long."""
    recipe = config.full_recipe.model_dump(mode="json", exclude={"name", "epochs", "lr", "weight_decay"})
    names = {"seed", "data_seed", "recipe", "validation"}
    return canonical_json([config.model_dump(mode="json", exclude=names), recipe])


def _machine(found: Any) -> tuple[Any, ...]:
    """What decides about speed: the accelerator; without one, the processor, its instruction sets, the threads."""
    if not isinstance(found, Mapping):
        return ()
    if found.get("accelerator"):
        return (found["accelerator"],)
    return found.get("processor"), found.get("instruction_sets"), found.get("threads")


def device_name(options: RunOptions) -> str:
    """The device that times are of, in a few words."""
    device = choose_device(options.device)
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "this CPU"
