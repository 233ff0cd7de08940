"""The report as one HTML page."""

import base64
import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import version
from importlib.resources import files
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from ltbench.printable import printable_name
from ltbench.report.advice import advise
from ltbench.report.answer import Remedy, answer, best_of_many, default_ahead, remedies, tuned_apart
from ltbench.report.background import in_background, shared_numbers
from ltbench.report.collection import Collection
from ltbench.report.leaderboard import Leaderboard, largest
from ltbench.report.leaderboard_table import TableOptions, about_hardware, about_scatter, about_seeds
from ltbench.report.left_out import counted, left_out
from ltbench.report.machine_formats import as_csv
from ltbench.report.page.columns import NEED_A_COMPARISON, Column, Values, columns
from ltbench.report.page.entries import Entry, entries, link, shared_settings
from ltbench.report.page.label_shift import ShiftedLeaderboard, shifted_leaderboards
from ltbench.report.page.plot import Plot, cost_plot
from ltbench.report.page.scale import scale_of
from ltbench.report.page.views import ranked
from ltbench.report.reported import CAPTION, HEADER, reported
from ltbench.report.split_reasons import split_reasons
from ltbench.results.records import DataRecord

if TYPE_CHECKING:
    from ltbench.report.page.pictures import Picture

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
class IntervalBar:
    """An interval on the scale of its table, percent: where it starts, how wide it is, where the mean is."""

    start: float
    width: float
    mean: float
    below: bool
    """Whether it goes on below the scale; ``above`` likewise."""
    above: bool


@dataclass(frozen=True)
class Cell:
    """One figure of a leaderboard."""

    text: str
    value: float | None
    """The value to sort by; None sorts last."""
    best: bool
    """Whether it is significantly better than all others of its column."""
    strip: IntervalBar | None


@dataclass(frozen=True)
class FurtherRow:
    """A setting that a row stands for, which is not compared."""

    label: str
    cells: list[Cell]
    runs: list[tuple[int, str]]
    """Seed and address of the file of each run; no address where it is not known where the page will be."""


@dataclass(frozen=True)
class Section:
    """One leaderboard and all that belongs to it."""

    id: str
    leaderboard: Leaderboard
    group: tuple[str, str]
    """Title and meaning of its comparison group."""
    columns: list[Column]
    cells: list[list[Cell]]
    entries: list[Entry]
    further: list[list[FurtherRow]]
    """The other settings of each row."""
    ties: int
    """Number of rows that tie with the best, itself included; 0 where there is no other."""
    shared: list[tuple[str, str]]
    shifted: list[ShiftedLeaderboard]
    answer: str
    advice: str
    lacks: list[Remedy]
    notes: list[str]
    """Sentences below the table: on rows that lack seeds of it, and on settings that stand apart."""
    plot: Plot | None
    csv: str
    """Its rows and all of their settings, as the address of a download."""


@dataclass(frozen=True)
class DataSet:
    """The leaderboards of one data set; those of one comparison group follow each other, the longest first."""

    id: str
    name: str
    sections: list[Section]

    @property
    def rows(self) -> int:
        """Number of rows of all its leaderboards."""
        return sum(len(section.entries) for section in self.sections)


