"""The data of figures: one leaderboard with its runs."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ltbench.errors import LtbenchError
from ltbench.registry.declared import display_name
from ltbench.report.collection import Collection
from ltbench.report.leaderboard import Leaderboard
from ltbench.results.records import Metrics
from ltbench.results.schema import Result

USUAL_METHODS = ("balanced_softmax", "sade", "balpoe")
"""The methods of a figure that has room for a few, unless the user names others: those of the poster."""


@dataclass(frozen=True, eq=False)
class Setting:
    """One row of the leaderboard, and its runs, which differ in their seeds only."""

    row: "pd.Series[Any]"
    runs: list[Result]

    @property
    def label(self) -> str:
        """The label of the row."""
        return shown_name(str(self.row["label"]))

    @property
    def method(self) -> str:
        """The name of the method, that of papers."""
        return shown_name(self.runs[0].method.name or display_name(self.runs[0].config.method))

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """Hyper-parameters by name."""
        return self.runs[0].config.hyperparameters

    @property
    def experts(self) -> int:
        """Number of experts; one for a plain network."""
        return len(self.tests[0].expert_mean_probability)

    @cached_property
    def tests(self) -> list[Metrics]:
        """The figures on the test set, one a run."""
        return [run.test for run in self.runs if run.test]

    @property
    def prior(self) -> NDArray[np.float64]:
        """(C,) class frequencies of the training images; a class without any counts as half an image."""
        counts = np.maximum(np.array(self.runs[0].data.trained_on, dtype=float), 0.5)
        return np.asarray(counts / counts.sum())


@dataclass(frozen=True)
class Material:
    """A leaderboard's settings, in its order, and where they were read."""

    leaderboard: Leaderboard | None
    settings: list[Setting]
    """The rows, one a method, then their other settings."""
    asked: bool = False
    """Whether the user named the methods."""
    folders: list[Path] = field(default_factory=list)
    stored: Collection = field(default_factory=Collection)
    """All that was read."""

    @property
    def metric(self) -> str:
        """The metric that ranks the settings: top1, or macro where the test set is not balanced."""
        return self.leaderboard.metric if self.leaderboard else "top1"

    @property
    def accuracy(self) -> str:
        """The words for ``metric``."""
        return "accuracy (%)" if self.metric == "top1" else "macro accuracy (%)"

    def chosen(self, most: int = 5, among: Iterable[Setting] | None = None) -> list[Setting]:
        """Settings for a figure that has room for a few, the best first.

        Of methods that the user named the setting of each row; where there is one method only, its settings; otherwise
        ``USUAL_METHODS``, or without two of these some methods from the best to the worst in even steps.

        Raises:
            LtbenchError: if there is no finished run.
        """
        settings = self.ranked() if among is None else list(among)
        of_method: dict[str, list[Setting]] = {}
        for setting in settings:
            of_method.setdefault(setting.runs[0].config.method, []).append(setting)
        if self.asked or len(of_method) == 1:
            in_turn = [one for turn in zip_longest(*of_method.values()) for one in turn if one is not None][:most]
        elif len(usual := [one for one in settings if one.runs[0].config.method in USUAL_METHODS]) > 1:
            in_turn = usual[:most]
        else:
            best = [ranked[0] for ranked in of_method.values()]
            steps = np.linspace(0, len(best) - 1, min(most, len(best)))
            in_turn = [best[round(step)] for step in steps]
        return sorted(in_turn, key=settings.index)

    def title(self, settings: Sequence[Setting], *, measure: str = "", seeds: int | None = None) -> str:
        """What a figure of some settings shows: the data, how they were trained, and on how many seeds.

        Args:
            settings: those that are shown.
            measure: what its points and bars are over several seeds, e.g. "mean ± SD".
            seeds: their number, where the figure does not use all that a setting has.
        """
        assert self.leaderboard is not None, "there are settings"
        methods = [len({setting.runs[0].config.method for setting in some}) for some in (settings, self.ranked())]
        best = f"{methods[0]} of {methods[1]} methods" if self.asked and methods[0] < methods[1] else ""
        numbers = [len(setting.runs) for setting in settings] if seeds is None else [seeds]
        measure = measure if max(numbers) > 1 else ""
        return " · ".join(
            filter(None, [without_formulas(self.leaderboard.title), measure, best, number_of_seeds(numbers)])
        )

    def ranked(self) -> list[Setting]:
        """The rows, one setting a method, best first; last those that lack seeds of the table.

        Raises:
            LtbenchError: if there are none.
        """
        compared = 0 if self.leaderboard is None else len(self.leaderboard.rows)
        return sorted(self.finished()[:compared], key=lambda setting: setting.row["lacks_seeds"] != "")

    def finished(self) -> list[Setting]:
        """All settings, the rows first.

        Raises:
            LtbenchError: if there are none.
        """
        if not self.settings:
            raise LtbenchError("no finished run is stored", hint="ltbench run stores one; give its folder by --results")
        return self.settings


def gather(
    stored: Collection, leaderboard: Leaderboard | None, *, asked: bool = False, folders: Sequence[Path] = ()
) -> Material:
    """The material of one leaderboard.

    Args:
        stored: the runs that it was made from.
        leaderboard: the leaderboard; None if no run is finished.
        asked: whether the user named the methods.
        folders: where ``stored`` was read.
    """
    rows = [row for _, row in leaderboard.settings.iterrows()] if leaderboard else []
    settings = [Setting(row, [stored.results[name] for name in row["run_ids"]]) for row in rows]
    return Material(leaderboard, settings, asked, list(folders), stored)


def shown_name(text: str) -> str:
    """A name as matplotlib shows it: no formula between dollars, of bounded length, and in the legend in any case."""
    text = without_formulas(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}...")
    return f" {text}" if text.startswith("_") else text


def without_formulas(text: str) -> str:
    """Text in which matplotlib sees no formula between dollars."""
    return text.replace("$", r"\$")


def number_of_seeds(numbers: Sequence[int]) -> str:
    """For example "n = 5 seeds" or "n = 5 to 10 seeds"."""
    least, most = min(numbers), max(numbers)
    return f"n = {least if least == most else f'{least} to {most}'} seed{'s' * (most != 1)}"


_LONGEST = 120
"""Largest number of characters of a name."""


def finished_runs(stored: Collection) -> bool:
    """Whether any run is finished and has looked at the test set."""
    return any(result.status == "done" and result.test for result in stored.results.values())


def summary(rows: Sequence[Sequence[float] | NDArray[np.float64]]) -> pd.DataFrame:
    """Mean and standard deviation of each column: ``mean`` and ``sd``, which is NaN for a single row."""
    table = pd.DataFrame(np.array(rows, dtype=float))
    return pd.DataFrame({"mean": table.mean(), "sd": table.std(ddof=1)})
