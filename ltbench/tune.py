"""Hyper-parameter search: the space that a method declares, macro accuracy on the validation part of train."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import tomli_w
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState

from ltbench import draws, registry
from ltbench.atomic import write_text
from ltbench.config import RunConfig, canonical_json
from ltbench.errors import LtbenchError
from ltbench.experiment import Surroundings, resolve, run
from ltbench.method import Choice, Range
from ltbench.parallel import RunWatch, run_in_order
from ltbench.store import Result

OBJECTIVE = "macro accuracy on the validation part of train"
TUNING_SEED = 1000
"""Of the trials' runs, far from the seeds that a final comparison uses."""


@dataclass(frozen=True)
class Search:
    """What a search found."""

    best_file: Path
    best: RunConfig
    accuracy: float
    """Macro accuracy of the best trial, percent."""
    trials: int
    failed: int


def tune(
    base: RunConfig,
    trials: int,
    folder: Path,
    around: Surroundings,
    tell: Callable[[FrozenTrial], None] = lambda trial: None,
    workers: int = 1,
    watch: RunWatch = lambda position, share, words: None,
) -> Search:
    """Search a method's space; a search that was stopped goes on where it was.

    Each trial is a run with a validation part; the test set is not looked at. ECE is recorded with every trial.

    With several workers, the n-th trial is chosen when the results of all but ``workers - 1`` trials before it are
    known, and sees those that are still running as bad ones, so as not to come near them. That depends on the number of
    workers and not on how long a trial takes, so the same search always finds the same; one that was stopped, too.

    Args:
        base: the settings that all trials share.
        trials: how many in all, those of earlier calls included.
        folder: for the study, the trials' results and best.toml.
        around: device, data folder and the like; its ``watch`` is not called.
        tell: called with every finished trial, in their order.
        workers: how many trials at once, as for ``sweep.run_all``.
        watch: told of the progress of every trial, by its place among those of this call.

    Raises:
        LtbenchError: if the method declares no space, the folder holds another search, or every trial failed.
    """
    if trials < 1:
        raise LtbenchError(f"{trials} trials are too few", where="--trials", hint="ask for at least one")
    base = base.replace(validation=True)
    space = _space(base)
    resolve(base.replace(hyperparameters={**base.hyperparameters, **{name: _any(space[name]) for name in space}}))
    around = replace(around, out=folder / "runs", test=False)
    study = _open(base, folder)
    under_way: deque[Trial] = deque()

    def chosen() -> Iterator[RunConfig]:
        for number in range(len(_finished(study)), trials):
            seed = draws.key(base.seed, "tpe", number) % 2**32
            study.sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=workers > 1)
            under_way.append(study.ask())
            yield base.replace(hyperparameters=_suggest(under_way[-1], space, base))

    with closing(_results(chosen(), around, workers, watch)) as results:  # an error here ends the workers as well
        for result in results:
            trial = under_way.popleft()
            _record(study, trial, result)
            tell(study.trials[trial.number])
    return _conclude(study, base, folder)


def _results(
    configs: Iterable[RunConfig], around: Surroundings, workers: int, watch: RunWatch
) -> Generator[Result, None, None]:
    if workers > 1:
        yield from run_in_order(configs, around, workers, watch)
        return
    for position, config in enumerate(configs):
        result = run(config, replace(around, watch=partial(watch, position)))
        watch(position, 1.0, "")
        yield result


def _space(base: RunConfig) -> dict[str, Range | Choice]:
    """What is searched: the method's space without what the user has fixed."""
    space = registry.method(base.method).Config.space
    free = {name: option for name, option in space.items() if name not in base.hyperparameters}
    if not free:
        raise LtbenchError(
            f"method '{base.method}' leaves nothing to search",
            where="--set",
            hint=f"its space is {', '.join(space) or 'empty'}; do not fix all of it",
        )
    return free


