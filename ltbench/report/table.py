"""The leaderboard: one row a method and setting, mean and standard deviation over seeds."""

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd
from tabulate import tabulate

from ltbench.errors import LtbenchError
from ltbench.report.frame import COSTS, METRICS

COLUMNS = {
    "top1": "Acc",
    "many": "Many",
    "medium": "Med",
    "few": "Few",
    "ece": "ECE",
    "mce": "MCE",
}
LOWER_IS_BETTER = {"ece", "mce"}
_NOT_IN_LABELS = {"method", "seed", "recipe.name"}
_SETTING_ROOTS = ("hyperparameters.", "recipe.", "backbone", "pretrained", "precision", "revision", "epochs")


@dataclass(frozen=True)
class Board:
    """One leaderboard: runs on the same data under the same recipe."""

    title: str
    rows: pd.DataFrame
    """One row a setting: label, n, and for each metric its mean, ``_sd`` and the costs' means."""


def leaderboards(runs: pd.DataFrame) -> list[Board]:
    """Aggregate finished runs over seeds.

    Args:
        runs: as ``load_results`` gives them; runs that are not done, or have not looked at the test set, are
            left out.

    Raises:
        LtbenchError: if no finished run is left.
    """
    finished = runs[(runs["status"] == "done") & runs["top1"].notna()] if len(runs) else runs
    if len(finished):  # a run that stands there under an older name, too, counts once
        finished = finished.drop_duplicates(["setting", "seed"])
    if not len(finished):
        raise LtbenchError("there is no finished run to report", hint="ltbench run stores one; see --results")
    boards = [_board(group) for _, group in finished.groupby("table", sort=False)]
    return sorted(boards, key=lambda board: board.title)


def _board(runs: pd.DataFrame) -> Board:
    labels = _labels(runs)
    numbers = [*METRICS, *COSTS]
    grouped = runs.groupby("setting", sort=False)
    rows = grouped[numbers].mean()
    rows = rows.join(grouped[list(METRICS)].std(ddof=1).add_suffix("_sd"))
    rows.insert(0, "n", grouped["seed"].nunique())
    rows.insert(0, "seeds", grouped["seed"].agg(lambda seeds: ",".join(map(str, sorted(seeds)))))
    rows.insert(0, "method", grouped["method"].first())
    rows.insert(0, "label", pd.Series(labels))
    rows = rows.sort_values(["top1", "label"], ascending=[False, True]).reset_index(drop=True)
    return Board(_title(runs.iloc[0]), rows)


def _title(run: pd.Series) -> str:
    ratio = "as it is" if pd.isna(run["imbalance_ratio"]) else f"IR {run['imbalance_ratio']:g}"
    parts = [str(run["dataset"]), ratio, f"{run['recipe.name']} recipe"]
    if run["track"]:
        parts.append(str(run["track"]))
    if run["data_seed"]:
        parts.append(f"data seed {run['data_seed']}")
    if run["validation"]:
        parts.append("trained without the validation part")
    if run["transductive"]:
        parts.append("adapted to the unlabelled test set")
    return ", ".join([*parts, f"data {_short(run['data'])}"])


def _short(fingerprints: str) -> str:
    return str(json.loads(fingerprints)["train"])[:6]


def _labels(runs: pd.DataFrame) -> dict[str, str]:
    """The label of each setting: the method, and what differs within the table or among the method's rows."""
    settings = runs.drop_duplicates("setting").set_index("setting")
    shown = [name for name in map(str, settings) if name.startswith(_SETTING_ROOTS) and name not in _NOT_IN_LABELS]
    own = {str(method): _varying(rows, shown) for method, rows in settings.groupby("method")}
    # A hyper-parameter that every method of the table has, such as mixup, is named for all where it differs.
    common = [name for name in shown if "hyperparameters." not in name or settings[name].notna().all()]
    if settings["recipe.name"].eq("paper").all():  # each method has its authors' own: no part of its name
        common = [name for name in common if not name.startswith("recipe.")]
    shared = _varying(settings, [name for name in common if name != "revision"])
    usual = {"recipe.head": _of_most(settings["recipe.head"])}  # a few methods have a head of their own
    labels = {}
    for setting, row in settings.iterrows():
        named = dict.fromkeys([*shared, *own[row["method"]]])
        differing = [name for name in named if not pd.isna(row[name]) and row[name] != usual.get(name)]
        labels[str(setting)] = ", ".join([row["method"], *(_named(name, row[name]) for name in differing)])
    return labels


