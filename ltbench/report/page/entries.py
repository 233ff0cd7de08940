"""The details of a leaderboard's rows: metrics, classes, settings, runs, provenance, the paper."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from ltbench.config.format_settings import flatten, format_value
from ltbench.printable import printable_name
from ltbench.report.collection import Collection
from ltbench.report.frame import METRICS
from ltbench.report.leaderboard import Leaderboard
from ltbench.report.numbers import MISSING, number, spread
from ltbench.report.page import views
from ltbench.report.page.columns import NAMES, UNITLESS, Values, interval
from ltbench.report.reported import cells as in_words
from ltbench.report.reported import notes as numbered
from ltbench.report.search_budget import search_budget
from ltbench.results.records import PaperRecord
from ltbench.results.schema import Result

_TIMES = ("started", "finished")


@dataclass(frozen=True)
class Run:
    """One seed."""

    seed: int
    run_id: str
    accuracy: str
    ece: str
    started: str
    finished: str
    file: str
    href: str
    """Address of the file, relative to the page; empty where it is not known where the page will be."""


@dataclass(frozen=True)
class Entry:
    """The details of one row. Tables of words are lists of (name, value)."""

    id: str
    label: str
    further: str
    """For example "+2 settings"; empty without further settings."""
    same_as: str
    """Methods that equal the row's by construction."""
    tie: bool
    metrics: list[tuple[str, str, str]]
    """Name, mean ± standard deviation, 95 % interval."""
    classes: list[views.ClassRow]
    lowest: list[views.ClassRow]
    mistakes: list[views.Mistake]
    settings: list[tuple[str, str]]
    method: list[tuple[str, str]]
    provenance: list[tuple[str, str]]
    runs: list[Run]
    paper: PaperRecord | None
    reported: list[list[str]]
    """Reported numbers: the cells of ``ltbench.report.reported``; the last is a note's number."""
    reported_notes: list[str]
    notes: list[str]
    """Sentences on what is missing, and why."""
    pictures: dict[str, Any] = field(default_factory=dict)
    """Data of the pictures, for the page's script."""


def link(file: Path, page: Path | None) -> str:
    """The address of a file in a page that is written to a path, relative to it; empty where that is not known."""
    if page is None:
        return ""
    try:
        folder = _relative(file.parent, page.parent)
    except ValueError:  # another drive of Windows
        return file.absolute().as_uri()
    return quote((folder / file.name).as_posix().encode(errors="surrogateescape"))


@lru_cache(maxsize=1024)
def _relative(folder: Path, start: Path) -> Path:
    """The path from one folder to another, which many files share."""
    return Path(os.path.relpath(folder, start))


def entries(leaderboard: Leaderboard, stored: Collection, reported: pd.DataFrame, output: Path | None) -> list[Entry]:
    """One for each row of the leaderboard, in its order.

    Args:
        leaderboard: the leaderboard.
        stored: the results that it was made of.
        reported: the published figures beside it, as ``ltbench.report.reported`` gives them.
        output: where the page will be.
    """
    common = set(shared_settings(leaderboard, stored))
    # A link to a row leads to it in a later page, too, where rows stand otherwise.
    return [_entry(f"row-{row['run_ids'][0]}", row, stored, common, reported, output) for row in leaderboard.records]


def shared_settings(leaderboard: Leaderboard, stored: Collection) -> list[tuple[str, str]]:
    """The settings that all rows of a leaderboard have in common."""
    each = [dict(_settings(stored.results[run_ids[0]])) for run_ids in leaderboard.rows["run_ids"]]
    return [(name, value) for name, value in each[0].items() if all(one.get(name) == value for one in each)]


def _entry(
    name: str,
    row: Values,
    stored: Collection,
    common: set[tuple[str, str]],
    reported: pd.DataFrame,
    output: Path | None,
) -> Entry:
    results = [stored.results[run_id] for run_id in row["run_ids"]]
    data = results[0].data
    order, classes = views.ranked(data), views.class_rows(results)
    pictures = {"reliability": views.reliability_view(results), "classes": views.classes_view(classes)}
    mistakes: list[views.Mistake] = []
    notes = []
    try:
        matrix = views.confusion(results)
    except ValueError as error:
        notes.append(f"No confusion matrix: {error}.")
    else:
        if matrix is None:
            notes.append("No confusion matrix: results of older versions keep no predictions of each test image.")
        else:
            mistakes = views.mistakes(matrix, data.classes)
            pictures["confusion"] = views.confusion_view(matrix, order)
    beside = reported[reported["label"] == row["label"]]
    few = len(classes) <= views.FEW_CLASSES
    return Entry(
        id=name,
        label=row["label"],
        further=f"+{row['further']} setting{'s' * (row['further'] != 1)}" if row["further"] else "",
        same_as=row["same_as"],
        tie=bool(row["tie"]),
        metrics=[line for metric in METRICS for line in (_metric(row, metric), *_beside(row, metric))],
        classes=classes if few else [],
        lowest=[] if few else views.lowest(classes),
        mistakes=mistakes,
        settings=[setting for setting in _settings(results[0]) if setting not in common],
        method=_method(results),
        provenance=_provenance(results),
        runs=[_run(result, stored, output) for result in results],
        paper=next((result.method.paper for result in results if result.method.paper), None),
        reported=in_words(beside),
        reported_notes=numbered(beside),
        notes=notes,
        pictures={kind: picture for kind, picture in pictures.items() if picture is not None},
    )


