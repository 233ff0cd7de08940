"""The stored results of some folders, read once for all that a report shows."""

import gc
import json
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from ltbench.errors import LtbenchError, LtbenchWarning, unknown
from ltbench.printable import printable, printable_name, printable_values
from ltbench.registry.declared import method_named
from ltbench.report.background import in_background
from ltbench.report.how_trained import backbone_name
from ltbench.results.records import CurvePoint, ShiftTable
from ltbench.results.schema import Result
from ltbench.results.store import content_of, parsed, read, read_field

LONG = ("curve", "shift")
"""The longest fields of a result, half of it in memory, which few parts of a report are made of."""
MANY = 1000
"""Number of files from which a second process is worth its start and what it sends."""
OWN = 0.5
"""Fraction of many files that the first process reads; before, it imports what a report is made with."""


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
    without: tuple[str, ...] = ()
    """Fields of ``LONG`` that the results lack."""

    def shift(self, run_id: str) -> ShiftTable | None:
        """Figures of a run under label shift, read now if they were not before; None with a warning if damaged."""
        shift: ShiftTable | None = self._field(run_id, "shift")
        if shift is None or all(map(str.isprintable, shift.distribution)):
            return shift
        return shift.model_copy(update={"distribution": list(map(printable, shift.distribution))})

    def curve(self, run_id: str) -> list[CurvePoint]:
        """Training curve of a run, read now if it was not before; empty with a warning if damaged."""
        return self._field(run_id, "curve") or []

    def _field(self, run_id: str, name: str) -> Any:
        if name not in self.without:
            return getattr(self.results[run_id], name)
        try:
            return read_field(self.paths[run_id], name)
        except LtbenchError as error:
            warnings.warn(f"{name} of run {run_id} is left out: {error}", LtbenchWarning, stacklevel=3)
            return None

    @property
    def left_out(self) -> list[str]:
        """All messages."""
        return [*self.unreadable, *self.problems, *self.conflicts]


def collect(folders: Iterable[str | Path], without: Sequence[str] = ()) -> Collection:
    """Read every result below some folders.

    Names and other texts are made printable (``ltbench.printable``): whatever shows them needs no care of its own.

    Args:
        folders: a run that stands in several is taken once; one that is done before one that is not.
        without: fields of ``LONG``, that are read where a part of the report needs them, by
            ``Collection.curve`` and ``Collection.shift``.

    Raises:
        LtbenchError: if a folder is not there.
    """
    with collecting(folders, without) as collected:
        return collected()


@contextmanager
def collecting(folders: Iterable[str | Path], without: Sequence[str] = ()) -> Iterator[Callable[[], Collection]]:
    """Begin to read every result below some folders; see ``collect``.

    Many files are read by two processes, and the second one begins at once: there is something else to do meanwhile.

    Yields:
        a function that reads the rest and gives all.

    Raises:
        LtbenchError: if a folder is not there.
    """
    unreadable: list[str] = []
    files = [path for folder in folders for path in result_files(Path(folder), unreadable.append)]
    own = len(files) if len(files) < MANY else int(OWN * len(files))
    with in_background(partial(_read_each, files[own:], without)) if own < len(files) else nullcontext(list) as others:

        def collected() -> Collection:
            found = _read_each(files[:own], without) + others()
            return _collected(list(zip(files, found, strict=True)), without, unreadable)

        yield collected


def _collected(found: Sequence[tuple[Path, Result | str]], without: Sequence[str], unreadable: list[str]) -> Collection:
    """The runs among what was read of each file."""
    copies: dict[str, list[tuple[Result, Path]]] = {}
    problems: list[str] = []
    for path, one in found:
        if isinstance(one, str):
            problems.append(one)
        else:
            copies.setdefault(one.run_id, []).append((one, path))
    results: dict[str, Result] = {}
    paths: dict[str, Path] = {}
    conflicts: list[str] = []
    for run_id, some in copies.items():
        if len(some) > 1 and without:  # whole, so that they can be compared
            some = [(shown(read(path)), path) for _, path in some]
        if the_one := the_run(some):
            results[run_id], paths[run_id] = the_one
        else:
            conflicts += [_conflict(path, run_id, some) for _, path in some]
    for same in same_runs(results):
        some = [(results[run_id], paths[run_id]) for run_id in same]
        if the_run(some) is None:
            conflicts += [_conflict(path, result.run_id, some) for result, path in some]
            for run_id in same:
                del results[run_id], paths[run_id]
    return Collection(results, paths, problems, len(found), conflicts, unreadable, tuple(without))


def _read_each(files: Sequence[Path], without: Sequence[str]) -> list[Result | str]:
    """The result of each file, or a message on what is wrong with it."""
    share = _Shared()
    found: list[Result | str] = []
    with no_search_for_cycles():
        for path in files:
            try:
                content = content_of(path)
                found.append(share(shown(parsed(content, path, without), content)))
            except LtbenchError as error:
                found.append(str(error))
    return found


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
    """The copy of a run that counts: of those that are done the one with most figures, the first of several.

    Where none is done, the first. None where done ones contradict each other.
    """
    done = [one for one in copies if one[0].status == "done"]
    if not all(_agree(one, other) for place, (one, _) in enumerate(done) for other, _ in done[:place]):
        return None
    return max(done, key=lambda one: _figures(one[0])) if done else copies[0]


def _figures(result: Result) -> int:
    """How much a result has that older or untested copies of the run lack."""
    return 2 * len(result.metrics) + (result.outcomes is not None) + (result.shift is not None)


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
        escapes = content.count(b"\\") - _escapes(bibtex)
        plain = content.isascii() or content.decode().replace("\n", "").isprintable()
        if plain and not escapes and b"\x7f" not in content and _is_printable(bibtex):
            return result
    values = printable_values(result.model_dump(mode="json"))
    if paper:
        values["method"]["paper"]["bibtex"] = printable(bibtex)
    return Result.model_validate(values)


@lru_cache
def _escapes(text: str) -> int:
    return json.dumps(text).count("\\")


@lru_cache
def _is_printable(text: str) -> bool:
    return text == printable(text)


@contextmanager
def no_search_for_cycles() -> Iterator[None]:
    """Results hold no cycles; looking for some, again and again as they grow in number, takes longer than reading."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            if not gc.get_freeze_count():  # what there is counts as old at once, or it would be gone through now
                gc.freeze()
                gc.unfreeze()
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
        return {str(result.recipe.epochs) if result.recipe else "none"}

    wanted = {"dataset": dataset, "backbone": backbone, "epochs": epochs}
    for name, value in wanted.items():
        if value is not None:
            there = {known for result in stored.results.values() for known in values(name, result)}
            if str(value) not in there:
                raise unknown(name, str(value), there, where=f"--{name}: the stored runs")
            kept = [one for one, result in stored.results.items() if str(value) in values(name, result)]
            stored = of_runs(stored, kept)
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
    """Some of the runs, by their ids, and all messages; the files of the others are no longer counted."""
    results = {run_id: stored.results[run_id] for run_id in run_ids}
    paths = {run_id: stored.paths[run_id] for run_id in run_ids}
    return replace(stored, results=results, paths=paths, files=stored.files - len(stored.results) + len(results))


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
    return sorted(found, key=lambda path: path.parts)
