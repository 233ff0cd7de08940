"""Make text of unknown origin safe for terminals and documents."""

import unicodedata
from collections.abc import Mapping
from typing import Any

_JOINERS = "\u200c\u200d"
"""Format characters that shape letters and emoji, and do nothing else."""


def printable(text: str, keep: str = "\n\t") -> str:
    r"""The text with characters that act on a terminal written out, such as ``\x1b`` for ESC.

    These are controls (C0 and C1), line separators, bidirectional overrides and other invisible formatting, and what
    Unicode does not define.

    Args:
        text: may come from anywhere.
        keep: characters that stay as they are. Of a name none should: a line of its own could be taken for ours.
    """
    kept = keep + _JOINERS
    rest = text
    for one in kept:
        rest = rest.replace(one, "")
    if rest.isprintable():
        return text
    return "".join(one if one in kept or one.isprintable() else _written_out(one) for one in text)


def printable_name(text: str) -> str:
    """A name in one line."""
    return printable(text, keep="")


def printable_values(value: Any) -> Any:
    """Nested values with every text in them, names of values too, in one line."""
    if isinstance(value, str):
        return printable_name(value)
    if isinstance(value, Mapping):
        return {printable_values(name): printable_values(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [printable_values(item) for item in value]
    return value


def _written_out(character: str) -> str:
    if unicodedata.category(character) == "Zs":  # spaces of other widths are seen
        return character
    return character.encode("unicode_escape").decode("ascii")
