"""Leaderboards: one row a method and its settings, aggregated over seeds."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ltbench.config.format_settings import format_imbalance_ratio
from ltbench.errors import LtbenchError
from ltbench.report import calibration, compare, intervals
from ltbench.report.best_row import Comparison, compare_with_best
from ltbench.report.collection import Collection
from ltbench.report.frame import COSTS, METRICS, TABLE_KEYS, frame
from ltbench.report.row_labels import row_labels
from ltbench.results.schema import Result

COMPARED = ("top1", "macro", "many", "medium", "few", "ece")
"""Metrics whose best row is tested against all others. MCE is none of them: a bin of a few images decides it."""
LOWER_IS_BETTER = {"nll", "brier", "ece", "mce", "overconfidence", "adaptive_ece", "classwise_ece"}
LACKS_SEEDS = "†"
"""The sign at the end of the label of a row that lacks some of the seeds on which its table compares."""


@dataclass(frozen=True)
class Leaderboard:
    """One leaderboard: runs on the same data under the same recipe."""

    title: str
    key: dict[str, Any]
    """The values of ``TABLE_KEYS``, which all rows share."""
    metric: str
    """The metric that ranks the rows: top1, or macro where the classes of the test set are not equally frequent."""
    rows: pd.DataFrame
    """One row a setting, in the order of ``behind``.

    - ``setting, label, method, seeds, n, run_ids``;
    - each metric's mean and ``_sd`` over the row's own seeds, percent; ``_low`` and ``_high`` of top1 and macro, the
      95 % interval; what the mean ECE says, the columns of ``report.calibration``;
    - the costs' means, but of training time the shortest;
    - ``behind``, the mean difference of the ranking metric to the reference on the ``behind_n`` seeds that both have,
      points; ``p`` of it, paired and adjusted (NaN where too few seeds are shared); ``significantly_worse``;
    - ``comparable``, the reference's mean on the table's seeds less ``behind``;
    - ``lacks_seeds``, those of the table's seeds that the row lacks, comma-separated; ``rank``, the mean over the
      table's seeds; ``wins``, the fraction of comparisons with another row on a seed that the row wins.
    """
    reference: str | None
    """The setting that the others are compared with: the best of the rows that have all of the table's seeds."""
    leads: bool
    """Whether the reference is first: no row that lacks seeds is ahead of it on the seeds that both have."""
    best: Mapping[str, str]
    """Metric -> the setting that is best on the table's seeds, and behind no row on the seeds that both have."""
    bold: Mapping[str, str]
    """Metric -> the best setting, if it is significantly better than every other row."""
    seeds: tuple[int, ...]
    """The seeds on which the table compares: those that at least half of the rows have (``best_row.table_seeds``)."""
    blocks: int
    """Number of these seeds; the rows that have them all are ranked."""
    critical_difference: float | None
    """The difference that two mean ranks need; None where there are too few rows or seeds, as for ``friedman``."""
    friedman: float | None
    """The p value of Friedman's test that all rows rank alike."""


def leaderboards(stored: Collection) -> list[Leaderboard]:
    """Aggregate finished runs over seeds.

    Args:
        stored: runs that are not done, or have not looked at the test set, are left out.

    Raises:
        LtbenchError: if no finished run is left.
    """
    finished = _finished(frame(stored))
    leaderboards = [_leaderboard(runs, stored) for _, runs in finished.groupby("table", sort=False)]
    return sorted(leaderboards, key=_place)


def _place(leaderboard: Leaderboard) -> tuple[Any, ...]:
    """Data sets by name; of each first those that most look for: trained from scratch, not adapted to the test set."""
    return (*(leaderboard.key[name] for name in ("dataset", "transductive", "comparison_group")), leaderboard.title)


def _finished(runs: pd.DataFrame) -> pd.DataFrame:
    finished = runs[(runs["status"] == "done") & runs["top1"].notna()] if len(runs) else runs
    if not len(finished):
        raise LtbenchError(
            "there is no finished run to report", hint="ltbench run stores one; give its folder by --results"
        )
    # A run that stands there under an older name, too, counts once.
    return finished.sort_values(["seed", "run_id"]).drop_duplicates(["setting", "seed"])


