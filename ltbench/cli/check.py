"""ltbench check: the conformance suite for a method file."""

from pathlib import Path
from typing import Annotated

import typer

from ltbench.cli.options import tell


def check(file: Annotated[Path, typer.Argument(help="A method file, e.g. my_method.py")]) -> None:
    """Run the conformance suite over a method file: determinism, resuming, gradients, shapes."""
    from ltbench import conformance, registry

    method = registry.method(registry.add_method_file(file))
    failures = 0
    for outcome in conformance.run(method):
        failures += not outcome.passed
        tell(f"{'ok  ' if outcome.passed else 'FAIL'} {outcome.name}{outcome.message and ': ' + outcome.message}")
    if failures:
        raise typer.Exit(1)
