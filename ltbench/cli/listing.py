"""ltbench list: methods, data sets, backbones, recipes and suites."""

import shutil
import sys
import textwrap
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Literal

import typer

from ltbench.cli.options import MethodsDir, add_methods
from ltbench.cli.output import echo
from ltbench.errors import LtbenchError, unknown
from ltbench.printable import printable_name


def list_names(
    what: Annotated[
        Literal["methods", "datasets", "backbones", "recipes", "suites"], typer.Argument(help="Kind of names")
    ],
    pattern: Annotated[
        str | None, typer.Argument(help="Part of the name, or a pattern with * and ?, e.g. 'resnet*d'  [default: all]")
    ] = None,
    style: Annotated[
        Literal["text", "md"], typer.Option("--format", help="Output format; md: a page about all methods")
    ] = "text",
    results: Annotated[
        list[Path] | None, typer.Option(help="Folder of results that the page takes costs from; may be repeated")
    ] = None,
    methods_dir: MethodsDir = None,
) -> None:
    """List methods, data, backbones, recipes or suites."""
    add_methods(methods_dir)
    if style == "md":
        if what != "methods":
            raise LtbenchError(
                f"there is no page about {what}", where="--format md", hint="use ltbench list methods --format md"
            )
        if pattern is not None:
            raise LtbenchError("the page is about all methods", where="PATTERN", hint="leave the pattern out")
        from ltbench.cli import methods_page

        sys.stdout.write(methods_page.render(results or []))
        return
    if results:
        raise LtbenchError(
            "only the page about methods takes costs from results", where="--results", hint="add --format md"
        )
    rows = [row for row in entries(what) if pattern is None or _matches(row[0], pattern)]
    if not rows:
        raise unknown(what.removesuffix("s"), str(pattern), {row[0] for row in entries(what)}, where="PATTERN")
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for line in in_columns(rows, width):
        echo(line)


def _matches(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) if set(pattern) & set("*?[") else pattern in name


def entries(kind: str) -> list[tuple[str, ...]]:
    """Everything of a kind, the name first, without torch, so that a list comes at once."""
    from ltbench import registry
    from ltbench.config import recipes
    from ltbench.method.paper import year

    if kind == "methods":
        methods = registry.loadable(registry.method_names(), registry.declaration)
        return [
            (name, one.family, year(one.family, one.paper), _named_as_in_papers(name, one.paper.name, one.summary))
            for name, one in methods.items()
        ]
    if kind == "datasets":
        sources = registry.loadable(registry.dataset_names(), registry.dataset)
        return [(name, source.summary) for name, source in sources.items()]
    if kind == "backbones":
        from ltbench.models import network_names

        return [(name,) for name in network_names.backbone_names()]
    if kind == "suites":
        from ltbench.runs.suite import suite_names, suite_summary

        return [(name, suite_summary(name)) for name in suite_names()]
    shared = [(name, recipes.recipe(name, table), table) for name in recipes.names() for table in recipes.tables(name)]
    rows = [
        (name, table, f"{one.epochs} epochs", f"rate {one.lr:g} {one.schedule}", f"batch {one.batch_size}")
        for name, one, table in shared
    ]
    return [*rows, (recipes.PAPER, "each method's own, where its authors have one")]


def _named_as_in_papers(name: str, shown: str, summary: str) -> str:
    """A method's summary, after the name that papers have for it where that is another."""
    return summary if shown in ("", name) else f"{shown}: {summary}"


def in_columns(rows: Sequence[Sequence[str]], width: int | None) -> list[str]:
    """Rows as lines of aligned columns.

    Args:
        rows: the last cell of a shorter one takes the room of the rest.
        width: of the terminal, at which the last column is wrapped; None: nothing is.
    """
    shown = [[printable_name(cell) for cell in row] for row in rows]
    widths = [max(len(row[k]) for row in shown if len(row) > k + 1) for k in range(max(map(len, shown)) - 1)]
    lines = []
    for row in shown:
        head = "".join(f"{cell:<{size}}  " for cell, size in zip(row[:-1], widths, strict=False))
        room = len(row[-1]) if width is None else width - len(head)
        wrapped = textwrap.wrap(row[-1], max(room, 20), break_long_words=False) or [""]
        lines += [(head + wrapped[0]).rstrip(), *(" " * len(head) + more for more in wrapped[1:])]
    return lines
