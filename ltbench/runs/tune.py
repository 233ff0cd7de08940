"""Hyper-parameter search: the space that a method declares, what counts on the validation part of train."""

import hashlib
import json
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from ltbench import registry
from ltbench.config import RunConfig, canonical_json, run_id
from ltbench.data import dataset
from ltbench.errors import LtbenchError
from ltbench.files.atomic import remove_abandoned
from ltbench.files.lock import exclusive
from ltbench.method import Choice, Range
from ltbench.method.search_space import described, distribution
from ltbench.progress import LOADING, ProgressUpdate
from ltbench.results.records import ValidationRecord
from ltbench.results.schema import Result
from ltbench.runs.conclusion import SearchResult, conclude, finished_trials, rounded
from ltbench.runs.launchers.local import run_in_order
from ltbench.runs.options import RunOptions, for_run
from ltbench.runs.plan import fingerprint
from ltbench.runs.pruning import Pruning, pruning_for
from ltbench.runs.resolve import check_search, resolve, search_space
from ltbench.runs.run import run
from ltbench.runs.search_journal import open_study
from ltbench.runs.search_settings import USUAL, SearchSettings, in_words


def tune(
    base: RunConfig,
    trials: int,
    folder: Path,
    options: RunOptions,
    on_trial: Callable[[FrozenTrial], None] = lambda trial: None,
    parallel: int = 1,
    on_begin: Callable[[Sequence[FrozenTrial]], None] = lambda finished: None,
    settings: SearchSettings = USUAL,
    space: Mapping[str, Range | Choice] | None = None,
) -> SearchResult:
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
        settings: what the search optimises, and how.
        space: what the search chooses, as ``search_space`` gives it; None: what the method declares.

    Raises:
        LtbenchError: if the method declares no space, the folder holds another search or one that is under way, its
            record is damaged, or every trial failed.
    """
    if trials < 1:
        raise LtbenchError(f"{trials} trials are too few", where="--trials", hint="ask for at least one")
    base = base.replace(validation=True)
    space = search_space(base) if space is None else space
    settings.check(space)
    options = replace(options, out=folder / "runs", evaluate_test=False)
    identity = SearchIdentity.of(base, space, options, settings)  # what is wrong in it leaves no folder
    hint = "choose another --out, or wait if a search is under way there"
    with exclusive(folder / "study.lock", "a search in this folder", wait=False, hint=hint):
        remove_abandoned(folder)
        study = _open(identity, folder)
        on_begin(finished_trials(study))
        _carry_out(study, identity, trials, options, on_trial, parallel)
        return conclude(study, base, space, settings, folder)


def _carry_out(
    study: optuna.Study,
    identity: "SearchIdentity",
    trials: int,
    options: RunOptions,
    on_trial: Callable[[FrozenTrial], None],
    parallel: int,
) -> None:
    """Run the trials that are left, first those that were under way when the search was stopped."""
    base, space, settings = identity.base, identity.space, identity.settings
    stopped = deque(study.get_trials(False, (TrialState.RUNNING,)))
    under_way: deque[tuple[Trial, Pruning | None]] = deque()

    def chosen() -> Iterator[tuple[RunConfig, Pruning | None]]:
        for number in range(len(finished_trials(study)), trials):
            study.sampler = settings.make_sampler(seed=base.seed, draw=(number,), liar=parallel > 1)
            trial = _taken_up(study, stopped.popleft()) if stopped else _ask(study, space)
            known = trial.number - parallel + 1  # the others may end in any order, and before or after a kill
            pruning = pruning_for(settings, trial.number, study.get_trials(deepcopy=False), known)
            under_way.append((trial, pruning))
            yield base.replace(hyperparameters=suggest(trial, space, base)), pruning

    with closing(_results(chosen(), options, parallel)) as results:  # an error here ends the workers as well
        for result in results:
            trial, pruning = under_way.popleft()
            record(study, trial, result, settings, pruning)
            on_trial(study.trials[trial.number])


def _results(
    trials: Iterable[tuple[RunConfig, Pruning | None]], options: RunOptions, parallel: int
) -> Generator[Result, None, None]:
    if parallel > 1:
        yield from run_in_order(trials, options, parallel)
        return
    for position, (config, pruning) in enumerate(trials):
        options.listener(ProgressUpdate(LOADING, 0.0, run=position))
        result = run(config, replace(for_run(options, position), pruning=pruning))
        options.listener(ProgressUpdate("", 1.0, run=position))
        yield result


def _open(identity: "SearchIdentity", folder: Path) -> optuna.Study:
    """Open the folder's study, if it is of this search; the caller holds its lock."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = open_study(folder / "study.journal", identity.settings.directions)
    for trial in finished_trials(study):
        needed = {"run_id", "hyperparameters"} | ({"ece"} if trial.state == TrialState.COMPLETE else set())
        if not needed <= trial.user_attrs.keys():
            raise LtbenchError(
                f"trial {trial.number + 1} of the search was not made by ltbench tune",
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
    name_metrics(study, identity.settings)
    return study


def name_metrics(study: optuna.Study, settings: SearchSettings) -> None:
    """Name the objectives of a study, for those who open it with other tools; by default it has the one of old."""
    if settings.objectives != USUAL.objectives and study.metric_names is None:
        with warnings.catch_warnings():  # that optuna may change this is nothing to tell whoever tunes
            warnings.simplefilter("ignore", ExperimentalWarning)
            study.set_metric_names(list(settings.objectives))


@dataclass(frozen=True)
class SearchIdentity:
    """What a search is of: trials under other settings, on other data or from another space are no part of it."""

    base: RunConfig
    space: Mapping[str, Range | Choice]
    resolved: RunConfig
    """The settings filled in; its hyper-parameters mean nothing."""
    fingerprints: dict[str, str]
    fingerprint: str
    revision: str
    settings: SearchSettings = USUAL

    @classmethod
    def of(
        cls,
        base: RunConfig,
        space: Mapping[str, Range | Choice],
        options: RunOptions,
        settings: SearchSettings = USUAL,
    ) -> "SearchIdentity":
        """The identity of the search that a command asks for, with the data that are there."""
        run = check_search(base, space)
        data = dataset.load(registry.dataset(base.dataset), run.config, options.data_dir)
        revision = registry.revision(registry.method(base.method))
        return cls(base, space, run.config, data.fingerprints, fingerprint(run, data), revision, settings)

    @property
    def digest(self) -> str:
        """A few digits that stand for all of it."""
        return hashlib.sha256(canonical_json(self.facts).encode()).hexdigest()[:12]

    @property
    def facts(self) -> dict[str, Any]:
        """The settings by name, as the study keeps them. Studies of older versions have the settings only."""
        return {
            "settings": canonical_json(self.base.model_dump(mode="json")),
            "resolved": canonical_json(self.resolved.model_dump(mode="json", exclude={"hyperparameters"})),
            "data": self.fingerprints,
            "revision": self.revision,
            "space": canonical_json({name: described(option) for name, option in self.space.items()}),
            **self._normalisation,
            **self.settings.unusual,
        }

    @property
    def _normalisation(self) -> dict[str, str]:
        """What stands for images that are normalised as weights of a user's say."""
        return {} if self.fingerprint == canonical_json(self.fingerprints) else {"normalisation": self.fingerprint}

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
        if "data" in there and there.get("normalisation") != here.get("normalisation"):
            found.append("normalisation (config.json of the weights)")
        if there.get("revision", self.revision) != self.revision:
            found.append(f"revision of {self.base.method} ({there['revision']} there, {self.revision} here)")
        if study.get_trials(deepcopy=False):  # else what is lacking has not been noted yet
            found += [
                f"{name} ({in_words(was)} there, {in_words(now)} here)"
                for name, now in asdict(self.settings).items()
                if in_words(was := there.get(name, getattr(USUAL, name))) != in_words(now)
            ]
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
    return {name: distribution(option) for name, option in space.items()}


def _ask(study: optuna.Study, space: Mapping[str, Range | Choice]) -> Trial:
    """The next trial, drawn and written in one line, so that a search is never killed amid its parameters.

    It is drawn in a copy of the study in memory: what is drawn depends on the trials alone, and not on who has made
    them, an undisturbed search or several that were killed.
    """
    if study.get_trials(False, (TrialState.WAITING,)):  # by an older version, which queued killed trials anew
        return study.ask(distributions(space))
    draft = optuna.create_study(directions=study.directions, sampler=study.sampler)
    draft.add_trials(study.get_trials(deepcopy=False))
    draft.ask(distributions(space))
    drawn = draft.trials[-1]  # with what CMA-ES has noted of its state
    study.add_trial(
        create_trial(
            state=TrialState.RUNNING,
            params=drawn.params,
            distributions=drawn.distributions,
            system_attrs=drawn.system_attrs,
        )
    )
    return _taken_up(study, study.trials[-1])


def _taken_up(study: optuna.Study, trial: FrozenTrial) -> Trial:
    """A trial that is under way; optuna gives its handle only to who has asked for it."""
    return Trial(study, trial._trial_id)


def suggest(trial: Trial, space: Mapping[str, Range | Choice], base: RunConfig) -> dict[str, Any]:
    """The hyper-parameters of a trial, with those that the user has fixed."""
    suggested = {name: rounded(trial._suggest(name, one), one) for name, one in distributions(space).items()}
    return {**base.hyperparameters, **suggested}


def record(
    study: optuna.Study, trial: Trial, result: Result, settings: SearchSettings, pruning: Pruning | None = None
) -> None:
    """Note the outcome of a trial: what it has reached, after how many epochs it was pruned, or why it has failed.

    Args:
        study: the search.
        trial: of it.
        result: of the trial's run.
        settings: of the search.
        pruning: what might have ended the trial early.
    """
    trial.set_user_attr("run_id", result.run_id)
    trial.set_user_attr("hyperparameters", result.config.hyperparameters)
    curve = result.validation_curve
    if pruning is not None and curve is not None:
        _record_curve(study, trial, curve, pruning)
    if result.status == "pruned" and curve is not None:
        study.tell(trial, state=TrialState.PRUNED)
        return
    metrics = result.metrics.get("validation")
    values = [getattr(metrics, name) for name in settings.objectives] if metrics is not None else []
    lacking = [name for name, value in zip(settings.objectives, values, strict=bool(values)) if value is None]
    if metrics is None or lacking:
        trial.set_user_attr("reason", f"there is no {lacking[0]} without such classes" if lacking else result.reason)
        study.tell(trial, state=TrialState.FAIL)
        return
    if settings.objectives != USUAL.objectives:
        trial.set_user_attr("macro", metrics.macro)
    trial.set_user_attr("ece", metrics.ece)
    study.tell(trial, values)


def _record_curve(study: optuna.Study, trial: Trial, curve: ValidationRecord, pruning: Pruning) -> None:
    """Note what was measured while a trial trained, and what its pruner made of it, for the pruning of later ones."""
    there = study.get_trials(deepcopy=False)[trial.number]
    for epochs, value in curve.values.items():
        if epochs not in there.intermediate_values:  # of a record that was interrupted
            trial.report(value, epochs)
    pruning.ends(curve.values, curve.first, curve.epochs)
    for name, noted in pruning.notes.items():
        if name not in there.system_attrs:
            study._storage.set_trial_system_attr(trial._trial_id, name, noted)
