"""Hyper-parameter search: the space that a method declares, macro accuracy on the validation part of train."""

import hashlib
import json
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import optuna
import tomli_w
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from ltbench import registry, rng
from ltbench.config import RunConfig, canonical_json, run_id
from ltbench.data import dataset
from ltbench.errors import LtbenchError
from ltbench.files.atomic import remove_abandoned, write_text
from ltbench.files.lock import exclusive
from ltbench.method import Choice, Range
from ltbench.progress import LOADING, ProgressUpdate
from ltbench.results.schema import Result
from ltbench.runs.launchers.local import run_in_order
from ltbench.runs.options import RunOptions, for_run
from ltbench.runs.resolve import check_search, resolve, search_space
from ltbench.runs.run import run
from ltbench.runs.search_journal import open_study

OBJECTIVE = "macro accuracy on the validation part of train"


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
    options: RunOptions,
    on_trial: Callable[[FrozenTrial], None] = lambda trial: None,
    parallel: int = 1,
    on_begin: Callable[[Sequence[FrozenTrial]], None] = lambda finished: None,
    also: Sequence[str] = (),
) -> Search:
    """Search a method's space; a search that was stopped or killed resumes, and ends as if it were not.

    Each trial is a run with a validation part; the test set is not looked at. ECE is recorded with every trial.

    With several processes, the n-th trial is chosen when the results of all but ``parallel - 1`` trials before it are
    known, and sees those that are still running as bad ones, so as not to come near them. That depends on the number of
    processes and not on how long a trial takes, so the same search always finds the same; one that was stopped, too.
    Only where it resumes with another number of processes it may choose others.

    One search at a time uses a folder. What is there resumes only if it is the same search: the same settings, with the
    recipe as it is now, images, revision of the method and search space. A search of an older version that has not
    noted all of these resumes if its trials are the runs that the same hyper-parameters give now. Each call writes
    best.toml anew, from all trials that there are, be they more than asked for.

    Args:
        base: the settings that all trials share.
        trials: how many in all, those of earlier calls included.
        folder: for the study, the trials' results and best.toml.
        options: device, data folder and the like; its listener is told of the progress of every trial of this call.
        on_trial: called with every finished trial, in their order.
        parallel: how many trials at once, as for ``sweep.run_all``.
        on_begin: called once with the finished trials of earlier calls.
        also: settings to search that are off by default, e.g. "sam".

    Raises:
        LtbenchError: if the method declares no space, the folder holds another search or one that is under way, its
            record is damaged, or every trial failed.
    """
    if trials < 1:
        raise LtbenchError(f"{trials} trials are too few", where="--trials", hint="ask for at least one")
    base = base.replace(validation=True)
    space = search_space(base, also)
    options = replace(options, out=folder / "runs", evaluate_test=False)
    identity = SearchIdentity.of(base, space, options)  # what is wrong with the settings or the data leaves no folder
    hint = "choose another --out, or wait if a search is under way there"
    with exclusive(folder / "study.lock", "a search in this folder", wait=False, hint=hint):
        remove_abandoned(folder)
        study = _open(identity, folder)
        on_begin(finished_trials(study))
        _carry_out(study, base, space, trials, options, on_trial, parallel)
        return conclude(study, base, space, folder)


def _carry_out(
    study: optuna.Study,
    base: RunConfig,
    space: Mapping[str, Range | Choice],
    trials: int,
    options: RunOptions,
    on_trial: Callable[[FrozenTrial], None],
    parallel: int,
) -> None:
    """Run the trials that are left, first those that were under way when the search was stopped."""
    stopped = deque(study.get_trials(False, (TrialState.RUNNING,)))
    under_way: deque[Trial] = deque()

    def chosen() -> Iterator[RunConfig]:
        for number in range(len(finished_trials(study)), trials):
            seed = rng.key(base.seed, "tpe", number) % 2**32
            study.sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=parallel > 1)
            trial = _taken_up(study, stopped.popleft()) if stopped else _ask(study, space)
            under_way.append(trial)
            yield base.replace(hyperparameters=suggest(trial, space, base))

    with closing(_results(chosen(), options, parallel)) as results:  # an error here ends the workers as well
        for result in results:
            trial = under_way.popleft()
            record(study, trial, result)
            on_trial(study.trials[trial.number])


