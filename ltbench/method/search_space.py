"""What a search may choose from, beside the hyper-parameter that it chooses."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pydantic import Field
from pydantic.fields import FieldInfo

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

SEARCH = "search"
"""Key of a field's search options in its JSON schema, by name; the field's own have no name."""


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, both included; ``log``: drawn evenly on a logarithmic scale.

    ``step``: of the numbers low, low + step, ... only. Where all three are whole, so are the numbers.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None

    @property
    def whole(self) -> bool:
        """Whether it has whole numbers only."""
        return all(isinstance(one, int) for one in (self.low, self.high, self.step))


@dataclass(frozen=True)
class Choice:
    """Listed values."""

    options: tuple[Any, ...]


def hyperparameter(
    default: Any, *, search: Range | Choice | Mapping[str, Range | Choice] | None = None, **options: Any
) -> Any:
    """A pydantic ``Field`` with a search range.

    Args:
        default: its value where neither the user nor the authors give one.
        search: what ``ltbench tune`` chooses it from; None: it is not searched. By name where it is searched through
            other quantities, from which the ``Config`` makes it: BalPoE's taus by ``experts`` and ``spread``.
        options: as for ``pydantic.Field``: ge, gt, le, lt, description, ...
    """
    if search is None:
        return Field(default, **options)
    named = search if isinstance(search, Mapping) else {"": search}
    if not all(isinstance(one, Range | Choice) for one in named.values()):
        raise TypeError(f"search must be a Range or a Choice, or these by name (got {search!r})")
    extra: dict[str, Any] = {SEARCH: {key: described(one) for key, one in named.items()}}
    return Field(default, json_schema_extra=extra, **options)


def described(option: Range | Choice) -> dict[str, Any]:
    """An option as results and studies record it; what is not set is left out, as older versions have it."""
    return {name: value for name, value in asdict(option).items() if value is not None}


def from_description(record: Mapping[str, Any]) -> Range | Choice:
    """An option from its record; see ``described``.

    Raises:
        KeyError, TypeError: if it is none.
    """
    if "options" in record:
        return Choice(tuple(record["options"]))
    return Range(record["low"], record["high"], record["log"], record.get("step"))


def distribution(option: Range | Choice) -> "BaseDistribution":
    """An option in optuna's terms.

    Raises:
        ValueError: if the numbers make no range.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution  # takes a second

    if isinstance(option, Choice):
        return CategoricalDistribution(option.options)
    if option.whole:
        return IntDistribution(int(option.low), int(option.high), log=option.log, step=int(option.step or 1))
    return FloatDistribution(option.low, option.high, log=option.log, step=option.step)


def options_of(name: str, field: FieldInfo) -> dict[str, Range | Choice]:
    """The search options of a field, by the name that is searched; none if it is not searched."""
    extra: Any = field.json_schema_extra
    named = extra.get(SEARCH, {}) if isinstance(extra, dict) else {}
    return {key or name: Choice(**one) if "options" in one else Range(**one) for key, one in named.items()}
