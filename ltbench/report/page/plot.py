"""Accuracy against training time, as the points of a small plot whose points are the rows of a table."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib.ticker import MaxNLocator

from ltbench.report.leaderboard import Leaderboard
from ltbench.report.numbers import duration, number
from ltbench.report.page.columns import Values
from ltbench.report.page.scale import scale_of
from ltbench.report.pareto import pareto

_TIMES = (
    *(1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 45),
    *(60 * minutes for minutes in (1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 45)),
    *(3600 * hours for hours in (1, 2, 3, 4, 6, 8, 12, 18)),
    *(86_400 * days for days in (1, 2, 3, 5, 10, 20, 30)),
)
"""Training times, in seconds, that an axis may name."""
_MARGIN = 0.08
_MOST_TICKS = 4


@dataclass(frozen=True)
class Point:
    """A row; ``x`` and ``y`` are percent of the plot's width and height from its lower left corner."""

    entry: str
    label: str
    figures: str
    """Accuracy and time, e.g. "98.4 %, 14 s"."""
    x: float
    y: float
    front: bool
    """Whether it is on the Pareto front: no row that costs as little is as accurate."""
    leads: bool
    """Whether it is the table's first row."""
    elsewhere: bool
    """Whether it was trained on other hardware than most rows; its time says little beside theirs. False where no two
    rows share theirs."""
    beyond: Literal["", "below", "above"]
    """Whether its accuracy is below or above the scale, at whose edge it then stands."""


@dataclass(frozen=True)
class Tick:
    """A number beside an axis and its place, percent of the plot."""

    text: str
    place: float


@dataclass(frozen=True)
class Plot:
    """A plot of a table."""

    points: list[Point]
    front: str
    """The front as the points of a polyline in a box of 100 x 100, y downwards; a step function."""
    horizontal: list[Tick]
    vertical: list[Tick]
    comparable: bool
    """Whether two rows or more share their hardware, without which there is no front."""


def cost_plot(leaderboard: Leaderboard, ids: Sequence[str]) -> Plot | None:
    """The plot; None where fewer than two rows have a training time on record.

    Accuracies are those on the table's seeds, as in the figure of costs. The front is of the rows whose times can be
    compared; a row that lacks seeds is on no front.

    Args:
        leaderboard: the table.
        ids: of its rows, in their order.
    """
    names = dict(zip(leaderboard.rows["setting"], ids, strict=True))
    known = leaderboard.rows[leaderboard.rows["training_seconds"] > 0]
    rows: list[tuple[str, Values]] = [(names[row["setting"]], row) for row in known.to_dict("records")]
    if len(rows) < 2:
        return None
    timed = set(leaderboard.timed["setting"])
    timed = timed if len(timed) > 1 else set()
    seconds = np.array([row["training_seconds"] for _, row in rows], dtype=float)
    accuracy = np.array([_accuracy(row, leaderboard.metric) for _, row in rows])
    low, high = scale_of(accuracy.tolist(), accuracy.tolist())
    x = _placed(np.log(seconds), np.log(seconds.min()), np.log(seconds.max()))
    y = np.clip(_placed(accuracy, low, high), 0, 100)
    complete = [
        place
        for place, (_, row) in enumerate(rows)
        if row["setting"] in timed and row["behind_n"] and not row["lacks_seeds"]
    ]
    front = [complete[place] for place in pareto(seconds[complete], accuracy[complete])]
    points = [
        Point(
            name,
            str(row["label"]),
            f"{number(value, 1)} %, {duration(row['training_seconds'])}",
            float(x[place]),
            float(y[place]),
            place in front,
            row["setting"] == leaderboard.reference,
            bool(timed) and row["setting"] not in timed,
            "below" if value < low - 1e-9 else "above" if value > high + 1e-9 else "",
        )
        for place, ((name, row), value) in enumerate(zip(rows, accuracy, strict=True))
    ]
    steps = [f"{x[at]:.1f},{100 - y[before]:.1f} {x[at]:.1f},{100 - y[at]:.1f}" for before, at in _pairs(front)]
    end = [f"100,{100 - y[front[-1]]:.1f}"] if front else []
    times = np.array([time for time in _TIMES if seconds.min() / 1.1 <= time <= seconds.max() * 1.1], dtype=float)
    times = times[:: max(1, math.ceil(len(times) / _MOST_TICKS))]
    horizontal = _placed(np.log(times), np.log(seconds.min()), np.log(seconds.max())) if len(times) else times
    values = np.asarray(MaxNLocator(_MOST_TICKS).tick_values(low, high))
    digits = next(digits for digits in range(17) if np.allclose(values, values.round(digits), atol=1e-9))
    vertical = zip(values, _placed(values, low, high), strict=True)
    return Plot(
        points,
        " ".join([*steps, *end]),
        _within((duration(time), place) for time, place in zip(times, horizontal, strict=True)),
        _within((number(value, digits), place) for value, place in vertical),
        bool(timed),
    )


def _within(ticks: Iterable[tuple[str, float]]) -> list[Tick]:
    """The ticks whose place is inside the plot."""
    return [Tick(text, float(place)) for text, place in ticks if 0 <= place <= 100]


def _accuracy(row: Values, metric: str) -> float:
    """The accuracy beside those of the other rows; where there is no comparison, the mean over its own seeds."""
    return float(row[metric] if math.isnan(row["comparable"]) else row["comparable"])


def _placed(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Percent of the way along an axis that shows a little more than both ends."""
    wide = (high - low) or 1.0
    return np.asarray(100 * (_MARGIN + (1 - 2 * _MARGIN) * (values - low) / wide))


def _pairs(front: Sequence[int]) -> list[tuple[int, int]]:
    """Each point with the one before it on the front; the first with itself."""
    return list(zip([*front[:1], *front], front, strict=False))
