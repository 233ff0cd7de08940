"""The terminal that commands print on, in rich's markup."""

from rich.markup import escape

from ltbench.printable import printable_name
from ltbench.report.terminal import Terminal

console = Terminal(soft_wrap=True)


def escaped(text: object) -> str:
    """Text from outside as rich's markup: on one line, its brackets no tags."""
    return escape(printable_name(str(text)))
