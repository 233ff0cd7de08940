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
from ltbench.report.board import Board
from ltbench.report.collection import Collection
from ltbench.report.figures.material import largest
from ltbench.report.left_out import counted, left_out
from ltbench.report.page.columns import Column, Values, columns
from ltbench.report.page.entries import Entry, entries, shared_settings
from ltbench.report.page.pictures import pictures
from ltbench.report.page.shift import ShiftedBoard, shifted_boards
from ltbench.report.page.views import ranked
from ltbench.report.reasons import split_reasons
from ltbench.report.reported import reported
from ltbench.report.table import about_seeds
from ltbench.results.schema import DataRecord

FAMILIES = {
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
"""Tables that answer different questions, and so are never mixed: title and what it means."""


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
    """To sort by; None sorts last."""
    best: bool
    """Whether it is significantly better than all others of its column."""
    strip: Strip | None


@dataclass(frozen=True)
class Section:
    """One leaderboard and all that belongs to it."""

    id: str
    board: Board
    columns: list[Column]
    cells: list[list[Cell]]
    entries: list[Entry]
    shared: list[tuple[str, str]]
    shifted: list[ShiftedBoard]
    advice: str
    seeds: str
    """Which rows lack seeds of the table."""


@dataclass(frozen=True)
class Family:
    """The leaderboards of one kind."""

    id: str
    title: str
    meaning: str
    sections: list[Section]


def render(
    stored: Collection,
    boards: Sequence[Board],
    folders: Sequence[Path],
    *,
    read: Collection | None = None,
    asked: bool = False,
) -> str:
    """The page.

    Args:
        stored: the results.
        boards: the leaderboards made of them.
        folders: where the results were found, to be named.
        read: all that was read, if ``stored`` is a part of it.
        asked: whether the user named the methods that are shown.
    """
    families = _families(stored, boards)
    script, style = _asset("page.js"), _asset("page.css")
    return _environment().get_template("template.html.j2").render(
        families=families,
        tables=len(boards),
        pictures=pictures(stored, boards, folders, asked=asked),
        pictured=largest(boards).title,
        splits=split_reasons(boards),
        left_out=[one.message for one in left_out(read or stored)],
        counted=counted(read or stored),
        runs=len(stored.results),
        folders=[printable_name(str(folder)) for folder in folders],
        version=version("ltbench"),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        style=style,
        data=_data(stored, families),
    )  # fmt: skip


def family(board: Board) -> tuple[str, str, str]:
    """Which kind of table a leaderboard is: a short name, a title, and what it means."""
    if board.key["track"]:
        track = str(board.key["track"])
        return track, track[:1].upper() + track[1:], "Not to be compared with the other tables."
    recipes = {"paper": "authors", "external": "external"}
    name = "adapted" if board.key["transductive"] else recipes.get(board.key["recipe.name"], "shared")
    return name, *FAMILIES[name]


def _families(stored: Collection, boards: Sequence[Board]) -> list[Family]:
    published = reported(list(boards), stored)
    order = {name: place for place, name in enumerate(FAMILIES)}
    named = sorted(((family(board), board) for board in boards), key=lambda one: (order.get(one[0][0], 9), one[0][0]))
    found = []
    number = 0
    for (name, title, meaning), members in groupby(named, key=lambda one: one[0]):
        sections = []
        for _, board in members:
            number += 1
            figures = published[published["board"] == board.title]
            shown = columns(board, _data_of(board, stored).shots)
            sections.append(
                Section(
                    id=f"table-{number}",
                    board=board,
                    columns=shown,
                    cells=_cells(board, shown),
                    entries=entries(board, stored, figures, f"row-{number}"),
                    shared=shared_settings(board, stored),
                    shifted=shifted_boards(board, stored),
                    advice=advise(board, stored),
                    seeds=about_seeds(board),
                )
            )
        found.append(Family(name, title, meaning, sections))
    return found


def _cells(board: Board, shown: Sequence[Column]) -> list[list[Cell]]:
    """The figures of a leaderboard, row by row."""
    rows = []
    for row in board.rows.to_dict("records"):
        cells = []
        for column in shown:
            value = None if pd.isna(row[column.key]) else float(row[column.key])
            strip = _strip(row, board) if column.key == f"{board.metric}_low" and value is not None else None
            best = value is not None and board.bold.get(column.key) == row["setting"]
            cells.append(Cell(column.text(row), value, best, strip))
        rows.append(cells)
    return rows


def _strip(row: Values, board: Board) -> Strip:
    low, high, metric = f"{board.metric}_low", f"{board.metric}_high", board.metric
    start, end = board.rows[low].min(), board.rows[high].max()
    scale = 100 / ((end - start) or 1)
    return Strip(scale * (row[low] - start), scale * (row[high] - row[low]), scale * (row[metric] - start))


def _data(stored: Collection, families: Sequence[Family]) -> dict[str, Any]:
    """The numbers behind the pictures, for the script: of each row, and the classes that a table's rows share."""
    sections = [section for one in families for section in one.sections]
    return {
        "rows": {entry.id: entry.pictures for section in sections for entry in section.entries},
        "tables": {section.id: _classes(section.board, stored) for section in sections},
    }


def _classes(board: Board, stored: Collection) -> dict[str, list[Any]]:
    """Those of a table's data, most training images first."""
    data = _data_of(board, stored)
    order = ranked(data)
    group = {label: name for name, labels in data.groups.items() for label in labels}
    return {
        "names": [data.classes[label] for label in order],
        "images": [data.counts[label] for label in order],
        "groups": [group.get(label, "") for label in order],
    }


def _data_of(board: Board, stored: Collection) -> DataRecord:
    """What all rows of a leaderboard are trained and tested on."""
    return stored.results[board.rows["run_ids"].iloc[0][0]].data


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
