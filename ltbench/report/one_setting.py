"""One setting a method: which of a method's settings stands for it in a table, chosen without a look at accuracies.

Where every method has one setting, a table compares methods; the best of many settings of one method, chosen on the
test images, against a single setting of its rivals would not.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ltbench.config import FEATURE_VIEWS
from ltbench.config.format_settings import format_settings
from ltbench.registry.declared import declared_head, hyperparameter_defaults, is_own_method, recipe_of, same_as
from ltbench.results.schema import Result

_OF_THE_RUN = {"cache_resized": None, "decode": "cpu", "batch_norm_images": None, "feature_views": FEATURE_VIEWS}
"""Settings of a run that are neither hyper-parameters nor of its recipe, and their defaults."""


@dataclass(frozen=True)
class Departures:
    """What a setting has otherwise than its method, recipe and data set."""

    hyperparameters: Mapping[str, Any] | None
    """Those that are not the method's defaults for the data set; None where these are not known."""
    others: Mapping[str, Any]
    """Settings of the recipe and of the run; the classifier head is none of them."""
    head: bool | None
    """Whether the classifier head is not the method's own, or the recipe's where it has none. None: that is
    not known, of a method or a recipe of the user's own."""


@dataclass(frozen=True)
class Candidate:
    """A setting of a method."""

    setting: str
    result: Result
    """Any of its runs."""
    seeds: frozenset[int]
    departures: Departures

    @property
    def method(self) -> str:
        """Name of the method."""
        return self.result.config.method

    @property
    def tuned(self) -> bool:
        """Whether a search on validation images chose its hyper-parameters."""
        return bool((self.result.tuning or {}).get("trials"))


@dataclass(frozen=True)
class Chosen:
    """The settings that a table compares."""

    settings: list[str]
    further: Mapping[str, list[str]]
    """Of each of them the settings that it stands for: others of its method, and of methods that equal it."""
    same: Mapping[str, list[str]]
    """Of some of them the settings of other methods that equal it by construction."""
    defaults: frozenset[str] = field(default_factory=frozenset)
    """Those at the defaults of method and recipe."""


def candidate(setting: str, result: Result, seeds: frozenset[int]) -> Candidate:
    """A setting with what it has otherwise than the defaults."""
    return Candidate(setting, result, seeds, _departures(result))


def choose(
    candidates: Sequence[Candidate], table_seeds: Callable[[Sequence[frozenset[int]]], frozenset[int]]
) -> Chosen:
    """The setting that stands for each method.

    It is the default one; without it, the one with the fewest departures, then the newest revision of the method, then
    the most seeds. A tuned setting, which validation images have chosen, takes its place where it has all of the
    table's seeds. Where there is one method only, its settings are what a table can compare: all are chosen.

    Args:
        candidates: the settings of a table.
        table_seeds: the seeds on which a table of rows with such seeds compares.
    """
    of_method: dict[str, list[Candidate]] = {}
    for one in candidates:
        of_method.setdefault(one.method, []).append(one)
    for some in of_method.values():
        some.sort(key=_preference)
    first = {method: some[0] for method, some in of_method.items()}
    defaults = frozenset(one.setting for method, one in first.items() if _is_default(one, of_method[method]))
    if len(first) == 1:
        return Chosen([one.setting for one in candidates], {}, {}, defaults)
    needed = table_seeds([one.seeds for one in first.values()])
    for method, some in of_method.items():
        tuned = [one for one in some if one.tuned and needed and needed <= one.seeds]
        first[method] = tuned[0] if tuned else first[method]
    further = {
        one.setting: [other.setting for other in of_method[method] if other is not one] for method, one in first.items()
    }
    same: dict[str, list[str]] = {}
    for one, other in _pairs(first):
        kept, dropped = (other, one) if len(other.seeds & needed) > len(one.seeds & needed) else (one, other)
        if dropped.setting in further and kept.setting in further:
            further[kept.setting] += [dropped.setting, *further.pop(dropped.setting)]
            same.setdefault(kept.setting, []).extend([dropped.setting, *same.pop(dropped.setting, [])])
    return Chosen(list(further), further, same, defaults)


def _departures(result: Result) -> Departures:
    config, recipe = result.config, result.recipe
    known = result.method.defaults
    if known is None:
        known = hyperparameter_defaults(config.method, config.dataset, config.imbalance_ratio)
    own = None if known is None else _differing(config.hyperparameters, known)
    others = {
        name: value for name, usual in _OF_THE_RUN.items() if (value := getattr(config, name)) not in (None, usual)
    }
    if recipe is None:
        return Departures(own, others, None)
    usual = recipe_of(recipe.name, config.dataset, config.train)
    if recipe.name == "paper" and result.method.authors_recipe is not None:
        usual = result.method.authors_recipe
    if usual is None:
        return Departures(own, others, None)
    differing = _differing(recipe.model_dump(exclude={"name", "epochs", "head"}), usual.model_dump())
    return Departures(own, {**others, **differing}, _departing_head(config.method, recipe.head, usual.head))


def _departing_head(method: str, head: str, usual: str) -> bool | None:
    """``Departures.head`` of a method with a head, where the recipe has the usual one."""
    if is_own_method(method):
        return head != (declared_head(method) or usual)
    return False if head == usual else None


def _differing(values: Mapping[str, Any], usual: Mapping[str, Any]) -> dict[str, Any]:
    """What is not as usual; a value that is not there is older than its name, and as usual."""
    return {name: value for name, value in values.items() if value != usual.get(name)}


def _preference(one: Candidate) -> tuple[Any, ...]:
    """The setting that sorts first stands for the method."""
    own = one.departures.hyperparameters
    revision = one.result.method.revision
    return (
        one.tuned,
        len(own or ()),
        len(one.departures.others),
        one.departures.head is not False,
        -int(revision) if revision.isdigit() else 0,
        -len(one.seeds),
        format_settings(one.result.config.hyperparameters),
        one.setting,
    )


def _is_default(one: Candidate, of_method: Sequence[Candidate]) -> bool:
    """Whether it has all that is usual; a head that all settings of an unknown method have is taken for its own."""
    head = one.departures.head
    if head is None:
        head = any(other.departures.head is False for other in of_method)
    departs = one.departures.hyperparameters or one.departures.others or head
    return one.departures.hyperparameters is not None and not departs and not one.tuned


def _pairs(first: Mapping[str, Candidate]) -> list[tuple[Candidate, Candidate]]:
    """Pairs of settings that are the same by construction, the one whose file says so first."""
    return [
        (one, first[known.method])
        for method, one in first.items()
        for known in same_as(method)
        if known.method in first and _equal(one, first[known.method], known.settings)
    ]


def _equal(one: Candidate, other: Candidate, settings: Mapping[str, Any]) -> bool:
    theirs = other.result.config.hyperparameters
    rest = {name: value for name, value in theirs.items() if name not in settings}
    return (
        all(theirs.get(name) == value for name, value in settings.items())
        and rest == dict(one.result.config.hyperparameters)
        and one.result.config.recipe == other.result.config.recipe
        and one.departures.others == other.departures.others
    )
