"""ltbench check: the conformance checks for a method file."""

from pathlib import Path
from typing import Annotated

import typer

from ltbench.cli.output import echo, getting_ready


def check(file: Annotated[Path, typer.Argument(help="Method file, e.g. my_method.py")]) -> None:
    """Run the conformance checks on a method file.

    It checks determinism, resuming, gradients and shapes. A TOML file beside it, with what is published about the
    method, is checked, too.
    """
    from ltbench import registry

    name = registry.add_method_file(file)
    with getting_ready("check"):
        from ltbench import conformance
        from ltbench.errors import LtbenchError
        from ltbench.method.paper import paper_of
        from ltbench.report.published import reported_numbers

    method = registry.method(name)
    registry.check_paper(name)
    for claim in paper_of(method).claims:
        if not len(reported_numbers(claim.key)):
            raise LtbenchError(
                f"there is no row '{claim.key}' in ltbench/report/published.csv",
                where=f"{file.with_suffix('.toml')}, reported",
                hint="write the first five columns of a row, joined by |; or leave it out",
            )
    failures = 0
    for outcome in conformance.run(method):
        failures += not outcome.passed
        echo(f"{'ok  ' if outcome.passed else 'FAIL'} {outcome.name}{outcome.message and ': ' + outcome.message}")
    if failures:
        raise typer.Exit(1)
