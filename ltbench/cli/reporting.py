"""ltbench report and show."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from ltbench.cli.options import (
    ResultFolders,
    say,
)


def report(
    results: ResultFolders = None,
    style: Annotated[
        Literal["md", "csv", "json", "latex", "svg"], typer.Option("--format", help="Of the output")
    ] = "md",
    method: Annotated[str | None, typer.Option(help="Method, or several by commas  [default: all]")] = None,
    output: Annotated[Path | None, typer.Option(help="File to write  [default: standard output]")] = None,
) -> None:
    """Print the leaderboard: mean and standard deviation over seeds of accuracy, ECE and MCE."""
    from ltbench.atomic import write_text
    from ltbench.report.board import leaderboards
    from ltbench.report.collection import collect, of_methods
    from ltbench.report.picture import render_svg
    from ltbench.report.table import render

    stored = collect(results or [Path("results")])
    for problem in stored.problems:
        say(f"left out: {problem}")
    for name, result in stored.results.items():
        if result.status != "done":
            say(f"left out: {stored.paths[name]}: {result.status}: {result.reason}")
    boards = leaderboards(of_methods(stored, method.split(",") if method else []))
    text = render_svg(boards) if style == "svg" else render(boards, style)
    if output is None:
        sys.stdout.write(text)
    else:
        write_text(output, text)


def show(
    run: Annotated[str, typer.Argument(help="A run id, the first digits of one, or a result file")],
    results: ResultFolders = None,
) -> None:
    """Show a stored run: settings, figures, costs, and the command that reproduces it."""
    from ltbench import console
    from ltbench.report.find import find_run

    console.show(*find_run(run, results or [Path("results")]))
