"""The leaderboard as a picture: the terminal's table as SVG."""

import io
import re

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from ltbench.report.table import HEADER, NOTE, Board, cells

WIDTH = 118


def render_svg(boards: list[Board]) -> str:
    """A self-contained SVG of the leaderboards."""
    console = Console(record=True, file=io.StringIO(), width=WIDTH, force_terminal=True, color_system="truecolor")
    for board in boards:
        table = Table(title=board.title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, expand=True)
        for number, name in enumerate(HEADER):
            table.add_column(name, justify="left" if number == 0 else "right", no_wrap=True)
        for row in cells(board, lambda text: f"[bold]{text}[/bold]"):
            table.add_row(*row)
        console.print(table)
    console.print(NOTE, style="dim", highlight=False)
    picture = console.export_svg(title="ltbench report")
    return re.sub(r"@font-face \{.*?\}", "", picture, flags=re.DOTALL)  # they would be fetched from the network