def _of_most(values: pd.Series) -> Any:
    """The value that more than half of the rows have, if there is one."""
    counts = values.value_counts()
    return counts.index[0] if len(counts) and counts.iloc[0] > len(values) / 2 else None


def _varying(settings: pd.DataFrame, names: list[str]) -> list[str]:
    return [name for name in names if settings[name].nunique(dropna=False) > 1]


def _named(name: str, value: Any) -> str:
    shown = f"{value:g}" if isinstance(value, float) else str(value)
    shown = shown.lower() if shown in ("True", "False") else shown  # as --set has it
    return f"{name.split('.')[-1]}={shown}"


def render(boards: list[Board], style: str) -> str:
    """The leaderboards as text.

    Args:
        boards: to show.
        style: md, csv, json or latex.
    """
    return _STYLES[style](boards)


def _cell(row: pd.Series, metric: str, best: str, bold: Callable[[str], str]) -> str:
    mean, deviation = row[metric], row[f"{metric}_sd"]
    if pd.isna(mean):
        return "n/a"
    shown = f"{mean:.1f}"
    text = shown if pd.isna(deviation) else f"{shown} ± {deviation:.1f}"
    return bold(text) if shown == best else text


def _best(rows: pd.DataFrame, metric: str) -> str:
    """The best value as it is shown; none where all rows show the same."""
    values = rows[metric].dropna()
    worst, best = sorted((values.min(), values.max()), reverse=metric in LOWER_IS_BETTER)
    return f"{best:.1f}" if f"{best:.1f}" != f"{worst:.1f}" else ""


def cells(board: Board, bold: Callable[[str], str]) -> list[list[str]]:
    """The rows as text, below ``HEADER``; ``bold`` marks the best of a column."""
    best = {metric: _best(board.rows, metric) for metric in COLUMNS}
    return [
        [
            row["label"],
            str(row["n"]),
            *(_cell(row, metric, best[metric], bold) for metric in COLUMNS),
            f"{row['parameters'] / 1e6:.2f}",
            f"{row['multiply_adds'] / 1e6:.1f}",
            _duration(row["training_seconds"]),
        ]
        for _, row in board.rows.iterrows()
    ]


HEADER = ["Method", "n", *COLUMNS.values(), "Params (M)", "MAdds (M)", "Train"]
NOTE = (
    "Percent, mean ± standard deviation over n seeds; accuracy on the test set after the last epoch: all, many- "
    "(> 100 training images), medium- and few-shot (< 20) classes, the groups averaged over classes. "
    "ECE and MCE: 15 bins; lower is better. MAdds: of one image. Train: on the machine at hand, with the runs that a "
    "method starts from. Bold: best mean, not a test of significance."
)


def _duration(seconds: float) -> str:
    if math.isnan(seconds):
        return "n/a"
    return f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 60:.0f} min"


def _markdown(boards: list[Board]) -> str:
    align = ["left", "right", *["right"] * (len(HEADER) - 2)]
    parts = []
    for board in boards:
        rows = cells(board, lambda text: f"**{text}**")
        table = tabulate(rows, HEADER, tablefmt="github", colalign=align, disable_numparse=True)
        parts.append(f"### {board.title}\n\n{table}\n")
    return "\n".join([*parts, NOTE]) + "\n"


def _latex(boards: list[Board]) -> str:
    parts = []
    for board in boards:
        rows = cells(board, lambda text: f"@@{text}@@")  # marks that survive the escaping
        align = ["left", *["right"] * (len(HEADER) - 1)]
        table = tabulate(rows, HEADER, tablefmt="latex_booktabs", colalign=align, disable_numparse=True)
        table = re.sub(r"@@(.+?)@@", r"\\textbf{\1}", table).replace("±", r"$\pm$")
        parts.append(f"% {board.title}\n{table}\n")
    return "\n".join(parts)


def _records(boards: list[Board]) -> list[dict[str, Any]]:
    return [
        {"board": board.title, **{str(name): _plain(value) for name, value in row.items()}}
        for board in boards
        for row in board.rows.to_dict("records")
    ]


def _plain(value: Any) -> Any:
    """A value that JSON has a word for."""
    if isinstance(value, float) and math.isnan(value):
        return None
    return value.item() if hasattr(value, "item") else value


_STYLES: dict[str, Callable[[list[Board]], str]] = {
    "md": _markdown,
    "latex": _latex,
    "json": lambda boards: json.dumps(_records(boards), indent=1, allow_nan=False) + "\n",
    "csv": lambda boards: str(pd.DataFrame(_records(boards)).to_csv(index=False)),
}
FORMATS = tuple(_STYLES)
