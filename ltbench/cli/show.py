"""ltbench show."""

from ltbench.cli.options import ResultFolders, StoredRun
from ltbench.files.paths import DEFAULT_RESULTS


def show(run: StoredRun, results: ResultFolders = None) -> None:
    """Show a stored run.

    It has settings, metrics, costs, and the command that repeats the run.
    """
    from ltbench.cli import run_details
    from ltbench.report.find import find_run

    run_details.show(*find_run(run, results or [DEFAULT_RESULTS]))
