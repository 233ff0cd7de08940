"""ltbench report."""

import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ltbench.cli import completion
from ltbench.cli.options import ResultFolders
from ltbench.cli.output import echo, echo_stderr, write_output
from ltbench.files.paths import DEFAULT_RESULTS

if TYPE_CHECKING:
    from ltbench.report.collection import Collection
    from ltbench.report.table import Block


def report(
    results: ResultFolders = None,
    style: Annotated[
        Literal["text", "md", "csv", "json", "latex", "bibtex", "svg", "html"],
        typer.Option("--format", help="Output format"),
    ] = "text",
    suite: Annotated[
        str | None,
        typer.Option(
            help="Suite, by name or file: its runs alone, which are missing, and the command that fills them",
            autocompletion=completion.suites,
        ),
    ] = None,
    method: Annotated[str | None, typer.Option(help="Method, or a comma-separated list  [default: all]")] = None,
    dataset: Annotated[str | None, typer.Option(help="Data set, or name of an image folder  [default: all]")] = None,
    backbone: Annotated[str | None, typer.Option(help="Backbone  [default: all]")] = None,
    epochs: Annotated[int | None, typer.Option(help="Number of training epochs  [default: all]")] = None,
    settings: Annotated[
        str | None,
        typer.Option(
            help="Methods whose other settings are shown below their row, not compared: all, or a comma-separated list"
        ),
    ] = None,
    columns: Annotated[
        str | None, typer.Option(help="Comma-separated list of columns, e.g. rank,acc,few,train  [default: the usual]")
    ] = None,
    sort: Annotated[
        str | None, typer.Option(help="Column to sort by, or method  [default: ties with the best first]")
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Also show paired tests, advice, and what the columns mean")
    ] = False,
    parts: Annotated[
        str | None,
        typer.Option(
            help="all, or a comma-separated list of leaderboard, differences, advice, shift, reported  "
            "[default: leaderboard,differences,advice]"
        ),
    ] = None,
    title: Annotated[
        str | None, typer.Option(help="Heading of a Markdown page, which then names the command that makes it")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="File to write, or folder for --figures  [default: standard output, or figures]")
    ] = None,
    figures: Annotated[
        str | None,
        typer.Option(
            help="Write figures as PDF, SVG and PNG instead of tables: poster, all, or a comma-separated list of names"
        ),
    ] = None,
    diff: Annotated[
        tuple[str, str] | None,
        typer.Option(
            help="Compare two runs: what differs, and whether one leaderboard may hold both", metavar="RUN RUN"
        ),
    ] = None,
) -> None:
    """Print leaderboards and which method leads.

    One row a method, means over seeds, the significance of differences; what is left out is said.
    """
    folders = results or [DEFAULT_RESULTS]
    given: dict[str, object] = {
        "columns": columns,
        "sort": sort,
        "settings": settings,
        "parts": parts,
        "title": title,
        "suite": suite,
    }
    given |= {"method": method, "dataset": dataset, "backbone": backbone, "epochs": epochs}
    told = [name for name, value in given.items() if value is not None] + ["explain"] * explain
    what = "--diff" if diff is not None else "--figures" if figures is not None else f"--format {style}"
    _refuse_unused(told + ["format"] * (what == "--figures" and style != "text"), what)
    if diff is not None:
        _print_difference(diff, folders, style, output)
        return
    from ltbench.report.collection import LONG, collecting, no_search_for_cycles, of_methods, of_runs, of_settings

    there = folders if suite is None else [folder for folder in folders if folder.is_dir()]
    with collecting(there, LONG) as collected, no_search_for_cycles():
        from ltbench.report import machine_formats  # not above: a second process has begun to read
        from ltbench.report.answer import labelling_command
        from ltbench.report.citations import bibtex
        from ltbench.report.contents import contents, parse_parts
        from ltbench.report.leaderboard import leaderboards
        from ltbench.report.leaderboard_table import TableOptions
        from ltbench.report.left_out import counted, left_out, messages

        names = parse_parts(parts)
        view = TableOptions.parsed(columns, sort, settings)
        terminal = style == "text" and output is None and sys.stdout.isatty()
        lacking: list[Block] = []
        if suite is not None:
            from ltbench.cli.suite_settings import missing_sentence, missing_table, suite_runs
            from ltbench.runs.suite import of_suite, suite_settings

            described = suite_runs(suite)
            read = collected()
            found = suite_settings(described, list(read.results.values()))
            read = of_runs(read, of_suite(described, read.results))
            lacking = [missing_table(suite, found, folders)]
            if style not in ("text", "md"):
                echo_stderr(missing_sentence(suite, found))
        else:
            read = collected()
        missing = left_out(read)
        for message in messages(missing):
            echo_stderr(f"left out: {message}")
        if lacking and style in ("text", "md") and not any(setting.done for setting in found):
            write_output(_rendered(lacking, style, title, terminal=False), output)
            return
        methods = method.split(",") if method else []
        chosen = of_settings(read, dataset=dataset, backbone=backbone, epochs=epochs)
        if figures is not None:
            _write_figures(figures, chosen, methods, folders, output or Path("figures"))
            return
        stored = of_methods(chosen, methods)
        view.refuse_unknown_methods({result.config.method for result in stored.results.values()})
        boards = leaderboards(stored)
        if style == "html":
            from ltbench.report.page import page

            text = page.render(stored, boards, folders, read=read, asked=bool(methods), output=output)
        elif style == "bibtex":
            text = bibtex(stored)
        elif style in machine_formats.DATA:
            text = machine_formats.DATA[style](boards, view)
        else:
            fold = parts is None and not explain
            fold_notes = style == "md" or not explain
            asked = contents(boards, stored, names, read, missing=missing, view=view, fold=fold, fold_notes=fold_notes)
            text = _rendered([*asked, *lacking], style, title, terminal=terminal)
    if style not in ("text", "md"):
        echo_stderr(counted(read, missing))
    if terminal:  # rich has written out what acts on it, and its own colours must stay
        sys.stdout.write(text)
    else:
        write_output(text, output)
    if style == "text" and output is None:
        command = next(filter(None, (labelling_command(board, stored) for board in boards)), None)
        if command is not None:
            echo(f"next, to label images of your own by the first row: {command}")


