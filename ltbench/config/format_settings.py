"""Settings as text: in tables, progress and commands, everywhere alike."""

import json
import math
from collections.abc import Mapping
from typing import Any


def format_value(value: Any, *, exact: bool = False) -> str:
    """A value as in ``--set NAME=VALUE``, e.g. "0.4", "true" or "0,1,2".

    Args:
        value: plain data; lists of lists, lists of fewer than two values, and dicts become JSON.
        exact: for a command that repeats a run: floats keep all digits (else at most six), and None is "null".
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return repr(float(value)).removesuffix(".0") if exact else f"{value:g}"
    if isinstance(value, list | tuple):
        if len(value) > 1 and not any(isinstance(item, list | tuple | dict) for item in value):
            return ",".join(format_value(item, exact=exact) for item in value)
        return json.dumps(value, separators=(",", ":"))
    if isinstance(value, dict):
        return json.dumps(value)  # with spaces, where a terminal may break the line
    if value is None:
        return "null" if exact else "none"
    return str(value)


def format_settings(settings: Mapping[str, Any]) -> str:
    """Names and values, e.g. "taus=0,1,2, mixup=0.4"."""
    return ", ".join(f"{name}={format_value(value)}" for name, value in settings.items())


def format_imbalance_ratio(ratio: float | None) -> str:
    """For example "IR 100"; "as it is" for data with its own class counts (None or NaN)."""
    return "as it is" if ratio is None or math.isnan(ratio) else f"IR {ratio:g}"


def format_imbalance(ratio: float | None, imbalance: str, class_order: str) -> str:
    """The same with what is not usual, e.g. "IR 100 in a step, class order drawn".

    Args:
        ratio: the imbalance ratio; None or NaN: the data as they are.
        imbalance: exp or step.
        class_order: label or drawn.
    """
    step = " in a step" if imbalance == "step" else ""
    drawn = ", class order drawn" if class_order == "drawn" else ""
    return f"{format_imbalance_ratio(ratio)}{step}{drawn}"


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as one level: names joined by dots, lists as JSON text."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            flat.update(flatten(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = json.dumps(value) if isinstance(value, list) else value
    return flat
