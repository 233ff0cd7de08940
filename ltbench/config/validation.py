"""Records of settings that cannot be changed and refuse unknown keys; what is wrong with a setting, in words."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ltbench.errors import LtbenchError, unknown
from ltbench.files.reading import read_small

Model = TypeVar("Model", bound=BaseModel)


Fraction = Annotated[float, Field(ge=0, le=1)]


NonNegative = Annotated[float, Field(ge=0)]


class Frozen(BaseModel):
    """A record that cannot be changed and refuses keys that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def validated(model: type[Model], values: Mapping[str, Any], *, where: object = None, kind: str = "setting") -> Model:
    """Build a settings record, turning pydantic's complaint into ours.

    Args:
        model: the record's class.
        values: of its fields.
        where: they come from.
        kind: what a field of it is called.

    Raises:
        LtbenchError: for an unknown key (with the nearest known one) or a value out of range.
    """
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        raise _explained(model, error, where, kind) from None


def read_toml(path: Path) -> dict[str, Any]:
    """Parse a TOML file.

    Raises:
        LtbenchError: if it is missing or malformed.
    """
    content = read_small(path)
    try:
        return tomllib.loads(content.decode("utf-8-sig"))  # some editors begin a file with a byte order mark
    except RecursionError:
        raise LtbenchError("not a valid TOML file: it is nested too deeply", where=path) from None
    except ValueError as error:
        reason = str(error).partition(";")[0]  # of a number with thousands of digits, what follows is for programmers
        raise LtbenchError(f"not a valid TOML file: {reason}", where=path) from None


def _explained(model: type[BaseModel], error: ValidationError, where: object, kind: str) -> LtbenchError:
    first = max(error.errors(), key=lambda one: len(one["loc"]))  # of alternatives, the one that fitted furthest
    inner, field, path = model, None, []
    for part in map(str, first["loc"]):
        if part in inner.model_fields:
            field = inner.model_fields[part]
            inner = _record(field.annotation) or inner
        elif not part.isdigit():  # the name of an alternative
            continue
        path.append(part)
    name = ".".join(path)
    if first["type"] == "extra_forbidden":
        return unknown(kind, str(first["loc"][-1]), inner.model_fields, where=where)
    reason = first["msg"].removeprefix("Value error, ")
    shown = f" (got {_shown(first['input'])})" if first["loc"] else ""
    hint = f"{name}: {field.description}" if field is not None and field.description else None
    return LtbenchError(f"{name or 'settings'}: {reason}{shown}", where=where, hint=hint)


def _shown(value: object) -> str:
    """A value for a message, which may be of any length."""
    try:
        text = repr(value)
    except ValueError:  # the interpreter writes no number of more than 4300 digits
        return "a number of thousands of digits"
    return text if len(text) <= 200 else f"{text[:150]}... of {len(text)} characters"


def _record(annotation: Any) -> type[BaseModel] | None:
    kinds = (annotation, *get_args(annotation))
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
