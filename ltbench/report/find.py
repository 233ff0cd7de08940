"""Finding one stored run."""

from collections.abc import Sequence
from pathlib import Path

from ltbench.errors import LtbenchError
from ltbench.report.collection import result_files, the_run
from ltbench.results.schema import Result
from ltbench.results.store import read


def _is_file(name: str) -> bool:
    try:
        return Path(name).is_file()
    except OSError:  # a name that is too long, or in a folder that may not be read
        return False


def find_run(name: str, folders: Sequence[Path]) -> tuple[Result, Path]:
    """A stored run by result file, run id, or the first digits of one.

    Raises:
        LtbenchError: if there is none, several, or one whose copies contradict each other.
    """
    if _is_file(name):
        return read(Path(name)), Path(name)
    searched = ", ".join(str(folder) for folder in folders)
    unreadable: list[str] = []
    copies: dict[str, list[Path]] = {}
    for path in (path for folder in folders if folder.is_dir() for path in result_files(folder, unreadable.append)):
        if path.stem.startswith(name):
            copies.setdefault(path.stem, []).append(path)
    if not copies:
        raise LtbenchError(
            f"no run '{name}'",
            where="; ".join([searched, *unreadable]),
            hint="run ids are the names of result files; --results names another folder",
        )
    if len(copies) > 1:
        ids = ", ".join(sorted(copies)[:5])
        raise LtbenchError(f"'{name}' fits {len(copies)} runs: {ids}", where=searched, hint="give more digits")
    (paths,) = copies.values()
    read_ones, problems = [], []
    for path in paths:
        try:
            read_ones.append((read(path), path))
        except LtbenchError as error:
            problems.append(error)
    if not read_ones:
        raise problems[0]
    found = the_run(read_ones)
    if found is None:
        raise LtbenchError(
            f"run '{name}' stands in {len(paths)} files with different numbers",
            where=", ".join(map(str, paths)),
            hint="name the file instead of the run",
        )
    return found
