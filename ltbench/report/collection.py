"""The stored results of some folders, read once for all that a report shows."""

import gc
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ltbench.config import Recipe
from ltbench.declared import method_named
from ltbench.errors import LtbenchError, unknown
from ltbench.printable import printable, printable_name, printable_values
from ltbench.report.how_trained import backbone_name
from ltbench.results.schema import Result
from ltbench.results.store import content_of, parsed, read


@dataclass(frozen=True)
class Collection:
    """Results by run id, where each is stored, and what could not be read."""

    results: dict[str, Result] = field(default_factory=dict)
    paths: dict[str, Path] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    """One message per file that is damaged, half-written or no result."""
    files: int = 0
    """Number of files, damaged ones and copies included."""
    conflicts: list[str] = field(default_factory=list)
    """One message per file of a run whose copies contradict each other; none of them counts."""
    unreadable: list[str] = field(default_factory=list)
    """One message per folder that cannot be read."""

    @property
    def left_out(self) -> list[str]:
        """All messages."""
        return [*self.unreadable, *self.problems, *self.conflicts]


def collect(folders: Iterable[str | Path], without: Sequence[str] = ()) -> Collection:
    """Read every result below some folders.

    Names and other texts are made printable (``ltbench.printable``): whatever shows them needs no care of its own.

    Args:
        folders: a run that stands in several is taken once; one that is done before one that is not.
        without: fields of results that are not needed, such as ``curve``; see ``ltbench.results.store.parsed``.

    Raises:
        LtbenchError: if a folder is not there.
    """
    with no_search_for_cycles():
        return _collected(folders, without)


def _collected(folders: Iterable[str | Path], without: Sequence[str]) -> Collection:
    copies: dict[str, list[tuple[Result, Path]]] = {}
    problems: list[str] = []
    unreadable: list[str] = []
    files = 0
    share = _Shared()
    for path in (path for folder in folders for path in result_files(Path(folder), unreadable.append)):
        files += 1
        try:
            content = content_of(path)
            result = share(shown(parsed(content, path, without), content))
        except LtbenchError as error:
            problems.append(str(error))
            continue
        copies.setdefault(result.run_id, []).append((result, path))
    results: dict[str, Result] = {}
    paths: dict[str, Path] = {}
    conflicts: list[str] = []
    for run_id, found in copies.items():
        if len(found) > 1 and without:  # whole, so that they can be compared
            found = [(shown(read(path)), path) for _, path in found]
        if one := the_run(found):
            results[run_id], paths[run_id] = one
        else:
            conflicts += [_conflict(path, run_id, found) for _, path in found]
    for same in same_runs(results):
        found = [(results[run_id], paths[run_id]) for run_id in same]
        if the_run(found) is None:
            conflicts += [_conflict(path, result.run_id, found) for result, path in found]
            for run_id in same:
                del results[run_id], paths[run_id]
    return Collection(results, paths, problems, files, conflicts, unreadable)


class _Shared:
    """Lets results share the parts that are equal in many of them: data, method, recipe, where they ran."""

    def __init__(self) -> None:
        self._last: dict[tuple[object, ...], Any] = {}

    def __call__(self, result: Result) -> Result:
        """The result, whose parts nobody else has yet, with those that an earlier one has."""
        config, provenance = result.config, result.provenance
        of_method = (config.method, config.dataset)
        for where, name, key in (
            (vars(result), "data", (config.dataset,)),
            (vars(result), "method", (*of_method, result.method.revision)),
            (vars(config), "recipe", of_method),
            (vars(result), "experts", of_method),
            (vars(result), "tuning", of_method),
            (provenance, "versions", ()),
            (provenance, "git", ()),
            (provenance, "hardware", ()),
        ):
            if name in where:
                known = self._last.setdefault((name, *key), where[name])
                if known is not where[name] and known == where[name]:
                    where[name] = known
                else:
                    self._last[(name, *key)] = where[name]
        test = result.test
        for model in (result, config, result.shift, result.cost, result.outcomes, test, test and test.bins):
            if model is not None:  # sets of names, which are larger than what they name
                names = self._last.setdefault((type(model),), model.model_fields_set)
                if names == model.model_fields_set:
                    object.__setattr__(model, "__pydantic_fields_set__", names)
        return result


def the_run(copies: Sequence[tuple[Result, Path]]) -> tuple[Result, Path] | None:
    """The copy of a run that counts: the first that is done, else the first. None where done ones contradict."""
    done = [one for one in copies if one[0].status == "done"]
    if not all(_agree(done[0][0], other) for other, _ in done[1:]):
        return None
    return (done or list(copies))[0]


def _agree(one: Result, other: Result) -> bool:
    """Whether two files of a run say the same, as far as both say anything: older ones lack some figures."""
    if one.config.model_dump(exclude={"seed"}) != other.config.model_dump(exclude={"seed"}):
        return False
    parts = one.metrics.keys() & other.metrics.keys()
    pairs: list[tuple[Any, Any]] = [(one.metrics[part], other.metrics[part]) for part in parts]
    pairs += [(one.outcomes, other.outcomes), (one.shift, other.shift)]
    return (
        one.method.revision == other.method.revision
        and one.data.fingerprints == other.data.fingerprints
        and all(_same(first, second) for first, second in pairs)
    )


def _same(one: Any, other: Any) -> bool:
    if one is None or other is None or one == other:
        return True
    if type(one) is not type(other) or not hasattr(one, "model_dump"):
        return False
    theirs = other.model_dump(exclude_none=True)
    return all(theirs.get(name, value) == value for name, value in one.model_dump(exclude_none=True).items())


