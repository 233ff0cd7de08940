"""What ``ltbench evaluate`` prints: one row a run, one table a data set and way to evaluate."""

import json
from collections.abc import Callable, Iterable
from itertools import groupby
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text
from tabulate import tabulate

from ltbench.config.format_settings import format_imbalance, format_settings
from ltbench.data.long_tail import ShotRule
from ltbench.evaluation.reevaluate import EvaluationSettings, Reevaluation
from ltbench.files.spreadsheet import csv
from ltbench.metrics.calibration_noise import estimate, mce_floor
from ltbench.report.markdown import escaped_markdown, markdown_paragraph
from ltbench.results.records import Metrics
from ltbench.results.schema import Result

Row = dict[str, Any]
ACCURACY = {
    "top1": "Acc",
    "macro": "Macro",
    "many": "Many",
    "medium": "Med",
    "few": "Few",
    "worst_class": "Worst",
}
CALIBRATION = {
    "nll": "NLL",
    "brier": "Brier",
    "ece": "ECE",
    "ece_floor": "Floor",
    "ece_debiased": "Debiased",
    "mce": "MCE",
    "adaptive_ece": "aECE",
    "classwise_ece": "cwECE",
}
NOTE = (
    "Percent; NLL in nats, Brier 0 to 2. aECE: adaptive, cwECE: class-wise ECE. Floor: the ECE that a perfectly "
    "calibrated model with the same confidences measures; Debiased: the ECE without what noise adds to it. "
    "Classes: that have images; means over classes are over those."
)
_BESIDE = {"temperature": "T", "prior_error": "Prior err", "classes": "Classes"}
_DIGITS = {"nll": 3, "brier": 3, "temperature": 2, "prior_error": 3, "classes": 0}
_FIGURES = tuple(name for name, field in Metrics.model_fields.items() if field.annotation in (float, float | None))


def row(result: Result, evaluation: Reevaluation, view: EvaluationSettings) -> Row:
    """A run, how it was evaluated, and its metrics, as plain values; None for what does not apply."""
    config, shots = result.config, view.shots or ShotRule(**result.data.shots)
    fitted, table = evaluation.fitted_for, evaluation.metrics.bins
    count, confidence, accuracy = (np.array(v, dtype=float) for v in (table.count, table.confidence, table.accuracy))
    noise = estimate(count[None], confidence[None], accuracy[None])
    return {
        "run_id": result.run_id,
        "dataset": config.dataset,
        "imbalance_ratio": config.imbalance_ratio,
        "imbalance": config.imbalance,
        "class_order": config.class_order,
        "recipe": config.recipe if isinstance(config.recipe, str) else config.recipe.name,
        "method": config.method,
        "hyperparameters": json.dumps(config.hyperparameters),
        "seed": config.seed,
        "bins": view.bins,
        "shots": f"{shots.many},{shots.few}",
        "test_prior": view.distribution.name if view.distribution else None,
        "prior": view.prior,
        "prior_error": evaluation.prior_error,
        "temperature": evaluation.temperature,
        "fitted_for": fitted.model_dump() if fitted else None,
        "images": evaluation.images,
        "classes": evaluation.classes,
        **evaluation.metrics.model_dump(include=set(_FIGURES)),
        "ece_floor": noise.floor,
        "ece_floor_limit": noise.floor_limit,
        "ece_debiased": noise.debiased,
        "ece_low": noise.low,
        "ece_high": noise.high,
        "mce_floor": mce_floor(count, confidence),
    }


def render(rows: list[Row], style: str) -> str:
    """Rows as text.

    Args:
        rows: see ``row``.
        style: md, csv or json.
    """
    return _STYLES[style](rows)


def show(rows: list[Row], out: Console) -> None:
    """Print tables to a terminal: accuracy and calibration beside each other, or below where that is too wide."""
    for title, own in _by_data(rows):
        blocks = [_table(own, {**ACCURACY, **CALIBRATION})]
        if Console(width=1000).measure(blocks[0]).maximum > out.width:
            blocks = [_table(own, ACCURACY), _table(own, CALIBRATION)]
        out.print(Text(title, style="bold"))
        own_note = _temperatures(own)
        for block in blocks:
            out.print(block)
            out.print()
        if own_note:
            out.print(Text(own_note))
    out.print(NOTE)


