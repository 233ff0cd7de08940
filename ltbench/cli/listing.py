"""ltbench list: methods, data sets, backbones and recipes by name."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from ltbench.cli.options import MethodsDir, add_methods
from ltbench.cli.output import echo
from ltbench.errors import LtbenchError
from ltbench.printable import printable_name


def list_names(
    what: Annotated[Literal["methods", "datasets", "backbones", "recipes"], typer.Argument(help="Kind of names")],
    style: Annotated[
        Literal["text", "md"], typer.Option("--format", help="Output format; md: a page about all methods")
    ] = "text",
    results: Annotated[
        list[Path] | None, typer.Option(help="Folder of results that the page takes costs from; may be repeated")
    ] = None,
    methods_dir: MethodsDir = None,
) -> None:
    """List methods, data sets, backbones or recipes."""
    add_methods(methods_dir)
    if style == "md":
        if what != "methods":
            raise LtbenchError(
                f"there is no page about {what}", where="--format md", hint="use ltbench list methods --format md"
            )
        from ltbench.cli import methods_page

        sys.stdout.write(methods_page.render(results or []))
        return
    for name, about in entries(what):
        echo(printable_name(f"{name:<26}{about}" if about else name))


def entries(kind: str) -> list[tuple[str, str]]:
    """Name and a few words for everything of a kind, without torch, so that a list comes at once."""
    from ltbench import registry
    from ltbench.config import recipes

    if kind == "methods":
        return list(registry.loadable(registry.method_names(), registry.method_summary).items())
    if kind == "datasets":
        sources = registry.loadable(registry.dataset_names(), registry.dataset)
        return [(name, source.summary) for name, source in sources.items()]
    if kind == "backbones":
        return [(name, "") for name in registry.backbone_names()]
    shared = [(name, "for " + ", ".join(recipes.tables(name))) for name in recipes.names()]
    return [*shared, (recipes.PAPER, "each method's own, where its authors have one")]