def _results(configs: Iterable[RunConfig], options: RunOptions, parallel: int) -> Generator[Result, None, None]:
    if parallel > 1:
        yield from run_in_order(configs, options, parallel)
        return
    for position, config in enumerate(configs):
        options.listener(ProgressUpdate(LOADING, 0.0, run=position))
        result = run(config, for_run(options, position))
        options.listener(ProgressUpdate("", 1.0, run=position))
        yield result


def _open(identity: "SearchIdentity", folder: Path) -> optuna.Study:
    """Open the folder's study, if it is of this search; the caller holds its lock."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = open_study(folder / "study.journal")
    for trial in finished_trials(study):
        needed = {"run_id", "hyperparameters"} | ({"ece"} if trial.state == TrialState.COMPLETE else set())
        if not needed <= trial.user_attrs.keys():
            raise LtbenchError(
                f"trial {trial.number} of the search was not made by ltbench tune",
                where=folder.absolute(),
                hint="choose another --out",
            )
    differences = identity.differences(study)
    if differences:
        raise LtbenchError(
            f"the folder holds a search with other {', other '.join(differences)}",
            where=folder.absolute(),
            hint="choose another --out",
        )
    for name, value in identity.facts.items():
        if name not in study.user_attrs:
            study.set_user_attr(name, value)
    return study


@dataclass(frozen=True)
class SearchIdentity:
    """What a search is of: trials under other settings, on other data or from another space are no part of it."""

    base: RunConfig
    space: Mapping[str, Range | Choice]
    resolved: RunConfig
    """With hyper-parameters of no meaning."""
    fingerprints: dict[str, str]
    fingerprint: str
    revision: str

    @classmethod
    def of(cls, base: RunConfig, space: Mapping[str, Range | Choice], options: RunOptions) -> "SearchIdentity":
        """The identity of the search that a command asks for, with the data that are there."""
        resolved = check_search(base, space)
        data = dataset.load(registry.dataset(base.dataset), resolved, options.data_dir)
        revision = registry.revision(registry.method(base.method))
        return cls(base, space, resolved, data.fingerprints, data.fingerprint, revision)

    @property
    def digest(self) -> str:
        """A few digits that stand for all of it."""
        return hashlib.sha256(canonical_json(self.facts).encode()).hexdigest()[:12]

    @property
    def facts(self) -> dict[str, Any]:
        """As the study keeps them, by name. Studies of older versions have the settings only."""
        return {
            "settings": canonical_json(self.base.model_dump(mode="json")),
            "resolved": canonical_json(self.resolved.model_dump(mode="json", exclude={"hyperparameters"})),
            "data": self.fingerprints,
            "revision": self.revision,
            "space": canonical_json({name: asdict(option) for name, option in self.space.items()}),
        }

    def differences(self, study: optuna.Study) -> list[str]:
        """What a study has otherwise, in words; what it does not say, its trials must show."""
        there, here = study.user_attrs, self.facts
        found = [
            f"settings ({words})"
            for name in ("settings", "resolved")
            if (words := _unlike(json.loads(there.get(name, here[name])), json.loads(here[name])))
        ][:1]
        if "data" in there and there["data"] != here["data"]:
            parts = sorted(part for part in here["data"] if here["data"][part] != there["data"].get(part))
            found.append(f"data (the {' and '.join(parts)} images)")
        if there.get("revision", self.revision) != self.revision:
            found.append(f"revision of {self.base.method} ({there['revision']} there, {self.revision} here)")
        if "space" in there:
            words = _unlike(json.loads(there["space"]), json.loads(here["space"]))
            found += [f"search space ({words})"] if words else []
        elif any(trial.distributions.items() - self._distributions().items() for trial in study.get_trials(False)):
            found.append("search space")
        if not found and not {"data", "revision", "resolved"} <= there.keys() and not self._made_its_trials(study):
            found.append(f"data, or another version of the recipe or of {self.base.method}")
        return found

    def _distributions(self) -> dict[str, BaseDistribution]:
        return distributions(self.space)

    def _made_its_trials(self, study: optuna.Study) -> bool:
        """Whether the runs of a study's trials are those that the same hyper-parameters give now."""
        for trial in finished_trials(study):
            config = resolve(self.base.replace(hyperparameters=trial.user_attrs["hyperparameters"])).config
            if run_id(config, self.revision, self.fingerprint) != trial.user_attrs["run_id"]:
                return False
        return True


