"""Finished runs are skipped: whether a stored result is the one that a run would give today."""

import warnings
from dataclasses import replace
from functools import lru_cache

import torch

from ltbench import registry
from ltbench.config import RunConfig
from ltbench.errors import LtbenchError, LtbenchWarning
from ltbench.evaluation.result_parts import count_parameters, experts_record
from ltbench.method.build import build_method
from ltbench.models.experts import ExpertNetwork
from ltbench.results.records import ExpertsRecord
from ltbench.results.schema import Result
from ltbench.results.store import Store
from ltbench.runs.options import RunOptions
from ltbench.runs.plan import PlannedRun
from ltbench.runs.resolve import resolve


def find_stored(planned: PlannedRun, options: RunOptions) -> Result | None:
    """The stored result of a run, if it is done and would come out the same today."""
    stored = Store(options.out).get(planned.config, planned.run_id)
    if options.rerun or stored is None or stored.status != "done" or stored.config != planned.config:
        return None  # equal ids, other settings: a default has changed since
    if (stored.test is None and options.evaluate_test) or not _has_network_of(planned, stored):
        return None
    return stored


def save(result: Result, planned: PlannedRun, options: RunOptions, network: ExpertNetwork | None = None) -> Result:
    """Store a result; gives the one that counts, which may be another process's that was there first.

    Args:
        result: of any status.
        planned: its run.
        options: where and how it was carried out.
        network: that has been trained, if it has been.
    """
    if not options.group.is_main:
        return result
    store = Store(options.out)
    store.save(result, replace=options.rerun or (network is not None and _is_outdated(planned, store, network)))
    stored = store.get(planned.config, planned.run_id) if result.status == "done" else None
    return stored or result


def _is_outdated(planned: PlannedRun, store: Store, network: ExpertNetwork) -> bool:
    """Whether what is stored, though done, is of another network than the run has trained."""
    try:
        stored = store.get(planned.config, planned.run_id)
    except LtbenchError:  # damaged while the run was under way; saving replaces it
        return False
    return stored is not None and not _is_network_of(stored, experts_record(network), count_parameters(network))


def _has_network_of(planned: PlannedRun, stored: Result) -> bool:
    """Whether a run today would train the network of a stored result, and not one whose experts share other stages.

    A result that is older than its ``experts`` record is known by its number of parameters.
    """
    metrics = stored.test or next(iter(stored.metrics.values()), None)
    if metrics is None or stored.cost is None or len(metrics.expert_mean_probability) < 2:
        return True
    settings = planned.config.replace(seed=0).model_dump_json()
    counts, shape = tuple(planned.data.train_counts.tolist()), planned.input_shape
    return _is_network_of(stored, *_network(settings, planned.revision, counts, shape))


def _is_network_of(stored: Result, experts: ExpertsRecord | None, parameters: int) -> bool:
    """Whether a network of several experts is that of a stored result: by the stages they share, else by its size."""
    metrics, cost = stored.test or next(iter(stored.metrics.values()), None), stored.cost
    if metrics is None or cost is None or len(metrics.expert_mean_probability) < 2:
        return True
    return parameters == cost.parameters if stored.experts is None else experts == stored.experts


@lru_cache
def _network(
    settings: str, revision: str, counts: tuple[int, ...], shape: tuple[int, int, int]
) -> tuple[ExpertsRecord | None, int]:
    """Which stages the experts of a run's network share, and its number of parameters; built once for all seeds.

    Args:
        settings: of the run, as JSON text.
        revision: of its method, which others of the same name do not share.
        counts: (C,) images of each class to train on.
        shape: of what the method gets: channels, height, width.
    """
    run = replace(resolve(RunConfig.model_validate_json(settings)), weights=None)  # random ones will do
    method = registry.method(run.config.method)
    with warnings.catch_warnings(action="ignore", category=LtbenchWarning):
        network = build_method(method, run, counts, shape, torch.device("cpu")).network
    return experts_record(network), count_parameters(network)
