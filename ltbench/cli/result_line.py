"""A result in a line, or a few on a narrow terminal: method, data set, seed, metrics, and where it is stored."""

from pathlib import Path

from rich.text import Text

from ltbench.cli.console import escaped
from ltbench.report.calibration import of_tables
from ltbench.results.records import Metrics
from ltbench.results.schema import Result

METRICS = {"top1": "top-1", "many": "many", "medium": "medium", "few": "few", "ece": "ECE", "mce": "MCE"}
"""Metric -> its name in a line."""
_OF_UNBALANCED = {"macro": "macro", "worst_class": "worst class"}
"""Those that come first where classes have unequal numbers of images: the rest is mostly about the largest."""

_GAP, _INDENT = "  ", "  "


def result_line(result: Result, path: Path, recalled: bool = False, width: int | None = None) -> str:
    """A result and the file that it is stored in, as rich's markup.

    Args:
        result: of any status.
        path: of its file.
        recalled: whether it was stored already.
        width: columns of the terminal, which figures are broken to; None: they stay on one line.
    """
    config = result.config
    head = f"[bold]{escaped(config.method)}[/bold] on {escaped(config.dataset)}, seed {config.seed}: "
    if result.test is None:
        return head + f"{escaped(f'{result.status}: {result.reason}')}\n  {escaped(path)}"
    note = " (stored, skipped; --rerun repeats it)" if recalled else ""
    return f"{_broken(head, result.test, width)}\n  {escaped(path)}{note}"


def metrics_line(metrics: Metrics) -> str:
    """Accuracies and calibration errors in percent, the ECE with its noise floor; without those that are n/a.

    Where the test set is not balanced, the mean over classes and the worst class come first.
    """
    return _GAP.join(_figures(metrics).values())


def _figures(metrics: Metrics) -> dict[str, str]:
    """The figures that a result has, with their names: by metric, in their order."""
    unbalanced = len({count for count in metrics.total if count}) > 1
    fields = {**(_OF_UNBALANCED if unbalanced else {}), **METRICS}
    values = {field: getattr(metrics, field) for field in fields}
    shown = {field: f"{fields[field]} {value:.2f}" for field, value in values.items() if value is not None}
    noise = of_tables([metrics.bins])
    if noise is not None and "ece" in shown:
        shown["ece"] += f" (noise floor {noise.floor:.2f})"
    return shown


def _broken(head: str, metrics: Metrics, width: int | None) -> str:
    """A head and figures on as many lines as they need, between figures: the second has the calibration errors."""
    figures = _figures(metrics)
    whole = head + _GAP.join(figures.values())
    if width is None or _columns(whole) <= width:
        return whole
    lines = [head]
    for field, figure in figures.items():
        fits = _columns(lines[-1] + figure) <= width
        if lines[-1].strip() and (not fits or (field == "ece" and len(lines) == 1)):
            lines[-1:] = [lines[-1].rstrip(), _INDENT]
        lines[-1] += figure + _GAP
    return "\n".join(line.rstrip() for line in lines)


def _columns(markup: str) -> int:
    """Columns that rich's markup takes."""
    return Text.from_markup(markup).cell_len
