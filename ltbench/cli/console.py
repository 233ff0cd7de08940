"""The terminal that commands print on, in rich's markup."""

import sys

from rich.markup import escape

from ltbench.printable import printable_name
from ltbench.report.terminal import Terminal

console = Terminal(soft_wrap=True)


def terminal_width() -> int | None:
    """Columns of the terminal; None where standard output is redirected, coloured as it may be."""
    return console.width if sys.stdout.isatty() else None


def print_text(text: str) -> None:
    """Print rich's markup, lines as they are: paths are copied."""
    console.print(text, soft_wrap=not console.is_terminal, overflow="ignore", crop=False)


def escaped(text: object) -> str:
    """Text from outside as rich's markup: on one line, its brackets no tags."""
    return escape(printable_name(str(text)))
