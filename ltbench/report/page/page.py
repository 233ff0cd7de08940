"""The report as one HTML page."""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from ltbench.printable import printable_name
from ltbench.report.advice import advise
from ltbench.report.answer import answer
from ltbench.report.collection import Collection
from ltbench.report.figures.material import largest
from ltbench.report.leaderboard import Leaderboard
from ltbench.report.leaderboard_table import about_seeds
from ltbench.report.left_out import counted, left_out
from ltbench.report.page.columns import Column, Values, columns
from ltbench.report.page.entries import Entry, entries, shared_settings
from ltbench.report.page.label_shift import ShiftedLeaderboard, shifted_leaderboards
from ltbench.report.page.pictures import pictures
from ltbench.report.page.views import ranked
from ltbench.report.reported import reported
from ltbench.report.split_reasons import split_reasons
from ltbench.results.records import DataRecord

COMPARISON_GROUPS = {
    "shared": ("Shared recipe", "Every method is trained the same way: the rows compare methods."),
    "authors": ("Authors' recipes", "Every method is trained as its authors do: the rows compare papers."),
    "adapted": (
        "Adapted to the test set",
        "Transductive: these methods see the test images, without their labels, before they answer.",
    ),
    "external": (
        "Trained elsewhere",
        "Imported weights and scored predictions: how they were trained is not known here.",
    ),
}
"""Leaderboards that answer different questions are never mixed: title and meaning of each group."""


@dataclass(frozen=True)
class Strip:
    """An interval on the scale of its table, percent: where it starts, how wide it is, where the mean is."""

    start: float
    width: float
    mean: float


@dataclass(frozen=True)
class Cell:
    """One figure of a leaderboard."""

    text: str
    value: float | None
    """The value to sort by; None sorts last."""
    best: bool
    """Whether it is significantly better than all others of its column."""
    strip: Strip | None


@dataclass(frozen=True)
class Section:
    """One leaderboard and all that belongs to it."""

    id: str
    leaderboard: Leaderboard
    columns: list[Column]
    cells: list[list[Cell]]
    entries: list[Entry]
    shared: list[tuple[str, str]]
    shifted: list[ShiftedLeaderboard]
    advice: str
    seeds: str
    """Sentences on rows that lack seeds of the table."""


@dataclass(frozen=True)
class ComparisonGroup:
    """Leaderboards that answer one question."""

    id: str
    title: str
    meaning: str
    sections: list[Section]


def render(
    stored: Collection,
    leaderboards: Sequence[Leaderboard],
    folders: Sequence[Path],
    *,
    read: Collection | None = None,
    asked: bool = False,
) -> str:
    """The page.

    Args:
        stored: the results.
        leaderboards: the leaderboards made of them.
        folders: where the results were found, to be named.
        read: all that was read, if ``stored`` is a part of it.
        asked: whether the user named the methods that are shown.
    """
    groups = _comparison_groups(stored, leaderboards)
    script, style = _asset("page.js"), _asset("page.css")
    return (
        _environment()
        .get_template("template.html.j2")
        .render(
            groups=groups,
            tables=len(leaderboards),
            pictures=pictures(stored, leaderboards, folders, asked=asked),
            pictured=largest(leaderboards).title,
            splits=split_reasons(leaderboards),
            left_out=[one.message for one in left_out(read or stored)],
            counted=counted(read or stored),
            runs=len(stored.results),
            folders=[printable_name(str(folder)) for folder in folders],
            version=version("ltbench"),
            script=script,
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            style=style,
            data=_data(stored, groups),
        )
    )


def comparison_group(leaderboard: Leaderboard) -> tuple[str, str, str]:
    """The comparison group of a leaderboard: a short name, a title, and what it means."""
    if leaderboard.key["comparison_group"]:
        name = str(leaderboard.key["comparison_group"])
        return name, name[:1].upper() + name[1:], "Not to be compared with the other tables."
    recipes = {"paper": "authors", "external": "external"}
    name = "adapted" if leaderboard.key["transductive"] else recipes.get(leaderboard.key["recipe.name"], "shared")
    return name, *COMPARISON_GROUPS[name]


