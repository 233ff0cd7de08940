"""ltbench report and show."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ltbench.cli.options import (
    ResultFolders,
    say,
)

if TYPE_CHECKING:
    from ltbench.report.collection import Collection


def report(
    results: ResultFolders = None,
    style: Annotated[
        Literal["md", "csv", "json", "latex", "svg", "html"], typer.Option("--format", help="Of the output")
    ] = "md",
    method: Annotated[str | None, typer.Option(help="Method, or several by commas  [default: all]")] = None,
    output: Annotated[
        Path | None, typer.Option(help="File to write  [default: standard output]; of figures, the folder: figures")
    ] = None,
    figures: Annotated[
        str | None,
        typer.Option(
            help="Write figures instead, as SVG and PNG: poster, all, or names by commas; a wrong one lists all"
        ),
    ] = None,
    diff: Annotated[
        tuple[str, str] | None,
        typer.Option(
            help="What differs between two runs instead, and whether one table may hold both", metavar="RUN RUN"
        ),
    ] = None,
) -> None:
    """Print the leaderboard: mean and standard deviation over seeds of accuracy, ECE and MCE."""
    if diff is not None:
        _print_difference(diff, results or [Path("results")], style, output)
        return
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
    methods = method.split(",") if method else []
    if figures is not None:
        _write_figures(figures, stored, methods, results or [Path("results")], output or Path("figures"))
        return
    stored = of_methods(stored, methods)
    boards = leaderboards(stored)
    if style == "html":
        from ltbench.report.page import page

        text = page.render(stored, boards, results or [Path("results")], asked=bool(methods))
    else:
        text = render_svg(boards) if style == "svg" else render(boards, style)
    if output is None:
        sys.stdout.write(text)
    else:
        write_text(output, text)


def _print_difference(names: tuple[str, str], folders: list[Path], style: str, output: Path | None) -> None:
    """Say what differs between two stored runs."""
    from rich.console import Console

    from ltbench.atomic import write_text
    from ltbench.errors import LtbenchError
    from ltbench.report.difference import FORMATS, difference, render, terminal
    from ltbench.report.find import find_run

    found = difference(*(find_run(name, folders)[0] for name in names))
    if style == "text" and output is None:
        Console(highlight=False).print(terminal(found))
        return
    if style not in FORMATS:
        raise LtbenchError(
            f"--diff has no format {style}", where="--format", hint=f"use one of text, {', '.join(FORMATS)}"
        )
    text = render(found, style)
    if output is None:
        sys.stdout.write(text)
    else:
        write_text(output, text)


def _write_figures(figures: str, stored: "Collection", methods: list[str], folders: list[Path], output: Path) -> None:
    """Draw the figures of the largest leaderboard."""
    from ltbench.report.board import leaderboards
    from ltbench.report.collection import of_methods
    from ltbench.report.figures import parse_names, write
    from ltbench.report.figures.material import finished_runs, gather, largest

    names = parse_names(figures)
    stored = of_methods(stored, methods)
    boards = leaderboards(stored) if finished_runs(stored) else []
    if len(boards) > 1:
        say(f"of {len(boards)} tables, the figures are of the largest: {largest(boards).title}")
    material = gather(stored, largest(boards) if boards else None, asked=bool(methods), folders=folders)
    written = 0
    for made in write(names, material, output):
        written += isinstance(made, Path)
        typer.echo(made) if isinstance(made, Path) else say(made)
    if not written:
        raise typer.Exit(1)


def show(
    run: Annotated[str, typer.Argument(help="A run id, the first digits of one, or a result file")],
    results: ResultFolders = None,
) -> None:
    """Show a stored run: settings, figures, costs, and the command that reproduces it."""
    from ltbench import console
    from ltbench.report.find import find_run

    console.show(*find_run(run, results or [Path("results")]))
