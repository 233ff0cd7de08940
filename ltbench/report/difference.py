"""Two runs side by side: what differs, and whether one table may hold both."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text
from tabulate import tabulate

from ltbench.config.format_settings import flatten
from ltbench.config.recipes import PAPER
from ltbench.report.frame import COSTS, METRICS, TABLE_KEYS, batch_norm_images, declared_backbone
from ltbench.report.markdown import escaped_markdown
from ltbench.results.schema import Result

_WHY = {
    "dataset": "they are on different data sets",
    "imbalance_ratio": "their imbalance ratios differ",
    "imbalance": "the counts of one fall exponentially, those of the other in one step",
    "class_order": "in one the largest classes are the first labels, in the other they are drawn",
    "data_seed": "their images were drawn with different seeds",
    "image_size": "their images have different sizes",
    "backbone": "their backbones differ",
    "pretrained": "one started from pretrained weights",
    "weights": "they started from different weights",
    "precision": "they were trained in different precisions",
    "validation": "one was trained without the validation part",
    "recipe.name": "their recipes have different names, and a table compares methods under one recipe",
    "table_epochs": "their lengths of training differ",
    "transductive": "one has adapted to the unlabelled test images",
    "comparison_group": "one belongs to a comparison group of its own, such as foundation models",
    "data": "their images are not the same (fingerprints)",
}
"""Why two runs that differ in a key of ``TABLE_KEYS`` are not comparable, in words."""
_LONGEST = 60
"""Largest number of characters of a value in a table."""


@dataclass(frozen=True)
class Aspect:
    """One aspect of two runs, such as their data: what differs, and what is equal."""

    name: str
    differs: dict[str, tuple[Any, Any]]
    equal: list[str]


@dataclass(frozen=True)
class Difference:
    """What differs between two runs."""

    runs: tuple[str, str]
    obstacles: list[str] = field(default_factory=list)
    """Why the two may not stand in one table; none if they may."""
    aspects: list[Aspect] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        """Whether the two may be compared in one table, in a sentence or two."""
        if self.runs[0] == self.runs[1]:
            return "The two are one run."
        if self.obstacles:
            return f"Not to be compared in one table: {'; '.join(self.obstacles)}."
        differing = {aspect.name: set(aspect.differs) for aspect in self.aspects}
        differing_in = ["settings"] if differing["settings"] - {"seed"} else []
        differing_in += ["the revision of the method"] if "revision" in differing["method"] else []
        if not differing_in and "parameters" in differing["cost"]:
            differing_in = ["the stages that experts share"]
        if differing_in:
            what = f"as two rows, since {' and '.join(differing_in)} differ"
        elif "seed" in differing["settings"]:
            what = "averaged: only their seeds differ"
        else:
            what = "which counts them once: settings and seed are equal"
        unequal = " Their hardware differs or is not known to be equal: training times say little."
        elsewhere = unequal if differing["hardware"] else ""
        return f"They may stand in one table, {what}.{elsewhere}"


def difference(one: Result, other: Result) -> Difference:
    """What differs between two stored runs, and whether one table may hold both.

    Args:
        one: a run.
        other: another one.
    """
    values = [_aspects_of(one), _aspects_of(other)]
    aspects = [_aspect(name, values[0][name], values[1][name]) for name in values[0]]
    keys = [_table_keys(result) for result in (one, other)]
    obstacles = [_WHY[name] for name in TABLE_KEYS if keys[0][name] != keys[1][name]]
    unfinished = [f"{result.run_id} is {result.status}" for result in (one, other) if result.status != "done"]
    return Difference((one.run_id, other.run_id), [*unfinished, *obstacles], aspects)


def _table_keys(result: Result) -> dict[str, Any]:
    settings = flatten(result.config.model_dump(mode="json"))
    own = {
        "backbone": settings.get("backbone") or declared_backbone(result.config.dataset, settings.get("recipe.epochs")),
        "transductive": result.method.transductive,
        "comparison_group": result.method.track or "",
        "data": result.data.fingerprints,
        "table_epochs": None if settings.get("recipe.name") == PAPER else settings.get("recipe.epochs"),
    }
    return {name: own[name] if name in own else settings.get(name) for name in TABLE_KEYS}


def _aspects_of(result: Result) -> dict[str, dict[str, Any]]:
    """The named values of a run, by aspect."""
    data, provenance = result.data, result.provenance
    cost = result.cost.model_dump() if result.cost else {}
    method = result.method.model_dump(include={"revision", "logit_prior", "transductive", "uses", "selected"})
    norms = batch_norm_images(result)  # less than a batch: a row of its own
    return {
        "settings": {
            **flatten(result.config.model_dump(mode="json", exclude_none=True)),
            **({"batch_norm_images": norms} if norms else {}),
        },
        "method": flatten({**method, "comparison group": result.method.track}),
        "data": {
            **{f"{name} fingerprint": value for name, value in data.fingerprints.items()},
            "classes": len(data.classes),
            "class names": data.classes,
            "class counts": data.counts,
            "trained on": data.trained_on,
            "shots": data.shots,
        },
        "versions": {
            **_mapping(provenance, "versions"),
            **_mapping(provenance, "git"),
            "system": provenance.get("system"),
        },
        "hardware": {**_mapping(provenance, "hardware"), **_processes(result)},
        "cost": {name: cost.get(name) for name in (*COSTS, "training", "evaluation")},
        "test metrics": result.test.model_dump(include=set(METRICS)) if result.test else {},
    }


def _processes(result: Result) -> dict[str, int]:
    """Their number in training, where it is on record."""
    divisions = result.cost.divisions if result.cost is not None else ()
    return {"processes": max(one.processes for one in divisions)} if divisions else {}


def _mapping(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = values.get(name)
    return dict(found) if isinstance(found, Mapping) else {}


def _aspect(name: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> Aspect:
    names = list(dict.fromkeys([*one, *other]))
    differs = {key: (one.get(key), other.get(key)) for key in names if one.get(key) != other.get(key)}
    return Aspect(name, differs, [key for key in names if key not in differs])


def cells(found: Difference) -> list[list[str]]:
    """A row for each thing that differs: aspect, name, both values, and the change of numbers."""
    return [
        [aspect.name, name, _shown(one), _shown(other), _change(one, other)]
        for aspect in found.aspects
        for name, (one, other) in aspect.differs.items()
    ]


def equal(found: Difference) -> list[str]:
    """A line for each aspect: how much of it is equal."""
    return [f"{aspect.name}: {_extent(aspect)} equal" for aspect in found.aspects if aspect.equal]


def _extent(aspect: Aspect) -> str:
    return f"the other {len(aspect.equal)}" if aspect.differs else "all"


def _shown(value: Any) -> str:
    if value is None:
        return "n/a"
    text = f"{value:.5g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _change(one: Any, other: Any) -> str:
    if isinstance(one, bool) or not isinstance(one, int | float) or not isinstance(other, int | float):
        return ""
    return f"{other - one:+.4g}"


def render(found: Difference, style: str) -> str:
    """The difference as text.

    Args:
        found: between two runs.
        style: md or json.
    """
    return FORMATS[style](found)


def _json(found: Difference) -> str:
    values = asdict(found)
    values["parts"] = values.pop("aspects")
    return json.dumps({"verdict": found.verdict, **values}, indent=1) + "\n"


def _markdown(found: Difference) -> str:
    header = ["Aspect", "What", *found.runs, "Change"]
    rows = [[escaped_markdown(cell) for cell in row] for row in cells(found)]
    align = ["left", "left", "right", "right", "right"]
    table = tabulate(rows, header, tablefmt="github", colalign=align if rows else None, disable_numparse=True)
    listed = [f"- {line}" for line in equal(found)]
    return "\n".join([found.verdict, "", table, "", "Equal:", "", *listed]) + "\n"


FORMATS: dict[str, Callable[[Difference], str]] = {"md": _markdown, "json": _json}


def terminal(found: Difference) -> Group:
    """The difference for a terminal."""
    table = Table(box=SIMPLE_HEAD)
    for number, name in enumerate(("Aspect", "What", *found.runs, "Change")):
        table.add_column(name, justify="left" if number < 2 else "right")
    last = ""
    for part, *rest in cells(found):
        table.add_row("" if part == last else part, *map(Text, rest))
        last = part
    lines = "\n".join(["Equal", *(f"  {line}" for line in equal(found))])
    return Group(Text(found.verdict, style="bold"), table, Text(lines, style="dim"))
