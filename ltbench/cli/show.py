"""ltbench show."""

from pathlib import Path

from ltbench.cli.options import ResultFolders, StoredRun


def show(run: StoredRun, results: ResultFolders = None) -> None:
    """Show a stored run.

    It has settings, metrics, costs, and the command that repeats the run.
    """
    from ltbench.cli import run_details
    from ltbench.report.find import find_run

    run_details.show(*find_run(run, results or [Path("results")]))