def render(
    stored: Collection,
    leaderboards: Sequence[Leaderboard],
    folders: Sequence[Path],
    *,
    read: Collection | None = None,
    asked: bool = False,
    output: Path | None = None,
) -> str:
    """The page.

    Args:
        stored: the results.
        leaderboards: the leaderboards made of them.
        folders: where the results were found, to be named.
        read: all that was read, if ``stored`` is a part of it.
        asked: whether the user named the methods that are shown.
        output: where the page will be, for links to the files of runs; None for no links.
    """

    def draw(numbers: Iterable[int]) -> "dict[int, Picture]":
        from ltbench.report.page.pictures import pictures  # not above: matplotlib takes a while

        return pictures(stored, leaderboards, folders, asked=asked, numbers=numbers)

    # The other process draws while the rest is made; then both draw.
    with shared_numbers() as numbers, in_background(partial(draw, numbers)) as others:
        data_sets = _data_sets(stored, leaderboards, output)
        data = _data(stored, data_sets)
        drawn = draw(numbers) | others()
    drawn |= draw(number for number in count() if number not in drawn)  # those of a process that was killed
    script, style = _asset("page.js"), _asset("page.css")
    pictured = largest(leaderboards)
    missing = left_out(read or stored)
    return (
        _environment()
        .get_template("template.html.j2")
        .render(
            data_sets=data_sets,
            tables=len(leaderboards),
            pictures=[drawn[number] for number in sorted(drawn)],
            pictured=pictured.title,
            pictured_in=next(
                one.id for one in data_sets if any(section.leaderboard is pictured for section in one.sections)
            ),
            splits=split_reasons(leaderboards),
            left_out=[one.message for one in missing],
            counted=counted(read or stored, missing),
            runs=sum(int(one.settings["n"].sum()) for one in leaderboards),
            folders=[printable_name(str(folder)) for folder in folders],
            version=version("ltbench"),
            script=script,
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            style=style,
            data=data,
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


def _data_sets(stored: Collection, leaderboards: Sequence[Leaderboard], output: Path | None) -> list[DataSet]:
    """The data sets, that with most rows first; of each, tables that were trained as the recipe has it come first."""
    published = reported(list(leaderboards), stored)
    order = {name: place for place, name in enumerate(COMPARISON_GROUPS)}
    of_data: dict[tuple[str, str], list[Leaderboard]] = {}
    for leaderboard in leaderboards:
        of_data.setdefault((str(leaderboard.key["dataset"]), leaderboard.trained.data), []).append(leaderboard)

    def place(leaderboard: Leaderboard) -> tuple[Any, ...]:
        name = comparison_group(leaderboard)[0]
        return order.get(name, len(order)), name, bool(leaderboard.trained.warning), -len(leaderboard.rows)

    found: list[DataSet] = []
    number = 0
    for (_, name), members in sorted(of_data.items(), key=lambda one: -sum(len(board.rows) for board in one[1])):
        sections = []
        for leaderboard in sorted(members, key=place):
            number += 1
            figures = published[published["leaderboard"] == leaderboard.title]
            sections.append(_section(leaderboard, stored, figures, number, output))
        found.append(DataSet(f"data-{len(found) + 1}", name, sections))
    return found


def _section(
    leaderboard: Leaderboard, stored: Collection, published: pd.DataFrame, number: int, output: Path | None
) -> Section:
    shown = columns(leaderboard, _data_of(leaderboard, stored).shots)
    rows = entries(leaderboard, stored, published, output)
    ties = int(leaderboard.rows["tie"].sum())
    csv = as_csv([leaderboard], TableOptions(opened=("all",)))
    return Section(
        id=f"table-{number}",
        leaderboard=leaderboard,
        group=comparison_group(leaderboard)[1:],
        columns=shown,
        cells=_cells(leaderboard, shown),
        entries=rows,
        further=_further(leaderboard, shown, stored, output),
        ties=ties if ties > 1 else 0,
        shared=shared_settings(leaderboard, stored),
        shifted=shifted_leaderboards(leaderboard, stored),
        answer=answer(leaderboard),
        advice=advise(leaderboard, stored),
        lacks=remedies(leaderboard, stored),
        notes=[
            one
            for one in (
                about_seeds(leaderboard),
                about_scatter(leaderboard),
                about_hardware(leaderboard),
                best_of_many(leaderboard),
                default_ahead(leaderboard),
                tuned_apart(leaderboard),
            )
            if one
        ],
        plot=cost_plot(leaderboard, [row.id for row in rows]),
        csv=f"data:text/csv;base64,{base64.b64encode(csv.encode()).decode()}",
    )


def _cells(leaderboard: Leaderboard, shown: Sequence[Column]) -> list[list[Cell]]:
    """The figures of a leaderboard, row by row."""
    low, high = f"{leaderboard.metric}_low", f"{leaderboard.metric}_high"
    scale = scale_of(leaderboard.rows[low].tolist(), leaderboard.rows[high].tolist())
    return [[_cell(row, column, leaderboard, scale) for column in shown] for row in leaderboard.records]


def _cell(row: Values, column: Column, leaderboard: Leaderboard, scale: tuple[float, float] | None) -> Cell:
    value: float | None = None if pd.isna(row[column.key]) else float(row[column.key])
    has_strip = scale is not None and column.key == f"{leaderboard.metric}_low" and value is not None
    best = value is not None and leaderboard.bold.get(column.key) == row["setting"]
    return Cell(column.text(row), value, best, _strip(row, leaderboard.metric, scale) if has_strip and scale else None)


def _strip(row: Values, metric: str, scale: tuple[float, float]) -> IntervalBar:
    start, end = scale
    low, high = float(row[f"{metric}_low"]), float(row[f"{metric}_high"])

    def placed(value: float) -> float:
        return 100 * (min(max(value, start), end) - start) / (end - start)

    width = placed(high) - placed(low)
    return IntervalBar(placed(low), width, placed(row[metric]), low < start - 1e-9, high > end + 1e-9)


def _further(
    leaderboard: Leaderboard, shown: Sequence[Column], stored: Collection, output: Path | None
) -> list[list[FurtherRow]]:
    """The other settings of each row, which have no comparison."""
    of_row: dict[str, list[FurtherRow]] = {setting: [] for setting in leaderboard.rows["setting"]}
    for row in leaderboard.others.to_dict("records"):
        cells = [
            Cell("", None, False, None) if column.key in NEED_A_COMPARISON else _cell(row, column, leaderboard, None)
            for column in shown
        ]
        runs = [(stored.results[run_id].config.seed, link(stored.paths[run_id], output)) for run_id in row["run_ids"]]
        of_row[row["of"]].append(FurtherRow(str(row["label"]), cells, runs))
    return list(of_row.values())


def _data(stored: Collection, data_sets: Sequence[DataSet]) -> dict[str, Any]:
    """The numbers behind the pictures, for the script: of each row, and the classes that a table's rows share."""
    sections = [section for one in data_sets for section in one.sections]
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


def _unbroken(text: str) -> str:
    """A text whose percent signs stay beside their numbers, and names such as ResNet-32 whole."""
    return re.sub(r"(?<=[A-Za-z]{2})-(?=\d)", "-\N{WORD JOINER}", text).replace(" %", "\N{NO-BREAK SPACE}%")


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
    made.globals.update(reported_header=HEADER, reported_caption=CAPTION)
    made.filters.update(breakable=_breakable, spread=_spread, unbroken=_unbroken)
    made.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    return made
