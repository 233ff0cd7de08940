"""The stored results of some folders, read once for all that a report shows."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ltbench.errors import LtbenchError
from ltbench.store import Result, read


@dataclass(frozen=True)
class Collection:
    """Results by run id, where each is stored, and what could not be read."""

    results: dict[str, Result] = field(default_factory=dict)
    paths: dict[str, Path] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    """A message a file that is damaged, half-written or no result."""


def collect(folders: Iterable[str | Path]) -> Collection:
    """Read every result below some folders.

    Args:
        folders: a run that stands in several is taken from the first in which it is done.

    Raises:
        LtbenchError: if a folder is not there.
    """
    found = Collection()
    for folder in folders:
        for path in _files(Path(folder)):
            try:
                result = read(path)
            except LtbenchError as error:
                found.problems.append(str(error))
                continue
            before = found.results.get(result.run_id)
            if before is None or before.status != "done":
                found.results[result.run_id], found.paths[result.run_id] = result, path
    return found


def _files(folder: Path) -> Sequence[Path]:
    if not folder.is_dir():
        raise LtbenchError(
            "the results folder is not there",
            where=folder.absolute(),
            hint="ltbench run makes one; see --results",
        )
    return sorted(path for path in folder.rglob("*.json") if not path.name.startswith("."))
