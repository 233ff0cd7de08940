"""Accuracy and ECE against the number of experts."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ltbench.config import canonical_json
from ltbench.errors import LtbenchError
from ltbench.report.figures.material import Material, Setting
from ltbench.report.figures.style import SINGLE, error_bars, key, look, title

_WIDTH = 0.36
"""Distance, in experts, over which points of the same number are spread; so little that none is taken for another."""
USUAL_BESIDE = ("ride", "sade", "ncl")
"""The methods that stand beside the lines unless the user names others."""


def draw(material: Material) -> Figure:
    """Accuracy and ECE against the number of experts, all else equal; mean and standard deviation over seeds.

    Beside it other methods with experts, as they are in the table.

    Raises:
        LtbenchError: if no method was run with several numbers of experts.
    """
    lines = families(material.finished())
    if not lines:
        raise LtbenchError(
            "no method was run with several numbers of experts, all else equal",
            hint="ltbench run --set experts=1 --seeds 0-4, and so on with 2, 3, ...; "
            "benchmarks/suites/digits-lt-poster.toml does it for BalPoE",
        )
    lines += [[setting] for setting in beside(material, lines)]
    figure = Figure(figsize=(SINGLE, 3.6))
    panels = figure.subplots(2, 1, sharex=True)
    points = Counter(family[0].experts for family in lines if len(family) == 1)
    drawn: Counter[int] = Counter()
    for number, family in enumerate(lines):
        counts = np.array([setting.experts for setting in family], dtype=float)
        if len(family) == 1:  # points of the same number of experts stand side by side around it
            drawn[family[0].experts] += 1
            counts += _WIDTH * (drawn[family[0].experts] / (points[family[0].experts] + 1) - 0.5)
        for axes, metric in zip(panels, (material.metric, "ece"), strict=True):
            means, deviations = ([setting.row[name] for setting in family] for name in (metric, f"{metric}_sd"))
            error_bars(axes, counts, means, deviations, label=family[0].method, **look(number))
    panels[0].set_ylabel(material.accuracy)
    panels[1].set(ylabel="ECE (%)", xlabel="number of experts")
    panels[1].xaxis.set_major_locator(MaxNLocator(integer=True))
    key(figure, panels[0], 4)
    title(figure, material.title([one for family in lines for one in family], measure="mean ± SD"))
    return figure


def beside(material: Material, lines: Sequence[Sequence[Setting]]) -> list[Setting]:
    """Rows of methods with experts that have no line: those that the user named, or else ``USUAL_BESIDE``."""
    drawn = {setting.runs[0].config.method for family in lines for setting in family}
    able = [one for one in material.ranked() if one.experts > 1 and one.runs[0].config.method not in drawn]
    return [one for one in able if material.asked or one.runs[0].config.method in USUAL_BESIDE]


def families(settings: Sequence[Setting]) -> list[list[Setting]]:
    """For each method the settings that differ in the number of experts only, if there are two or more.

    Hyper-parameters that go with the number are those that, in every setting of the method, are a list of that length
    or that number itself. Such lists must start and end alike; a single expert's value must be the middle of them.
    """
    found = []
    for method in dict.fromkeys(setting.method for setting in settings):
        own = [setting for setting in settings if setting.method == method]
        counting = [name for name in own[0].hyperparameters if all(_counts(one, name) for one in own)]
        groups: dict[str, list[Setting]] = {}
        for setting in own:
            groups.setdefault(_fixed(setting, counting, setting.experts > 1), []).append(setting)
        found.append(max((_with_single(group, own, counting) for group in groups.values()), key=len))
    return [family for family in found if len(family) > 1]


def _counts(setting: Setting, name: str) -> bool:
    value = setting.hyperparameters.get(name)
    return len(value) == setting.experts if isinstance(value, list) else value == setting.experts


def _fixed(setting: Setting, counting: list[str], ends: bool) -> str:
    """The settings that the points of one line share, as text."""
    config = setting.runs[0].config.without_seed()
    values = config.pop("hyperparameters")
    kept: dict[str, Any] = {name: value for name, value in values.items() if name not in counting}
    for name in counting:
        if isinstance(values[name], list):
            first, last = values[name][0], values[name][-1]
            kept[name] = [first, last] if ends else middle(first, last)
    return canonical_json([config, kept])


def middle(first: Any, last: Any) -> Any:
    """What a single expert has between the values of the first and the last; of words and the like, both."""
    if isinstance(first, list) and isinstance(last, list) and len(first) == len(last):
        return [middle(a, b) for a, b in zip(first, last, strict=True)]
    numbers = all(isinstance(one, int | float) for one in (first, last))
    return (first + last) / 2 if numbers else [first, last]


def _with_single(group: list[Setting], own: list[Setting], counting: list[str]) -> list[Setting]:
    middle = _fixed(group[0], counting, ends=False)
    single = [
        one for one in own if one.experts == 1 and one not in group and _fixed(one, counting, ends=False) == middle
    ]
    by_count = {setting.experts: setting for setting in reversed([*group, *single])}  # the better one of two that tie
    return [by_count[count] for count in sorted(by_count)]
