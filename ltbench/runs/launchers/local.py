"""Several runs at once on one device, in worker processes, each after the runs that it starts from."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from ltbench import registry
from ltbench.config import RunConfig, canonical_json
from ltbench.errors import LtbenchError, LtbenchWarning
from ltbench.results.schema import Result
from ltbench.runs.launchers.pool import WorkerPool
from ltbench.runs.options import RunOptions
from ltbench.runs.resolve import resolve

if TYPE_CHECKING:
    from ltbench.runs.pruning import Pruning


def run_parallel(
    configs: Sequence[RunConfig],
    options: RunOptions,
    processes: int,
    take: Callable[[int, Result | LtbenchError, bool], None],
    gpus: Sequence[str] = (),
) -> None:
    """Carry out runs in several processes, each after the runs that it starts from.

    A run that fails does not stop the others, nor does one whose process dies: it is stored as failed.

    Args:
        configs: what to run.
        options: folders, device and the like; its listener is told of the progress of every run.
        processes: how many runs at once; each computes with its part of the cores.
        take: called with the position of every run that has ended, its result or the error for which it was refused,
            and whether the result was stored already. If it raises, the other runs are stopped and stored as
            interrupted.
        gpus: the devices among which the processes are shared out; none: each sees all.

    Raises:
        LtbenchError: if a run has died twice; the other runs are stopped and stored as interrupted.
        KeyboardInterrupt: passed on, once the runs are stopped and stored as interrupted.
    """
    predecessors = _predecessors(configs)
    waiting = list(range(len(configs)))
    ended: set[int] = set()
    with WorkerPool(processes, options, gpus) as pool:
        while len(ended) < len(configs):
            ready = [position for position in waiting if predecessors[position] <= ended]
            for position in ready[: pool.free]:
                waiting.remove(position)
                pool.start(position, configs[position])
            position, result, recalled = pool.next_result()
            ended.add(position)
            take(position, result, recalled)


def run_in_order(
    trials: Iterable[tuple[RunConfig, "Pruning | None"]], options: RunOptions, processes: int
) -> Iterator[Result]:
    """Carry out runs in several processes and give their results in the order of ``trials``.

    The n-th setting is asked for when all but ``processes - 1`` results before it have been given, however long each
    run takes: so what is asked for may depend on results, and is the same every time.

    Args:
        trials: what to run, and what may end it early.
        options: as for ``run_parallel``.
        processes: how many runs at once.

    Raises:
        LtbenchError: for a run that is refused or has died twice; the others are stopped and stored as interrupted.
        KeyboardInterrupt: as ``run_parallel``.
    """
    source = iter(trials)
    ended: dict[int, Result] = {}
    first = last = 0  # of the runs that were started and not given
    with WorkerPool(processes, options) as pool:
        while True:
            for config, pruning in islice(source, processes - (last - first)):
                pool.start(last, config, pruning)
                last += 1
            if first == last:
                return
            while first not in ended:
                position, result, _ = pool.next_result()
                if isinstance(result, LtbenchError):
                    raise result
                ended[position] = result
            yield ended.pop(first)
            first += 1


def _predecessors(configs: Sequence[RunConfig]) -> list[set[int]]:
    """For every run those that must end before it: the ones it starts from, and the same run further up."""
    resolved = [resolve(config).config for config in configs]
    names = [_name(config) for config in resolved]
    found = []
    for position, config in enumerate(resolved):
        try:
            with warnings.catch_warnings(action="ignore", category=LtbenchWarning):  # the run will say it
                used = _used(config)
        except KeyboardInterrupt:
            raise
        except BaseException:  # a fault in a method is the run's own, and will come up there
            used = set()
        same = {other for other in range(position) if names[other] == names[position]}
        found.append(same | {other for other, name in enumerate(names) if name in used})
    return found


def _used(config: RunConfig) -> set[str]:
    """The runs that a run starts from, and those that they start from."""
    found: set[str] = set()
    for one in registry.method(config.method).uses(config).values():
        other = resolve(one).config
        found |= {_name(other), *_used(other)}
    return found


def _name(resolved: RunConfig) -> str:
    return canonical_json(resolved.model_dump(mode="json"))