def _comparison_groups(stored: Collection, leaderboards: Sequence[Leaderboard]) -> list[ComparisonGroup]:
    published = reported(list(leaderboards), stored)
    order = {name: place for place, name in enumerate(COMPARISON_GROUPS)}
    named = [(comparison_group(leaderboard), leaderboard) for leaderboard in leaderboards]
    named.sort(key=lambda one: (order.get(one[0][0], 9), one[0][0]))
    found = []
    number = 0
    for (name, title, meaning), members in groupby(named, key=lambda one: one[0]):
        sections = []
        for _, leaderboard in members:
            number += 1
            figures = published[published["leaderboard"] == leaderboard.title]
            shown = columns(leaderboard, _data_of(leaderboard, stored).shots)
            sections.append(
                Section(
                    id=f"table-{number}",
                    leaderboard=leaderboard,
                    columns=shown,
                    cells=_cells(leaderboard, shown),
                    entries=entries(leaderboard, stored, figures, f"row-{number}"),
                    shared=shared_settings(leaderboard, stored),
                    shifted=shifted_leaderboards(leaderboard, stored),
                    advice=" ".join(
                        filter(None, [leaderboard.trained.warning, answer(leaderboard), advise(leaderboard, stored)])
                    ),
                    seeds=about_seeds(leaderboard),
                )
            )
        found.append(ComparisonGroup(name, title, meaning, sections))
    return found


def _cells(leaderboard: Leaderboard, shown: Sequence[Column]) -> list[list[Cell]]:
    """The figures of a leaderboard, row by row."""
    rows = []
    for row in leaderboard.rows.to_dict("records"):
        cells = []
        for column in shown:
            value = None if pd.isna(row[column.key]) else float(row[column.key])
            strip = (
                _strip(row, leaderboard) if column.key == f"{leaderboard.metric}_low" and value is not None else None
            )
            best = value is not None and leaderboard.bold.get(column.key) == row["setting"]
            cells.append(Cell(column.text(row), value, best, strip))
        rows.append(cells)
    return rows


def _strip(row: Values, leaderboard: Leaderboard) -> Strip:
    low, high, metric = f"{leaderboard.metric}_low", f"{leaderboard.metric}_high", leaderboard.metric
    start, end = leaderboard.rows[low].min(), leaderboard.rows[high].max()
    scale = 100 / ((end - start) or 1)
    return Strip(scale * (row[low] - start), scale * (row[high] - row[low]), scale * (row[metric] - start))


def _data(stored: Collection, groups: Sequence[ComparisonGroup]) -> dict[str, Any]:
    """The numbers behind the pictures, for the script: of each row, and the classes that a table's rows share."""
    sections = [section for one in groups for section in one.sections]
    return {
        "rows": {entry.id: entry.pictures for section in sections for entry in section.entries},
        "tables": {section.id: _classes(section.leaderboard, stored) for section in sections},
    }


def _classes(leaderboard: Leaderboard, stored: Collection) -> dict[str, list[Any]]:
    """The classes of a table's data, most training images first."""
    data = _data_of(leaderboard, stored)
    order = ranked(data)
    group = {label: name for name, labels in data.groups.items() for label in labels}
    return {
        "names": [data.classes[label] for label in order],
        "images": [data.counts[label] for label in order],
        "groups": [group.get(label, "") for label in order],
    }


def _data_of(leaderboard: Leaderboard, stored: Collection) -> DataRecord:
    """The data that all rows of a leaderboard are trained and tested on."""
    return stored.results[leaderboard.rows["run_ids"].iloc[0][0]].data


def _breakable(label: str) -> Markup:
    """A label that can be broken after an underscore."""
    return escape(label).replace("_", Markup("_<wbr>"))


def _spread(text: str) -> Markup:
    """The standard deviation in smaller type."""
    mean, sign, deviation = text.partition(" ± ")
    return Markup("{} <small>± {}</small>").format(mean, deviation) if sign else escape(text)


def _asset(name: str) -> str:
    return (files("ltbench.report.page") / name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("ltbench.report.page", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(breakable=_breakable, spread=_spread)
    made.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    return made
