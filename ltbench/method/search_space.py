"""What a search may choose from, beside the hyper-parameter that it chooses."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import Field
from pydantic.fields import FieldInfo

SEARCH = "search"
"""Key of a field's search options in its JSON schema, by name; the field's own have no name."""


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, both included; ``log``: drawn evenly on a logarithmic scale."""

    low: float
    high: float
    log: bool = False


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
    extra: dict[str, Any] = {SEARCH: {key: asdict(one) for key, one in named.items()}}
    return Field(default, json_schema_extra=extra, **options)


def options_of(name: str, field: FieldInfo) -> dict[str, Range | Choice]:
    """The search options of a field, by the name that is searched; none if it is not searched."""
    extra: Any = field.json_schema_extra
    named = extra.get(SEARCH, {}) if isinstance(extra, dict) else {}
    return {key or name: Choice(**one) if "options" in one else Range(**one) for key, one in named.items()}