def _unlike(there: Any, here: Any, name: str = "") -> str:
    """In which values two settings differ, in words; nothing where they do not."""
    if isinstance(there, dict) and isinstance(here, dict):
        inner = [
            _unlike(there.get(key), here.get(key), f"{name}.{key}" if name else key)
            for key in sorted(there.keys() | here.keys())
        ]
        return ", ".join(filter(None, inner))
    return "" if there == here else f"{name}: {there} there, {here} here"


def distributions(space: Mapping[str, Range | Choice]) -> dict[str, BaseDistribution]:
    """A search space in optuna's terms."""
    return {
        name: CategoricalDistribution(option.options)
        if isinstance(option, Choice)
        else FloatDistribution(option.low, option.high, log=option.log)
        for name, option in space.items()
    }


def _ask(study: optuna.Study, space: Mapping[str, Range | Choice]) -> Trial:
    """The next trial, drawn and written in one line, so that a search is never killed amid its parameters.

    It is drawn in a copy of the study in memory: what is drawn depends on the trials alone, and not on who has made
    them, an undisturbed search or several that were killed.
    """
    if study.get_trials(False, (TrialState.WAITING,)):  # by an older version, which queued killed trials anew
        return study.ask(distributions(space))
    draft = optuna.create_study(direction="maximize", sampler=study.sampler)
    draft.add_trials(study.get_trials(deepcopy=False))
    params = draft.ask(distributions(space)).params
    study.add_trial(create_trial(state=TrialState.RUNNING, params=params, distributions=distributions(space)))
    return _taken_up(study, study.trials[-1])


def _taken_up(study: optuna.Study, trial: FrozenTrial) -> Trial:
    """A trial that is under way; optuna gives its handle only to who has asked for it."""
    return Trial(study, trial._trial_id)


def finished_trials(study: optuna.Study) -> list[FrozenTrial]:
    """Trials that ran to an end, good or bad; one that was killed is none."""
    return [
        trial
        for trial in study.get_trials(deepcopy=False)
        if trial.state == TrialState.COMPLETE or (trial.state == TrialState.FAIL and "reason" in trial.user_attrs)
    ]


def suggest(trial: Trial, space: Mapping[str, Range | Choice], base: RunConfig) -> dict[str, Any]:
    """The hyper-parameters of a trial, floats to four digits, with those that the user has fixed."""
    suggested: dict[str, Any] = {}
    for name, option in space.items():
        if isinstance(option, Choice):
            suggested[name] = trial.suggest_categorical(name, option.options)
        else:
            suggested[name] = round(trial.suggest_float(name, option.low, option.high, log=option.log), 4)
    return {**base.hyperparameters, **suggested}


def record(study: optuna.Study, trial: Trial, result: Result) -> None:
    """Note the outcome of a trial: its accuracy, or why it has failed."""
    trial.set_user_attr("run_id", result.run_id)
    trial.set_user_attr("hyperparameters", result.config.hyperparameters)
    if result.status != "done":
        trial.set_user_attr("reason", result.reason)
        study.tell(trial, state=TrialState.FAIL)
        return
    metrics = result.metrics["validation"]
    trial.set_user_attr("ece", metrics.ece)
    study.tell(trial, metrics.macro)


def conclude(study: optuna.Study, base: RunConfig, space: Mapping[str, Range | Choice], folder: Path) -> Search:
    """Write best.toml from all finished trials.

    Args:
        study: the search.
        base: the settings that its trials share.
        space: what it has searched.
        folder: for the file.

    Raises:
        LtbenchError: if every trial has failed.
    """
    finished = finished_trials(study)
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
        "best_trial": finished.index(best),
        "space": {name: asdict(option) for name, option in space.items()},
        "history": [_on_record(number, trial) for number, trial in enumerate(finished)],
    }
    content = {**config.model_dump(mode="json", exclude_none=True, exclude={"seed"}), "tuning": tuning}
    path = folder / "best.toml"
    text = tomli_w.dumps(content)
    if not path.is_file() or path.read_bytes() != text.encode():  # nothing to save in a folder that is read only
        write_text(path, text)
    return Search(path, config, float(best.value or 0.0), len(finished), len(finished) - len(complete))


def _on_record(number: int, trial: FrozenTrial) -> dict[str, Any]:
    """What the n-th trial that has ended tried and found: percentages, or why it failed."""
    tried = {name: round(value, 4) if isinstance(value, float) else value for name, value in trial.params.items()}
    if trial.state != TrialState.COMPLETE:
        return {"number": number, "params": tried, "reason": trial.user_attrs["reason"]}
    return {"number": number, "params": tried, "macro": trial.value, "ece": trial.user_attrs["ece"]}