def _same_run(result: Result) -> tuple[str, ...]:
    """Settings, revision and data: equal for a run that is stored under two ids."""
    prints = map(str, sorted(result.data.fingerprints.items()))
    return (result.config.model_dump_json(), result.method.revision, *prints)


def same_runs(results: Mapping[str, Result]) -> list[list[str]]:
    """Groups of two or more run ids that belong to one run, which is done and tested."""
    near: dict[tuple[object, ...], list[str]] = {}  # what is found quickly, since hardly a run stands there twice
    for run_id, result in results.items():
        config = result.config
        if result.test is not None and result.status == "done":
            key = (config.method, config.dataset, config.seed, result.method.revision, str(config.hyperparameters))
            near.setdefault(key, []).append(run_id)
    ids: dict[tuple[str, ...], list[str]] = {}
    for run_id in (run_id for some in near.values() if len(some) > 1 for run_id in some):
        ids.setdefault(_same_run(results[run_id]), []).append(run_id)
    return [some for some in ids.values() if len(some) > 1]


def _conflict(path: Path, run_id: str, copies: Sequence[tuple[Result, Path]]) -> str:
    others = ", ".join(
        printable_name(str(other)) for result, other in copies if other != path and result.status == "done"
    )
    return (
        f"{printable_name(str(path))}: run {run_id} stands in {others} with other numbers: "
        "none of these files counts; delete the wrong ones"
    )


def shown(result: Result, content: bytes | None = None) -> Result:
    """A result as it can be shown: every text printable and in one line, but for the lines of BibTeX.

    Args:
        result: as it was read.
        content: of its file, if at hand: it tells at once that most results have nothing to change.
    """
    paper = result.method.paper
    bibtex = paper.bibtex if paper else ""
    if content is not None:
        escapes = content.count(b"\\") - json.dumps(bibtex).count("\\")
        plain = content.isascii() or content.decode().replace("\n", "").isprintable()
        if plain and not escapes and b"\x7f" not in content and bibtex == printable(bibtex):
            return result
    values = printable_values(result.model_dump(mode="json"))
    if paper:
        values["method"]["paper"]["bibtex"] = printable(bibtex)
    return Result.model_validate(values)


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


def of_settings(
    stored: Collection, *, dataset: str | None = None, backbone: str | None = None, epochs: int | None = None
) -> Collection:
    """The runs with some settings; None for any.

    Args:
        stored: the runs.
        dataset: name of the data set, or of the user's folder.
        backbone: its name, or as papers write it, e.g. "ResNet-32".
        epochs: of the recipe.

    Raises:
        LtbenchError: if there is no such run, with the nearest that there is.
    """

    def values(name: str, result: Result) -> set[str]:
        config = result.config
        if name == "dataset":
            return {config.dataset, result.data.folder or config.dataset}
        if name == "backbone":
            return {str(config.backbone), backbone_name(config.backbone)}
        return {str(config.recipe.epochs) if isinstance(config.recipe, Recipe) else "none"}

    wanted = {"dataset": dataset, "backbone": backbone, "epochs": epochs}
    for name, value in wanted.items():
        if value is not None:
            there = {known for result in stored.results.values() for known in values(name, result)}
            if str(value) not in there:
                raise unknown(name, str(value), there, where=f"--{name}: the stored runs")
            stored = of_runs(
                stored, [one for one, result in stored.results.items() if str(value) in values(name, result)]
            )
    return stored


def of_methods(stored: Collection, names: Sequence[str]) -> Collection:
    """The runs of some methods.

    Args:
        stored: the runs.
        names: of the methods, also those that papers have for them; none for all.

    Raises:
        LtbenchError: if there is no run of one of them.
    """
    there = {result.config.method for result in stored.results.values()}
    names = [name if name in there else method_named(name) for name in names]
    for name in names:
        if name not in there:
            raise unknown("method", name, there, where="--method: the stored runs")
    if not names:
        return stored
    return of_runs(stored, [run_id for run_id, result in stored.results.items() if result.config.method in names])


def of_runs(stored: Collection, run_ids: Sequence[str]) -> Collection:
    """Some of the runs, by their ids, and all messages."""
    results = {run_id: stored.results[run_id] for run_id in run_ids}
    return replace(stored, results=results, paths={run_id: stored.paths[run_id] for run_id in run_ids})


def result_files(folder: Path, report_unreadable: Callable[[str], None]) -> list[Path]:
    """Every file below a folder that is named like a result, in order; also in folders that links lead to.

    Args:
        folder: to look into.
        report_unreadable: is called with a message for each folder below it that cannot be read.

    Raises:
        LtbenchError: if the folder is not there or cannot be read.
    """
    if not folder.is_dir():
        raise LtbenchError(
            "the results folder does not exist",
            where=folder.absolute(),
            hint="ltbench run makes one; --results names another",
        )

    def unreadable(error: OSError) -> None:
        if error.filename == str(folder):
            raise LtbenchError(f"cannot read the results folder: {error.strerror}", where=folder.absolute())
        report_unreadable(str(LtbenchError(f"cannot read the folder: {error.strerror}", where=error.filename)))

    found = []
    seen = set()
    for place, below, names in os.walk(folder, onerror=unreadable, followlinks=True):
        about = Path(place).stat()
        if (about.st_dev, about.st_ino) in seen:  # a link leads back, or two lead here
            below.clear()
            continue
        seen.add((about.st_dev, about.st_ino))
        # A folder named like a result is reported as one that cannot be read.
        candidates = names + [name for name in below if name.endswith(".json")]
        found += [Path(place, name) for name in candidates if name.endswith(".json") and not name.startswith(".")]
    return sorted(found)
