"""A result in one line: method, data set, seed, metrics, and where it is stored."""

from pathlib import Path

from ltbench.cli.console import escaped
from ltbench.report.calibration import of_tables
from ltbench.results.records import Metrics
from ltbench.results.schema import Result

METRICS = {"top1": "top-1", "many": "many", "medium": "medium", "few": "few", "ece": "ECE", "mce": "MCE"}
"""Metric -> its name in a line."""
_OF_UNBALANCED = {"macro": "macro", "worst_class": "worst class"}
"""Those that come first where classes have unequal numbers of images: the rest is mostly about the largest."""


def result_line(result: Result, path: Path, recalled: bool = False) -> str:
    """A result and the file that it is stored in, as rich's markup.

    Args:
        result: of any status.
        path: of its file.
        recalled: whether it was stored already.
    """
    config = result.config
    head = f"[bold]{escaped(config.method)}[/bold] on {escaped(config.dataset)}, seed {config.seed}: "
    if result.test is None:
        return head + f"{escaped(f'{result.status}: {result.reason}')}\n  {escaped(path)}"
    note = " (stored, skipped; --rerun repeats it)" if recalled else ""
    return f"{head}{metrics_line(result.test)}\n  {escaped(path)}{note}"


def metrics_line(metrics: Metrics) -> str:
    """Accuracies and calibration errors in percent, the ECE with its noise floor.

    Where the test set is not balanced, the mean over classes and the worst class come first.
    """
    unbalanced = len({count for count in metrics.total if count}) > 1
    fields = {**(_OF_UNBALANCED if unbalanced else {}), **METRICS}
    values = {name: getattr(metrics, field) for field, name in fields.items()}
    shown = {name: f"{name} {'n/a' if value is None else f'{value:.2f}'}" for name, value in values.items()}
    noise = of_tables([metrics.bins])
    if noise is not None:
        shown["ECE"] += f" (noise floor {noise.floor:.2f})"
    return "  ".join(shown.values())
