"""Working through a list of runs."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from ltbench.config import RunConfig
from ltbench.errors import LtbenchError, LtbenchWarning, SaveError
from ltbench.files import paths
from ltbench.files.atomic import remove_abandoned
from ltbench.progress import LOADING, ProgressUpdate
from ltbench.results.schema import Result
from ltbench.runs.last_dataset import LastDataset
from ltbench.runs.launchers.local import run_parallel
from ltbench.runs.options import RunOptions, for_run
from ltbench.runs.run import run_or_recall


def run_all(
    configs: Sequence[RunConfig],
    options: RunOptions,
    on_result: Callable[[Result, bool], None],
    parallel: int = 1,
    gpus: Sequence[str] = (),
) -> list[Result]:
    """Carry out runs; one that fails does not stop the others, nor does one that is refused, e.g. by its method.

    Temporary files are removed first that killed processes have left among the results and in the cache.

    Args:
        configs: what to run.
        options: folders, device and the like; its listener is told of the progress of every run.
        on_result: called with every result as it comes, and whether it was stored already.
        parallel: how many runs at once; one run at a time is carried out in this process, others in processes of their
            own.
        gpus: the devices among which these are shared out; none: each sees all.

    Returns:
        The results in the order of ``configs``.

    Raises:
        LtbenchError: for runs that were refused, once the others have ended; at once if results cannot be saved.
    """
    if options.group.is_main:
        for folder in (options.out, paths.cache_dir() / "runs"):
            remove_abandoned(folder)
    results: dict[int, Result] = {}
    refused: dict[int, LtbenchError] = {}

    def take(position: int, result: Result | LtbenchError, recalled: bool) -> None:
        if isinstance(result, Result):
            results[position] = result
            on_result(result, recalled)
            return
        if isinstance(result, SaveError) or options.group.size > 1:  # processes must not go different ways
            raise result
        if len(configs) > 1 and str(result) not in map(str, refused.values()):
            message = f"{_name(configs[position])} is refused, the other runs go on: {result}"
            warnings.warn(message, LtbenchWarning, stacklevel=2)
        refused[position] = result

    if parallel > 1 or gpus:
        run_parallel(configs, options, parallel, take, gpus)
    else:
        options = replace(options, last_dataset=LastDataset())
        for position, config in enumerate(configs):
            options.listener(ProgressUpdate(LOADING, 0.0, run=position))
            found: tuple[Result | LtbenchError, bool]
            try:
                found = run_or_recall(config, for_run(options, position))
            except LtbenchError as error:
                found = error, False
            options.listener(ProgressUpdate("", 1.0, run=position))
            take(position, *found)
    if refused:
        raise _all_refused(configs, refused)
    return [results[position] for position in range(len(configs))]


def _name(config: RunConfig) -> str:
    return f"{config.method}, seed {config.seed}"


def _all_refused(configs: Sequence[RunConfig], refused: Mapping[int, LtbenchError]) -> LtbenchError:
    """One error for all refused runs: what is the same for every run of the sweep stands by itself."""
    reasons: dict[str, list[str]] = {}
    for position in sorted(refused):
        reasons.setdefault(str(refused[position]), []).append(_name(configs[position]))
    if len(refused) == len(configs) and len(reasons) == 1:
        return next(iter(refused.values()))
    told = "\n".join(f"{'; '.join(names)}: {reason}" for reason, names in reasons.items())
    return LtbenchError(f"{len(refused)} of {len(configs)} runs were refused, the others have ended\n{told}")