def _leaderboard(runs: pd.DataFrame, stored: Collection) -> Leaderboard:
    grouped = runs.groupby("setting", sort=False)
    rows = pd.DataFrame(
        {
            "label": pd.Series(row_labels(runs)),
            "method": grouped["method"].first(),
            "seeds": grouped["seed"].agg(lambda seeds: ",".join(map(str, seeds))),
            "n": grouped["seed"].nunique(),
            "run_ids": grouped["run_id"].agg(list),
        }
    )
    means, deviations = grouped[[*METRICS, *COSTS]].mean(), grouped[list(METRICS)].std(ddof=1).add_suffix("_sd")
    shortest = grouped["training_seconds"].min()  # the one that other work on the machine disturbed least
    means["training_seconds"] = shortest
    of_rows = dict(rows["run_ids"])
    found = [intervals.of_rows(of_rows, stored), calibration.of_rows(of_rows, stored)]
    rows = rows.join([means, deviations, *found])
    balanced = all(_balanced(stored.results[run_id]) for run_id in runs["run_id"])
    metric = "top1" if balanced else "macro"
    rows = rows.sort_values([metric, "label"], ascending=[False, True]).rename_axis("setting").reset_index()
    seeds, scores = _scores(runs, rows["setting"])
    compared = {name: compare_with_best(values) for name, values in scores.items()}
    ranking = compared[metric]
    ranks, shape, friedman = _ranks(scores[metric], ranking)
    reference = None if ranking.reference is None else str(rows["setting"][ranking.reference])
    best = {
        name: str(rows["setting"][one.reference])
        for name, one in compared.items()
        if one.reference is not None and one.leads
    }
    bold = {name: setting for name, setting in best.items() if compared[name].wins(compare.ALPHA)}
    if "ece" in bold:
        used = [seed for seed, is_used in zip(seeds, compared["ece"].seeds, strict=True) if is_used]
        if not _is_lowest_without_noise(bold["ece"], runs[runs["seed"].isin(used)], stored):
            del bold["ece"]
    rows = rows.assign(**_behind(scores[metric], ranking, seeds), rank=ranks)
    # The reference first, also among those that are level with it; without a comparison by the rows' own means.
    rows["first"] = rows["setting"] != reference
    rows = rows.sort_values(["behind", "first"], kind="stable", ignore_index=True).drop(columns="first")
    rows["label"] += np.where(rows["lacks_seeds"] == "", "", f" {LACKS_SEEDS}")
    return Leaderboard(
        title=_title(runs.iloc[0]),
        key={name: runs.iloc[0][name] for name in TABLE_KEYS},
        metric=metric,
        rows=rows,
        reference=reference,
        leads=ranking.leads,
        best=best,
        bold=bold,
        seeds=tuple(seed for seed, used in zip(seeds, ranking.seeds, strict=True) if used),
        blocks=shape[1],
        critical_difference=_known(compare.critical_difference(*shape)),
        friedman=_known(friedman),
    )


def _is_lowest_without_noise(setting: str, runs: pd.DataFrame, stored: Collection) -> bool:
    """Whether a setting has the lowest debiased ECE; noise adds more to the ECE of one row than of another.

    Args:
        setting: of the row.
        runs: of all rows, on the seeds that are compared.
        stored: has them.
    """
    run_ids = dict(runs.groupby("setting", sort=False)["run_id"].agg(list))
    debiased = calibration.of_rows(run_ids, stored)["ece_debiased"]
    return int((debiased <= debiased[setting]).sum()) <= 1  # where nothing is known of it, it decides nothing


def _scores(runs: pd.DataFrame, settings: pd.Series) -> tuple[list[int], dict[str, NDArray[np.float64]]]:
    """Seeds, and of each compared metric the (rows, seeds), the higher the better; NaN where there is no run."""
    pivot = runs.pivot(index="setting", columns="seed", values=list(COMPARED)).loc[list(settings)]
    scores = {name: pivot[name].to_numpy(dtype=float) for name in COMPARED}
    seeds = list(map(int, pivot[COMPARED[0]].columns))
    return seeds, {name: -values if name in LOWER_IS_BETTER else values for name, values in scores.items()}


def _behind(scores: NDArray[np.float64], ranking: Comparison, seeds: Sequence[int]) -> dict[str, Any]:
    """The columns that compare each row with the reference."""
    there = ~np.isnan(scores)
    lacking = [[seed for seed, lacks in zip(seeds, ranking.seeds & ~row, strict=True) if lacks] for row in there]
    return {
        "behind": ranking.behind,
        "behind_n": ranking.shared,
        "p": ranking.p,
        "significantly_worse": ranking.beaten(compare.ALPHA),
        "comparable": _mean(scores, ranking) - ranking.behind,
        "lacks_seeds": [",".join(map(str, one)) for one in lacking],
        "wins": compare.win_rates(scores),
    }


def _mean(scores: NDArray[np.float64], ranking: Comparison) -> float:
    """The reference's, on the table's seeds."""
    return math.nan if ranking.reference is None else float(scores[ranking.reference, ranking.seeds].mean())


def _ranks(scores: NDArray[np.float64], ranking: Comparison) -> tuple[NDArray[np.float64], tuple[int, int], float]:
    """Mean rank of each row that has all of the table's seeds, their numbers, and the p of Friedman's test."""
    ranked = scores[np.ix_(ranking.complete, ranking.seeds)]
    ranks = np.full(len(scores), np.nan)
    if ranked.size:
        ranks[ranking.complete] = compare.average_ranks(ranked)
    return ranks, ranked.shape, compare.friedman_p(ranked)


def _balanced(result: Result) -> bool:
    """Whether all classes of the test set have the same number of images."""
    return result.test is None or len(set(result.test.total)) == 1


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _title(run: pd.Series) -> str:
    parts = [str(run["dataset"]), format_imbalance_ratio(run["imbalance_ratio"]), f"{run['recipe.name']} recipe"]
    if run["comparison_group"]:
        parts.append(str(run["comparison_group"]))
    if run["data_seed"]:
        parts.append(f"data seed {run['data_seed']}")
    if run["validation"]:
        parts.append("trained without the validation part")
    if run["transductive"]:
        parts.append("adapted to the unlabelled test set")
    return ", ".join([*parts, f"data {_short(run['data'])}"])


def _short(fingerprints: str) -> str:
    return str(json.loads(fingerprints).get("train", "unknown"))[:6]