def _any(option: Range | Choice) -> Any:
    return option.options[0] if isinstance(option, Choice) else option.low


def _open(base: RunConfig, folder: Path) -> optuna.Study:
    """Open the folder's study, putting a trial that was killed back into the queue."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    settings = canonical_json(base.model_dump(mode="json"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        storage = JournalStorage(JournalFileBackend(str(folder / "study.journal")))
        study = optuna.create_study(storage=storage, study_name="ltbench", direction="maximize", load_if_exists=True)
    except OSError as error:
        raise LtbenchError(
            f"the search cannot be saved: {error.strerror}",
            where=folder.absolute(),
            hint="choose another --out",
        ) from None
    if study.user_attrs.get("settings", settings) != settings:
        raise LtbenchError(
            "the folder holds a search with other settings",
            where=folder.absolute(),
            hint="choose another --out",
        )
    study.set_user_attr("settings", settings)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
        study.enqueue_trial(trial.params)
    return study


def _finished(study: optuna.Study) -> list[FrozenTrial]:
    """Trials that ran to an end, good or bad; one that was killed is none."""
    return [
        trial
        for trial in study.get_trials(deepcopy=False)
        if trial.state == TrialState.COMPLETE or "reason" in trial.user_attrs
    ]


def _suggest(trial: Trial, space: Mapping[str, Range | Choice], base: RunConfig) -> dict[str, Any]:
    suggested: dict[str, Any] = {}
    for name, option in space.items():
        if isinstance(option, Choice):
            suggested[name] = trial.suggest_categorical(name, option.options)
        else:
            suggested[name] = round(trial.suggest_float(name, option.low, option.high, log=option.log), 4)
    return {**base.hyperparameters, **suggested}


def _record(study: optuna.Study, trial: Trial, result: Result) -> None:
    trial.set_user_attr("run_id", result.run_id)
    trial.set_user_attr("hyperparameters", result.config.hyperparameters)
    if result.status != "done":
        trial.set_user_attr("reason", result.reason)
        study.tell(trial, state=TrialState.FAIL)
        return
    metrics = result.metrics["validation"]
    trial.set_user_attr("ece", metrics.ece)
    study.tell(trial, metrics.macro)


def _conclude(study: optuna.Study, base: RunConfig, folder: Path) -> Search:
    finished = _finished(study)
    complete = [trial for trial in finished if trial.state == TrialState.COMPLETE]
    if not complete:
        raise LtbenchError(
            f"all {len(finished)} trials failed, the last: {finished[-1].user_attrs['reason']}",
            where=folder.absolute(),
        )
    best = max(complete, key=lambda trial: trial.value or 0.0)
    config = base.replace(validation=False, hyperparameters=best.user_attrs["hyperparameters"], seed=0)
    tuning = {
        "objective": OBJECTIVE,
        "trials": len(finished),
        "failed": len(finished) - len(complete),
        "seed": base.seed,
        "best_macro_accuracy": best.value,
        "best_ece": best.user_attrs["ece"],
        "best_trial": best.number,
        "space": {name: asdict(option) for name, option in _space(base).items()},
        "history": [_on_record(trial) for trial in finished],
    }
    content = {**config.model_dump(mode="json", exclude_none=True, exclude={"seed"}), "tuning": tuning}
    path = folder / "best.toml"
    write_text(path, tomli_w.dumps(content))
    return Search(path, config, float(best.value or 0.0), len(finished), len(finished) - len(complete))


def _on_record(trial: FrozenTrial) -> dict[str, Any]:
    """What a trial tried and found: percentages, or why it failed."""
    tried = {name: round(value, 4) if isinstance(value, float) else value for name, value in trial.params.items()}
    if trial.state != TrialState.COMPLETE:
        return {"number": trial.number, "params": tried, "reason": trial.user_attrs["reason"]}
    return {"number": trial.number, "params": tried, "macro": trial.value, "ece": trial.user_attrs["ece"]}