def _table(rows: list[Row], columns: dict[str, str]) -> Table:
    shown = Table(box=None, padding=(0, 1, 0, 0))
    shown.add_column("Run", no_wrap=True)
    shown.add_column("Method")
    shown.add_column("Seed", justify="right")
    names = _columns(rows, columns)
    for name in names.values():
        shown.add_column(name, justify="right", no_wrap=True)
    for one in rows:
        shown.add_row(one["run_id"], Text(_label(one, rows)), str(one["seed"]), *_cells(one, names))
    return shown


def _columns(rows: list[Row], columns: dict[str, str]) -> dict[str, str]:
    """The columns, and those of ``_BESIDE`` that some row has."""
    return {**columns, **{name: text for name, text in _BESIDE.items() if any(one[name] is not None for one in rows)}}


def _label(one: Row, rows: list[Row]) -> str:
    """The method, and the hyper-parameters in which its rows differ."""
    own = [json.loads(other["hyperparameters"]) for other in rows if other["method"] == one["method"]]
    named = json.loads(one["hyperparameters"]).items()
    differing = {name: value for name, value in named if any(other.get(name) != value for other in own)}
    return ", ".join(filter(None, [one["method"], format_settings(differing)]))


def _cells(one: Row, names: Iterable[str]) -> list[str]:
    return ["n/a" if one[name] is None else f"{one[name]:.{_DIGITS.get(name, 1)}f}" for name in names]


def _by_data(rows: list[Row]) -> list[tuple[str, list[Row]]]:
    """Rows of each test set, below a title that says what it is."""
    keys = (
        "dataset",
        "imbalance_ratio",
        "imbalance",
        "class_order",
        "recipe",
        "test_prior",
        "prior",
        "images",
        "bins",
        "shots",
    )

    def key(one: Row) -> tuple[str, ...]:
        return tuple(str(one[name]) for name in keys)

    return [(_title(own[0]), own) for own in (list(group) for _, group in groupby(sorted(rows, key=key), key))]


def _temperatures(rows: list[Row]) -> str:
    """A sentence on what the temperatures of a table are fitted for; empty where there are none."""
    given = [one for one in rows if one["temperature"] is not None]
    if not given:
        return ""
    what = ", ".join(dict.fromkeys(str(one["fitted_for"]["prior"]) for one in given))
    images = [one["fitted_for"]["effective_images"] for one in given]
    fewest, most = f"{min(images):.0f}", f"{max(images):.0f}"
    worth = fewest if fewest == most else f"{fewest} to {most}"
    return (
        f"T: temperature, fitted on the validation images for these class frequencies: {what}; the images are worth "
        f"{worth} equally weighted ones."
    )


def _title(one: Row) -> str:
    ratio = format_imbalance(one["imbalance_ratio"], one["imbalance"], one["class_order"])
    which = f"test set {one['test_prior']}" if one["test_prior"] else "whole test set"
    prior = "" if one["prior"] == "unknown" else f", prior {one['prior']}"
    many, few = one["shots"].split(",")
    return (
        f"{one['dataset']}, {ratio}, {one['recipe']} recipe: {which}, {one['images']} images{prior}; "
        f"{one['bins']} bins; many > {many}, few < {few}"
    )


def _markdown(rows: list[Row]) -> str:
    parts = []
    for title, own in _by_data(rows):
        names = _columns(own, {**ACCURACY, **CALIBRATION})
        body = [
            [one["run_id"], escaped_markdown(_label(one, own)), str(one["seed"]), *_cells(one, names)] for one in own
        ]
        header = ["Run", "Method", "Seed", *names.values()]
        align = ("left", "left", *["right"] * (len(header) - 2))
        table = tabulate(body, header, "github", colalign=align, disable_numparse=True)
        parts.append(f"### {markdown_paragraph(title)}\n\n{table}\n")
        parts += [f"{note}\n"] if (note := _temperatures(own)) else []
    return "\n".join([*parts, NOTE]) + "\n"


_STYLES: dict[str, Callable[[list[Row]], str]] = {
    "md": _markdown,
    "csv": lambda rows: csv(pd.DataFrame([{**one, "fitted_for": json.dumps(one["fitted_for"])} for one in rows])),
    "json": lambda rows: json.dumps(rows, indent=1, allow_nan=False) + "\n",
}
