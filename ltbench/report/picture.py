"""The leaderboard as a picture: the terminal's table as SVG."""

import io
import re

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from ltbench.report.board import Board
from ltbench.report.table import HEADER, NOTE, cells


def render_svg(boards: list[Board]) -> str:
    """A self-contained SVG of the leaderboards, wide enough for the widest."""
    tables = [_table(board) for board in boards]
    unlimited = Console(file=io.StringIO(), width=1000)
    width = max(Measurement.get(unlimited, unlimited.options, table).maximum for table in tables)
    console = Console(record=True, file=io.StringIO(), width=width, force_terminal=True, color_system="truecolor")
    console.print(*tables, sep="\n")
    console.print(NOTE, style="dim", highlight=False)
    picture = console.export_svg(title="ltbench report")
    return re.sub(r"@font-face \{.*?\}", "", picture, flags=re.DOTALL)  # they would be fetched from the network


def _table(board: Board) -> Table:
    table = Table(title=board.title, title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    for number, name in enumerate(HEADER):
        table.add_column(name, justify="left" if number == 0 else "right", no_wrap=True)
    for row in cells(board, lambda text: f"[bold]{text}[/bold]"):
        table.add_row(*row)
    return table
