"""CSV that is safe to open in a spreadsheet: no text is taken for a formula."""

import math
from typing import Any

import pandas as pd

_BEGINS_A_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def csv(table: pd.DataFrame) -> str:
    """A table as CSV, without its index.

    A text cell that a spreadsheet would take for a formula, since it begins with ``= + - @``, a tab or a line end,
    gets an apostrophe in front, as OWASP advises; numbers, also those in text such as "-1", stay as they are.
    """
    safe = table.map(cell).rename(columns=cell)
    return str(safe.to_csv(index=False))


def cell(value: Any) -> Any:
    """A value of a cell; see ``csv``."""
    if isinstance(value, str) and value.startswith(_BEGINS_A_FORMULA) and not _is_number(value):
        return f"'{value}"
    return value


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text)) and text.isascii() and text == text.strip() and "_" not in text
    except ValueError:
        return False
