"""The stored results of some folders, read once for all that a report shows."""

import gc
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ltbench.errors import LtbenchError, unknown
from ltbench.store import Result, read


@dataclass(frozen=True)
class Collection:
    """Results by run id, where each is stored, and what could not be read."""

    results: dict[str, Result] = field(default_factory=dict)
    paths: dict[str, Path] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    """A message a file that is damaged, half-written or no result."""
    files: int = 0
    """Read, these too, and those of runs that stand there twice."""


def collect(folders: Iterable[str | Path]) -> Collection:
    """Read every result below some folders.

    Args:
        folders: a run that stands in several is taken from the first in which it is done.

    Raises:
        LtbenchError: if a folder is not there.
    """
    results: dict[str, Result] = {}
    paths: dict[str, Path] = {}
    problems, files = [], 0
    with no_search_for_cycles():
        for path in (path for folder in folders for path in _files(Path(folder))):
            files += 1
            try:
                result = read(path)
            except LtbenchError as error:
                problems.append(str(error))
                continue
            before = results.get(result.run_id)
            if before is None or before.status != "done":
                results[result.run_id], paths[result.run_id] = result, path
    return Collection(results, paths, problems, files)


@contextmanager
def no_search_for_cycles() -> Iterator[None]:
    """Results hold no cycles; looking for some, again and again as they grow in number, takes longer than reading."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def of_methods(stored: Collection, names: Sequence[str]) -> Collection:
    """The runs of some methods.

    Args:
        stored: the runs.
        names: of the methods; none for all.

    Raises:
        LtbenchError: if there is no run of one of them.
    """
    there = {result.config.method for result in stored.results.values()}
    for name in names:
        if name not in there:
            raise unknown("method", name, there, where="--method: the stored runs")
    if not names:
        return stored
    results = {run_id: result for run_id, result in stored.results.items() if result.config.method in names}
    return Collection(results, {run_id: stored.paths[run_id] for run_id in results}, stored.problems, stored.files)


def _files(folder: Path) -> Sequence[Path]:
    if not folder.is_dir():
        raise LtbenchError(
            "the results folder is not there",
            where=folder.absolute(),
            hint="ltbench run makes one; see --results",
        )
    return sorted(path for path in folder.rglob("*.json") if not path.name.startswith("."))
