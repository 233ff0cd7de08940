"""What a search found: best.toml, and of several objectives the Pareto front."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
import tomli_w
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState

from ltbench.config import RunConfig
from ltbench.errors import LtbenchError
from ltbench.files.atomic import write_text
from ltbench.method import Choice, Range
from ltbench.method.search_space import described
from ltbench.runs.search_settings import SearchSettings


@dataclass(frozen=True)
class SearchResult:
    """What a search found."""

    best_file: Path
    best: RunConfig
    accuracy: float
    """Macro accuracy of the best trial, percent."""
    trials: int
    failed: int
    pruned: int = 0
    values: Sequence[float] = ()
    """Values of the objectives, as the best trial has them."""
    front: Mapping[Path, FrozenTrial] = field(default_factory=dict)
    """Of several objectives: the trials that none beats in one without being worse in another, by their files; the best
    in the first objective first."""


def finished_trials(study: optuna.Study) -> list[FrozenTrial]:
    """Trials that ran to an end, good or bad, or were pruned; one that was killed is none."""
    return [
        trial
        for trial in study.get_trials(deepcopy=False)
        if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)
        or (trial.state == TrialState.FAIL and "reason" in trial.user_attrs)
    ]


def best_trials(trials: Sequence[FrozenTrial], settings: SearchSettings) -> list[FrozenTrial]:
    """The best of trials, or their Pareto front: the best in the first objective first; of equals the earliest first.

    Args:
        trials: in any state; only those that are complete count.
        settings: of their search.
    """
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    points = [
        [-value if lower else value for value, lower in zip(trial.values, settings.lower, strict=True)]
        for trial in complete
    ]
    beaten = [
        any(other != point and all(a >= b for a, b in zip(other, point, strict=True)) for other in points)
        for point in points
    ]
    front = [number for number, worse in enumerate(beaten) if not worse]
    front.sort(key=lambda number: points[number], reverse=True)  # which keeps the order of equals
    return [complete[number] for number in (front if len(settings.objectives) > 1 else front[:1])]


def conclude(
    study: optuna.Study,
    base: RunConfig,
    space: Mapping[str, Range | Choice],
    settings: SearchSettings,
    folder: Path,
) -> SearchResult:
    """Write best.toml from all finished trials, and of several objectives front/NUMBER.toml for each of the front.

    Args:
        study: the search.
        base: the settings that its trials share.
        space: what it has searched.
        settings: what it optimises; best.toml has the trial of the front that is the best in the first objective.
        folder: for the files.

    Raises:
        LtbenchError: if every trial has failed.
    """
    finished = finished_trials(study)
    best = best_trials(finished, settings)
    if not best:
        reasons = [trial.user_attrs["reason"] for trial in finished if trial.state == TrialState.FAIL]
        raise LtbenchError(
            f"all {len(finished)} trials failed, the last: {reasons[-1]}"
            if len(reasons) == len(finished)
            else f"no trial is complete: {len(finished) - len(reasons)} were pruned, and {len(reasons)} failed",
            where=folder.absolute(),
        )
    states = [trial.state for trial in finished]
    number_of = {trial.number: number for number, trial in enumerate(finished)}
    pruned = {"pruned": states.count(TrialState.PRUNED)} if settings.pruner != "none" else {}
    tuning: dict[str, Any] = {
        "objective": settings.in_words,
        "objectives": list(settings.objectives),
        "sampler": settings.sampler,
        "pruner": settings.pruner,
        "trials": len(finished),
        "failed": states.count(TrialState.FAIL),
        **pruned,
        "seed": base.seed,
        "space": {name: described(option) for name, option in space.items()},
        "history": [_on_record(number, trial, settings) for number, trial in enumerate(finished)],
    }
    if len(settings.objectives) > 1:
        tuning["front"] = [number_of[trial.number] for trial in best]
    several = len(settings.objectives) > 1
    # Files are numbered from 1, as people count trials; records from 0, as optuna does.
    front = {folder / "front" / f"{number_of[trial.number] + 1}.toml": trial for trial in best if several}
    files = {folder / "best.toml": best[0], **front}
    for path, trial in files.items():
        config = base.replace(validation=False, hyperparameters=trial.user_attrs["hyperparameters"], seed=0)
        chosen = {f"best_{_LONG.get(name, name)}": value for name, value in figures(trial, settings).items()}
        record = {**tuning, **chosen, "best_trial": number_of[trial.number]}
        content = {**config.model_dump(mode="json", exclude_none=True, exclude={"seed"}), "tuning": record}
        text = tomli_w.dumps(content)
        if not path.is_file() or path.read_bytes() != text.encode():  # nothing to save in a folder that is read only
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, text)
    for left in {*(folder / "front").glob("*.toml")} - files.keys():  # later trials have beaten it
        left.unlink(missing_ok=True)  # another worker may have removed it
    config = base.replace(validation=False, hyperparameters=best[0].user_attrs["hyperparameters"], seed=0)
    return SearchResult(
        folder / "best.toml",
        config,
        figures(best[0], settings)["macro"],
        len(finished),
        states.count(TrialState.FAIL),
        states.count(TrialState.PRUNED),
        best[0].values,
        front,
    )


_LONG = {"macro": "macro_accuracy"}


def figures(trial: FrozenTrial, settings: SearchSettings) -> dict[str, float]:
    """What a complete trial has reached: macro accuracy, ECE and the objectives, by name."""
    found = dict(trial.user_attrs) | dict(zip(settings.objectives, trial.values, strict=True))
    return {name: float(found[name]) for name in dict.fromkeys(("macro", "ece", *settings.objectives))}


def rounded(value: Any, drawn_from: BaseDistribution) -> Any:
    """A hyper-parameter as it is used and recorded: numbers to four decimals, where these say little to four digits."""
    if not isinstance(drawn_from, FloatDistribution):
        return value
    if 0 < abs(drawn_from.low) < _SMALL:
        return float(f"{value:.4g}")
    width = drawn_from.high - drawn_from.low
    return round(value, 3 - math.floor(math.log10(width)) if 0 < width < _NARROW else 4)


_SMALL = 0.001
"""Lower end of a range from which four decimals say too little."""
_NARROW = 0.01
"""Width of a range of which four decimals say too little."""


def _params(trial: FrozenTrial) -> dict[str, Any]:
    return {name: rounded(value, trial.distributions[name]) for name, value in trial.params.items()}


def _on_record(number: int, trial: FrozenTrial, settings: SearchSettings) -> dict[str, Any]:
    """What the n-th trial that has ended tried and found, when it was pruned, or why it failed."""
    record: dict[str, Any] = {"number": number, "params": _params(trial)}
    if trial.state == TrialState.PRUNED:
        return {**record, "pruned_after": trial.last_step, f"last_{settings.objectives[0]}": trial.value}
    if trial.state != TrialState.COMPLETE:
        return {**record, "reason": trial.user_attrs["reason"]}
    return {**record, **figures(trial, settings)}