_OF_TABLES = ("columns", "sort", "settings", "parts", "title", "explain")
_UNUSED = {
    "--diff": (*_OF_TABLES, "suite", "method", "dataset", "backbone", "epochs"),
    "--figures": (*_OF_TABLES, "format"),
    "--format html": _OF_TABLES,  # the reader chooses these in the page
    "--format bibtex": _OF_TABLES,
    "--format csv": ("columns", "parts", "title", "explain"),
    "--format json": ("columns", "parts", "title", "explain"),
    "--format text": ("title",),
    "--format latex": ("title",),
}
"""Options that change nothing with another option."""


def _refuse_unused(given: list[str], what: str) -> None:
    """Refuse options that would change nothing.

    Args:
        given: names of options.
        what: is asked for.

    Raises:
        LtbenchError: which one.
    """
    from ltbench.errors import LtbenchError

    unused = _UNUSED.get(what, ())
    for name in given:
        if name in unused:
            hint = f"leave out --{name} or {what}"
            raise LtbenchError(f"--{name} changes nothing with {what}", where=f"--{name}", hint=hint)


def _rendered(parts: "list[Block]", style: str, title: str | None, *, terminal: bool) -> str:
    """Tables and paragraphs as text, Markdown, LaTeX or SVG."""
    from ltbench.report.latex import latex
    from ltbench.report.markdown import markdown
    from ltbench.report.plain_text import text
    from ltbench.report.svg import svg

    if style == "latex":
        return latex(parts)
    if style == "svg":
        return svg(parts, title or "ltbench report")
    if style == "md":
        made_by = f"# {title}\n\nMade by `{shlex.join(['ltbench', *sys.argv[1:]])}`.\n\n"
        return (made_by if title else "") + markdown(parts)
    known = terminal or os.environ.get("COLUMNS", "").isdigit()
    width = shutil.get_terminal_size().columns if known else None
    return text(parts, width, coloured=terminal and "NO_COLOR" not in os.environ)


def _print_difference(names: tuple[str, str], folders: list[Path], style: str, output: Path | None) -> None:
    """Print what differs between two stored runs."""
    from ltbench.errors import LtbenchError
    from ltbench.report.collection import shown
    from ltbench.report.difference import FORMATS, difference, render, terminal
    from ltbench.report.find import find_run
    from ltbench.report.terminal import Terminal

    found = difference(*(shown(find_run(name, folders)[0]) for name in names))
    if style == "text" and output is None:
        Terminal().print(terminal(found))
        return
    style = "md" if style == "text" else style
    if style not in FORMATS:
        raise LtbenchError(
            f"--diff has no format {style}", where="--format", hint=f"use one of text, {', '.join(FORMATS)}"
        )
    text = render(found, style)
    write_output(text, output)


def _write_figures(figures: str, stored: "Collection", methods: list[str], folders: list[Path], output: Path) -> None:
    """Write the figures of the largest leaderboard."""
    from ltbench.report.collection import of_methods
    from ltbench.report.figures import parse_names, write
    from ltbench.report.figures.material import finished_runs, gather
    from ltbench.report.leaderboard import largest, leaderboards

    names = parse_names(figures)
    stored = of_methods(stored, methods)
    boards = leaderboards(stored) if finished_runs(stored) else []
    if len(boards) > 1:
        echo_stderr(f"of {len(boards)} tables, the figures are of the largest: {largest(boards).title}")
    material = gather(stored, largest(boards) if boards else None, asked=bool(methods), folders=folders)
    written = 0
    for made in write(names, material, output):
        written += isinstance(made, Path)
        echo(made) if isinstance(made, Path) else echo_stderr(made)
    if not written:
        raise typer.Exit(1)
