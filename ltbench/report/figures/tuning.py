"""A search for hyper-parameters: what it found when, and which of them mattered."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from optuna.trial import FrozenTrial
from pydantic import BaseModel, Field, FiniteFloat, ValidationError

from ltbench.config import read_toml
from ltbench.errors import LtbenchError, LtbenchWarning
from ltbench.method.search_space import distribution, from_description
from ltbench.registry.declared import display_name, recipe_of
from ltbench.report.figures.material import Material, shown_name
from ltbench.report.figures.style import BLUE, DOUBLE, GREY, VERMILLION, key, title
from ltbench.results.records import LOWER_IS_BETTER


@dataclass(frozen=True)
class Search:
    """A search with its trials on record."""

    name: str
    """The method, as papers name it, and the data set."""
    trained: str
    """The recipe and its length, as far as they are known."""
    space: Mapping[str, Mapping[str, Any]]
    history: Sequence[Mapping[str, Any]]
    objectives: Sequence[str] = ("macro",)
    """Metrics on validation images; the figures of one metric are of the first."""
    front: Sequence[int] = ()
    """The trials of the Pareto front, where there are several objectives."""

    @property
    def objective(self) -> str:
        """The metric that counts, or that counts first."""
        return self.objectives[0]

    @property
    def done(self) -> list[Mapping[str, Any]]:
        """The trials that were neither pruned nor failed."""
        return [trial for trial in self.history if trial.get(self.objective) is not None]

    @property
    def title(self) -> str:
        """The method, the data, how it was trained, and how many trials there are."""
        pruned = sum("pruned_after" in trial for trial in self.history)
        failed = len(self.history) - len(self.done) - pruned
        counts = {"pruned": pruned, "failed": failed}
        number = f"n = {len(self.history)} trials" + "".join(f", {n} {name}" for name, n in counts.items() if n)
        return " · ".join(filter(None, [self.name, self.trained, number]))


def largest(material: Material) -> Search:
    """Of several searches, the one with the most trials.

    Raises:
        LtbenchError: if no search with its trials on record is stored.
    """
    found = searches(material)
    if not found:
        raise LtbenchError(
            "no search for hyper-parameters with its trials on record is stored",
            hint="ltbench tune, then --results tune/DATASET-METHOD",
        )
    return max(found, key=lambda one: len(one.history))


def axis_label(metric: str) -> str:
    """What a metric on validation images is called beside an axis."""
    names = {"macro": "macro accuracy", "top1": "accuracy", "worst_class": "worst class"}
    shown = metric.upper() if metric in ("ece", "mce", "nll") else names.get(metric, metric.replace("_", " "))
    return f"{shown} on validation" + (" (%)" if metric not in ("nll", "brier") else "")


def draw(material: Material) -> Figure:
    """Validation accuracy of every trial, the best so far, and the importance of each hyper-parameter.

    Importance: the fraction of the variance of a random forest's predictions, fANOVA (Hutter et al., ICML 2014). Of
    several searches, the one with the most trials.

    Raises:
        LtbenchError: if no search with its trials on record is stored.
    """
    search = largest(material)
    figure = Figure(figsize=(DOUBLE, 2.3))
    left, right = figure.subplots(1, 2, width_ratios=[1.7, 1])
    numbers, values = [trial["number"] + 1 for trial in search.done], [trial[search.objective] for trial in search.done]
    lower = search.objective in LOWER_IS_BETTER
    left.plot(numbers, values, "o", color=BLUE, label="trial")
    best = (np.minimum if lower else np.maximum).accumulate(values)
    left.step(numbers, best, where="post", color=VERMILLION, label="best so far")
    ended = {"pruned": ("|", "pruned_after"), "failed": ("x", "reason")}
    for label, (marker, record) in ended.items():
        others = [trial["number"] + 1 for trial in search.history if record in trial]
        if others:
            left.plot(others, [max(values) if lower else min(values)] * len(others), marker, color=GREY, label=label)
    left.set(xlabel="trial", ylabel=axis_label(search.objective))
    left.xaxis.set_major_locator(MaxNLocator(integer=True))
    key(figure, left, 4)
    shares = importance(search)
    right.barh(list(map(shown_name, shares)), list(shares.values()), color=BLUE, height=0.6)
    right.invert_yaxis()
    right.grid(axis="y", visible=False)
    right.set(xlabel="importance (% of variance)", xlim=(0, 100))
    title(figure, search.title)
    return figure


def searches(material: Material) -> list[Search]:
    """Those that chose the settings of stored runs, and those of every best.toml in the folders.

    A record that is damaged is left out, of which a warning tells.
    """
    tunings: list[Mapping[str, object]] = [
        {**run.config.model_dump(), "tuning": run.tuning} for one in material.settings for run in one.runs if run.tuning
    ]
    for path in sorted(path for folder in material.folders for path in folder.rglob("best.toml") if path.is_file()):
        try:
            best = read_toml(path)
        except LtbenchError as error:
            warnings.warn(str(error), LtbenchWarning, stacklevel=2)
            continue
        tunings.append(best)
    made = []
    for config in tunings:
        tuning = config.get("tuning")
        if not isinstance(tuning, dict) or not tuning.get("history"):
            continue
        name = f"{display_name(str(config.get('method')))} on {config.get('dataset')}"
        try:
            record = _Record.model_validate(tuning)
            search = Search(
                shown_name(name),
                shown_name(_trained(config)),
                record.space,
                [one.model_dump(exclude_none=True) for one in record.history],
                record.objectives,
                record.front,
            )
            _trials(search)
        except (ValidationError, ValueError, TypeError, KeyError):
            message = f"the record of the search for hyper-parameters of {name} is damaged; no figure shows it"
            warnings.warn(message, LtbenchWarning, stacklevel=2)
        else:
            made.append(search)
    return [search for search in made if search.done]


def _trained(config: Mapping[str, Any]) -> str:
    """The recipe of a search and its epochs, from the settings that it chose for a run."""
    recipe = config.get("recipe")
    settings = recipe if isinstance(recipe, Mapping) else {"name": recipe}
    known = recipe_of(str(recipe), str(config.get("dataset")), str(config.get("train", "all")))
    epochs = config.get("epochs") or settings.get("epochs") or (known.epochs if known is not None else None)
    name = f"{settings['name']} recipe" if settings.get("name") else ""
    return ", ".join(filter(None, [name, f"{epochs} epochs" if epochs else ""]))


class _Trial(BaseModel, extra="allow"):
    """A trial; further objectives are fields of their own."""

    __pydantic_extra__: dict[str, FiniteFloat | str | None] = Field(init=False)
    number: int = Field(ge=0, le=10**9)
    params: dict[str, Any]
    macro: float | None = Field(None, ge=0, le=100)
    reason: str | None = None
    pruned_after: int | None = None


class _Record(BaseModel):
    space: dict[str, dict[str, Any]] = Field(min_length=1)
    history: list[_Trial]
    objectives: list[str] = Field(["macro"], min_length=1)
    front: list[int] = []


def _trials(search: Search) -> list[FrozenTrial]:
    """The finished trials as Optuna has them.

    Raises:
        ValueError: if they are not of the space.
    """
    space = {name: distribution(from_description(option)) for name, option in search.space.items()}
    return [
        optuna.trial.create_trial(
            params=dict(trial["params"]), distributions=space, value=float(trial[search.objective])
        )
        for trial in search.done
    ]


def importance(search: Search) -> dict[str, float]:
    """Importance by hyper-parameter, percent, the largest first; empty where the trials hardly differ."""
    if len({trial[search.objective] for trial in search.done}) < 2:
        return {}
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances  # scikit-learn takes a while

    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize")
    optuna.logging.set_verbosity(level)
    study.add_trials(_trials(search))
    try:
        shares = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
    except RuntimeError:  # no variance, e.g. of equal parameters
        return {}
    return {name: 100 * fraction for name, fraction in shares.items()}