def _metric(row: Values, metric: str) -> tuple[str, str, str]:
    has_interval = f"{metric}_low" in row and metric != "ece"  # which is that of the debiased one
    ends = interval(row[f"{metric}_low"], row[f"{metric}_high"]) if has_interval else ""
    return NAMES[metric], spread(row[metric], row[f"{metric}_sd"], 3 if metric in UNITLESS else 1), ends


def _beside(row: Values, metric: str) -> list[tuple[str, str, str]]:
    """Noise floor and debiased ECE, below the ECE."""
    if metric != "ece":
        return []
    return [
        ("noise floor of the ECE", number(row["ece_floor"], 1), ""),
        ("debiased ECE", number(row["ece_debiased"], 1), interval(row["ece_low"], row["ece_high"])),
    ]


def _settings(result: Result) -> list[tuple[str, str]]:
    settings = flatten(result.config.without_seed())
    return [(_spaced(name), _value(value)) for name, value in settings.items() if value is not None]


def _method(results: Sequence[Result]) -> list[tuple[str, str]]:
    """Facts about the method beyond its settings."""
    method = results[0].method
    rows = {
        "revision": method.revision,
        "training prior left in the logits": _value(method.logit_prior),
        "sees the test images": "yes, without their labels" if method.transductive else "no",
        "comparison group": method.track,
        "starts from": "; ".join(dict.fromkeys(_pairs(result.method.uses) for result in results)),
        "chosen on validation images": "; ".join(dict.fromkeys(_pairs(result.method.selected) for result in results)),
        "tuned by": search_budget(results[0].tuning),
        "training": results[0].cost.training if results[0].cost else None,
        "evaluation": results[0].cost.evaluation if results[0].cost else None,
        "images a second in training": _speed(results),
        "peak memory": _memory(results),
        "data": _pairs(results[0].data.fingerprints),
    }
    return [(name, value) for name, value in rows.items() if value]


def _speed(results: Sequence[Result]) -> str | None:
    speeds = [run.cost.training_images_per_second for run in results if run.cost]
    known = [f"{speed:.0f}" for speed in sorted(speed for speed in speeds if speed)]
    return " to ".join(dict.fromkeys((known[0], known[-1]))) if known else None


def _memory(results: Sequence[Result]) -> str | None:
    peaks = [run.cost.peak_memory_bytes for run in results if run.cost]
    return f"{max(known) / 2**20:.0f} MiB" if (known := [peak for peak in peaks if peak]) else None


def _provenance(results: Sequence[Result]) -> list[tuple[str, str]]:
    """Versions, commit and hardware; the values of all runs where they differ."""
    seen: dict[str, dict[str, None]] = {}
    shared: set[int] = set()
    for result in results:
        own = {name: value for name, value in result.provenance.items() if id(value) not in shared}
        shared.update(id(value) for value in own.values() if isinstance(value, dict))  # by many results
        for name, value in flatten(own).items():
            if name not in _TIMES:
                seen.setdefault(name, {})[_value(value)] = None
    return [(_spaced(name), " or ".join(values)) for name, values in seen.items()]


def _run(result: Result, stored: Collection, output: Path | None) -> Run:
    test = result.test
    started, finished = (_time(result.provenance.get(name)) for name in _TIMES)
    accuracy, ece = (number(test.top1, 2), number(test.ece, 2)) if test else (MISSING, MISSING)
    return Run(
        result.config.seed,
        result.run_id,
        accuracy,
        ece,
        started,
        finished,
        printable_name(str(stored.paths[result.run_id])),
        link(stored.paths[result.run_id], output),
    )


def _time(stamp: object) -> str:
    try:
        return datetime.fromisoformat(str(stamp)).strftime("%Y-%m-%d %H:%M:%S %Z").strip()
    except ValueError:
        return MISSING


def _pairs(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {_value(value)}" for name, value in values.items())


def _spaced(name: str) -> str:
    """A name of ``flatten``'s that can be broken between lines."""
    return name.replace(".", " ").replace("_", " ")


def _value(value: Any) -> str:
    return MISSING if value is None else format_value(value)
