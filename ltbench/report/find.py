"""Finding one stored run."""

from collections.abc import Sequence
from pathlib import Path

from ltbench.errors import LtbenchError
from ltbench.store import Result, read


def find_run(name: str, folders: Sequence[Path]) -> tuple[Result, Path]:
    """A stored run by result file, run id, or the first digits of one.

    Raises:
        LtbenchError: if there is none, or several.
    """
    if Path(name).is_file():
        return read(Path(name)), Path(name)
    searched = ", ".join(str(folder) for folder in folders)
    paths = [path for folder in folders for path in folder.rglob("*.json") if path.stem.startswith(name)]
    found = sorted({path.stem: path for path in reversed(paths)}.items())  # as for reports, the first folder counts
    if not found:
        raise LtbenchError(
            f"no run '{name}'", where=searched, hint="run ids are the names of the files in there; see --results"
        )
    if len(found) > 1:
        ids = ", ".join(run_id for run_id, _ in found[:5])
        raise LtbenchError(f"'{name}' fits {len(found)} runs: {ids}", where=searched, hint="give more digits")
    return read(found[0][1]), found[0][1]
