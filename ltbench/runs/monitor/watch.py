"""The view of ``ltbench watch``: running, interrupted, failed and finished runs in a terminal of any size."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from datetime import UTC, datetime
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ltbench.config import Recipe, RunConfig
from ltbench.config.format_settings import format_value
from ltbench.printable import printable_name
from ltbench.runs.monitor.heartbeat import Heartbeat
from ltbench.runs.monitor.jobs import FinishedRun, InterruptedRun, Jobs, RunIndex

QUIET = 60.0
"""Seconds without a heartbeat that are worth a word."""
MANY = 20
"""Runs of a kind that are shown where the terminal sets no limit."""
WIDE = 100
"""Columns from which on there is room for more figures."""
ROOMY = 20
"""Lines from which on there is room for empty ones."""
NOTHING = "Nothing is under way, and there are no results yet: ltbench run starts a run, --results names a folder."


def follow(index: RunIndex, console: Console, interval: float) -> None:
    """Show what there is, again and again, until interrupted.

    Args:
        index: of the runs that are looked at.
        console: to show them on.
        interval: seconds between two looks.
    """
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            jobs = index.look()
            live.update(render(jobs, datetime.now(UTC), console.width, console.height), refresh=True)
            time.sleep(interval)


def render(jobs: Jobs, now: datetime, width: int, height: int | None = None) -> RenderableType:
    """The view at one moment.

    Args:
        jobs: what there is.
        now: the moment.
        width: columns of the terminal.
        height: its lines; None where there is no limit.
    """
    runs: dict[str, Sequence[Any]] = {
        "running": jobs.running,
        "interrupted": jobs.interrupted,
        "failed": jobs.failed,
        "done": jobs.done,
    }
    there = {kind: some for kind, some in runs.items() if some}
    gap = [] if height is not None and height < ROOMY else [""]
    foot = _problems(jobs.problems)
    lines = None if height is None else height - 1 - len(foot) - len(there) * (1 + len(gap))
    shown = {kind: there[kind][:count] for kind, count in _fitting(there, lines).items()}
    names = _Names([run.config for some in shown.values() for run in some])
    parts: list[RenderableType] = [_head(runs, names.common)]
    for kind, some in shown.items():
        all_of_them = len(some) == len(there[kind])
        title = kind if all_of_them else f"{kind}, {len(some)} latest of {len(there[kind])}"
        parts += [*gap, _TABLES[kind](title, some, names, now, width)]
    return Group(*parts, *([] if there else [NOTHING]), *foot)


def _fitting(runs: Mapping[str, Sized], lines: int | None) -> dict[str, int]:
    """How many of each kind are shown: at least one, the first kinds before the others."""
    fitting = {}
    for number, (kind, some) in enumerate(runs.items()):
        if lines is None:
            fitting[kind] = min(len(some), MANY)
        else:
            fitting[kind] = max(1, min(len(some), lines - (len(runs) - number - 1)))
            lines -= fitting[kind]
    return fitting


class _Names:
    """What runs are called: the method, the seed, and the settings in which those at hand differ."""

    def __init__(self, configs: Iterable[RunConfig]) -> None:
        shared: dict[str, set[str]] = defaultdict(set)
        own: dict[tuple[str, str], set[str]] = defaultdict(set)
        for config in configs:
            for name, value in _settings(config).items():
                shared[name].add(value)
            for name, value in config.hyperparameters.items():
                own[config.method, name].add(format_value(value))
        self._differing = {name for name, values in shared.items() if len(values) > 1}
        self._differing_of_method = {key for key, values in own.items() if len(values) > 1}
        same = {name: next(iter(values)) for name, values in shared.items() if len(values) == 1}
        self.common = ", ".join(_named(name, same[name]) for name in ("data", "IR", "epochs") if name in same)

    def __call__(self, config: RunConfig) -> str:
        settings = {name: value for name, value in _settings(config).items() if name in self._differing}
        for name, value in config.hyperparameters.items():
            if (config.method, name) in self._differing_of_method:
                settings[name] = format_value(value)
        return ", ".join([config.method, f"seed {config.seed}", *(_named(*one) for one in settings.items())])


def _settings(config: RunConfig) -> dict[str, str]:
    """What is known of a run; little of what ltbench has not trained."""
    recipe = config.recipe
    settings = {"data": config.dataset, "IR": format_value(config.imbalance_ratio)}
    if config.imbalance != "exp":
        settings["imbalance"] = config.imbalance
    if config.class_order != "label":
        settings["class order"] = config.class_order
    if config.backbone is not None:
        settings["backbone"] = config.backbone
    if not isinstance(recipe, Recipe):
        return {**settings, "recipe": recipe}
    trained = {"epochs": str(recipe.epochs), "lr": format_value(recipe.lr), "batch": str(recipe.batch_size)}
    return {**settings, "recipe": recipe.name, **trained}


def _named(name: str, value: str) -> str:
    return {"data": value, "epochs": f"{value} epochs"}.get(name, f"{name} {value}")


def _head(runs: Mapping[str, Sized], common: str) -> Table:
    counts = [Text(f"{len(some)} {kind}", style=_STYLES[kind] if some else "") for kind, some in runs.items()]
    head = Table.grid(padding=(0, 2, 0, 0), expand=True)
    head.add_column(no_wrap=True)
    head.add_column(justify="right")
    head.add_row(Text(", ").join(counts), _line(common, "dim"))
    return head


def _problems(messages: Sequence[str]) -> list[RenderableType]:
    if not messages:
        return []
    text = f"left out: {len(messages)} unreadable file{'s' if len(messages) > 1 else ''}, e.g. {messages[0]}"
    return [_line(" ".join(text.split()), "yellow")]


def _table(title: str, kind: str, *columns: str, words: int = 0) -> Table:
    """A table for a kind of runs: their names, then columns of figures, but for the first few, which are of words."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column(_line(title, f"bold not dim {_STYLES[kind]}"))
    for number, column in enumerate(columns):
        table.add_column(column, no_wrap=number >= words, justify="left" if number < words else "right")
    return table


