"""From runs to leaderboards: one row a method and setting, aggregated over seeds."""

import json
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ltbench.errors import LtbenchError
from ltbench.report.collection import Collection
from ltbench.report.frame import COSTS, METRICS, TABLE_KEYS, frame
from ltbench.store import Result

LOWER_IS_BETTER = {"nll", "brier", "ece", "mce", "overconfidence", "adaptive_ece", "classwise_ece"}
_NOT_IN_LABELS = {"method", "seed", "recipe.name"}
_SETTING_ROOTS = ("hyperparameters.", "recipe.", "backbone", "pretrained", "precision", "revision", "epochs")


@dataclass(frozen=True)
class Board:
    """One leaderboard: runs on the same data under the same recipe."""

    title: str
    key: dict[str, Any]
    """What all rows share: the values of ``TABLE_KEYS``."""
    metric: str
    """That ranks the rows: top1, or macro where the classes of the test set are not equally frequent."""
    rows: pd.DataFrame
    """One row a setting, the best first."""
    critical_difference: float | None = None
    blocks: int = 0


def leaderboards(stored: Collection) -> list[Board]:
    """Aggregate finished runs over seeds.

    Args:
        stored: runs that are not done, or have not looked at the test set, are left out.

    Raises:
        LtbenchError: if no finished run is left.
    """
    runs = frame(stored)
    finished = runs[(runs["status"] == "done") & runs["top1"].notna()] if len(runs) else runs
    if len(finished):  # a run that stands there under an older name, too, counts once
        finished = finished.sort_values(["seed", "run_id"]).drop_duplicates(["setting", "seed"])
    if not len(finished):
        raise LtbenchError("there is no finished run to report", hint="ltbench run stores one; see --results")
    boards = [_board(group, stored) for _, group in finished.groupby("table", sort=False)]
    return sorted(boards, key=lambda board: board.title)


def _board(runs: pd.DataFrame, stored: Collection) -> Board:
    labels = _labels(runs)
    numbers = [*METRICS, *COSTS]
    grouped = runs.groupby("setting", sort=False)
    rows = grouped[numbers].mean()
    rows = rows.join(grouped[list(METRICS)].std(ddof=1).add_suffix("_sd"))
    rows.insert(0, "run_ids", grouped["run_id"].agg(list))
    rows.insert(0, "n", grouped["seed"].nunique())
    rows.insert(0, "seeds", grouped["seed"].agg(lambda seeds: ",".join(map(str, sorted(seeds)))))
    rows.insert(0, "method", grouped["method"].first())
    rows.insert(0, "label", pd.Series(labels))
    rows.insert(0, "setting", rows.index)
    metric = "top1" if all(map(_balanced, (stored.results[run_id] for run_id in runs["run_id"]))) else "macro"
    rows = rows.sort_values([metric, "label"], ascending=[False, True]).reset_index(drop=True)
    return Board(_title(runs.iloc[0]), {name: runs.iloc[0][name] for name in TABLE_KEYS}, metric, rows)


def _balanced(result: Result) -> bool:
    """Whether all classes of the test set have the same number of images."""
    return result.test is None or len(set(result.test.total)) == 1


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