def _line(text: str, style: str = "") -> Text:
    """Words that are cut where there is no room; a column of them shrinks before those that may not wrap."""
    return Text(printable_name(text), style, no_wrap=True, overflow="ellipsis")


def _running(title: str, runs: Sequence[Heartbeat], names: _Names, now: datetime, width: int) -> Table:
    wide = ["images/s", "process"] if width >= WIDE else []
    table = _table(title, "running", "", "", "", "left", "loss", *wide, words=2)
    for run in runs:
        quiet = (now - run.seen).total_seconds()
        words = _line(f"silent for {_span(quiet)}", "yellow") if quiet > QUIET else _line(run.words)
        bar = ProgressBar(total=1.0, completed=run.share, width=max(10, width // 6))
        figures = [_percent(run.share), _span(run.seconds_left(now)), "" if run.loss is None else f"{run.loss:.3f}"]
        if wide:
            figures += ["" if run.images_per_second is None else f"{run.images_per_second:.0f}", str(run.process)]
        table.add_row(_line(names(run.config)), words, bar, *figures)
    return table


def _interrupted(title: str, runs: Sequence[InterruptedRun], names: _Names, now: datetime, width: int) -> Table:
    table = _table(title, "interrupted", "", "", words=1)
    for run in runs:
        where = "" if run.share is None else f"at {_percent(run.share)}; "
        how = "the same command resumes" if run.saved else "the same command starts anew"
        table.add_row(_line(names(run.config)), _line(where + how), _ago(run.at, now))
    return table


def _failed(title: str, runs: Sequence[FinishedRun], names: _Names, now: datetime, width: int) -> Table:
    table = _table(title, "failed", "", "", words=1)
    for run in runs:
        table.add_row(_line(names(run.config)), _line(run.reason or ""), _ago(run.at, now))
    return table


def _done(title: str, runs: Sequence[FinishedRun], names: _Names, now: datetime, width: int) -> Table:
    table = _table(title, "done", "top-1", "ECE", "trained", "ended")
    for run in runs:
        name = _line(names(run.config) + (" (validation)" if run.validation else ""))
        figures = ["n/a" if value is None else f"{value:.2f}" for value in (run.top1, run.ece)]
        table.add_row(name, *figures, _span(run.seconds), _ago(run.at, now))
    return table


_TABLES: dict[str, Callable[[str, Any, _Names, datetime, int], Table]] = {
    "running": _running,
    "interrupted": _interrupted,
    "failed": _failed,
    "done": _done,
}
_STYLES = {"running": "cyan", "interrupted": "yellow", "failed": "red", "done": "green"}


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _ago(then: datetime, now: datetime) -> str:
    return f"{_span(max(0.0, (now - then).total_seconds()))} ago"


def _span(seconds: float | None) -> str:
    """A length of time, short."""
    if seconds is None:
        return ""
    for unit, size, limit in (("s", 1, 120), ("min", 60, 7200), ("h", 3600, 172800)):
        if seconds < limit:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86400:.0f} days"
