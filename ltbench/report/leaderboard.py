"""Leaderboards: one row a method and its settings, aggregated over seeds."""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ltbench.errors import LtbenchError
from ltbench.registry.declared import display_name
from ltbench.report import calibration, compare, intervals
from ltbench.report.background import in_background
from ltbench.report.best_row import Comparison, compare_with_best, table_seeds
from ltbench.report.collection import MANY, Collection
from ltbench.report.frame import COSTS, METRICS, TABLE_KEYS, frame
from ltbench.report.how_trained import HowTrained, how_trained
from ltbench.report.one_setting import Candidate, Chosen, candidate, choose
from ltbench.report.row_labels import row_labels
from ltbench.results.records import LOWER_IS_BETTER
from ltbench.results.schema import Result

COMPARED = ("top1", "macro", "many", "medium", "few", "ece")
"""Metrics whose best row is tested against all others. MCE is none of them: a bin of a few images decides it."""
LACKS_SEEDS = "†"
"""The sign at the end of the label of a row that lacks some of the seeds on which its table compares."""


Row = dict[Any, Any]
"""A row of ``Leaderboard.settings`` as a plain record."""


@dataclass(frozen=True)
class Leaderboard:
    """One leaderboard: runs on the same data under the same recipe, one setting a method."""

    title: str
    """The data and how the rows were trained."""
    key: dict[str, Any]
    """The values of ``TABLE_KEYS``, which all rows share."""
    metric: str
    """The metric that ranks the rows: top1, or macro where the classes of the test set are not equally frequent."""
    rows: pd.DataFrame
    """One row a method, of the setting that stands for it, in the order of ``behind``; last those that lack seeds.

    - ``setting, label, method, seeds, n, run_ids``; ``default``, whether the setting is the method's default, and
      ``tuned``, whether a search on validation images chose it; ``further``, the number of other settings in ``others``
      that the row stands for; ``same_as``, the methods that it equals by construction;
    - ``tie``, whether neither it nor a row before it is significantly worse than the best, untested or lacks a seed;
      ``place``, 1 for all ties and else one more than the number of rows with a higher mean, equal where figures are
      (NaN for rows that lack seeds), but later by as many as lack seeds and are ahead of the reference;
    - each metric's mean and ``_sd`` over the row's own seeds, percent; ``_low`` and ``_high`` of top1 and macro, the
      95 % interval; what the mean ECE says, the columns of ``report.calibration``;
    - the costs' means, but of training time the shortest; ``hardware`` that they were measured on;
    - ``behind``, the mean difference of the ranking metric to the reference on the ``behind_n`` seeds that both have,
      points; ``p`` of it, paired and adjusted (NaN where too few seeds are shared); ``significantly_worse``;
    - ``comparable``, the reference's mean on the table's seeds less ``behind``;
    - ``lacks_seeds``, those of the table's seeds that the row lacks, comma-separated; ``rank``, the mean over the
      table's seeds; ``wins``, the fraction of comparisons with another row on a seed that the row wins.
    """
    others: pd.DataFrame
    """The settings that no row has, which are not compared: the columns of ``rows`` that need no comparison, and
    ``of``, the setting of the row that stands for them."""
    trained: HowTrained
    """How the rows were trained."""
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

    @cached_property
    def records(self) -> list[Row]:
        """The rows as plain records, made once: it takes longer than most of what is then done with them."""
        return self.rows.to_dict("records")

    @cached_property
    def other_records(self) -> dict[str, list[Row]]:
        """``others`` as plain records, by the setting that stands for them."""
        found: dict[str, list[Row]] = {}
        for row in self.others.to_dict("records"):
            found.setdefault(row["of"], []).append(row)
        return found

    @property
    def timed(self) -> pd.DataFrame:
        """The rows whose training times can be compared: those on the hardware that most rows were trained on.

        Of several that as many rows were trained on, the first row's.
        """
        known = self.rows[self.rows["training_seconds"] > 0]
        most = known[known["hardware"].isin(known["hardware"].mode())]
        first = most.sort_values("setting", key=lambda names: names != self.reference, kind="stable")
        return known[known["hardware"].isin(first["hardware"][:1])]

    @property
    def settings(self) -> pd.DataFrame:
        """Every setting: the rows, then the others, which have no comparison."""
        return pd.concat([self.rows, self.others], ignore_index=True) if len(self.others) else self.rows

    @property
    def compares_settings(self) -> bool:
        """Whether the rows are settings of one method, since there is no other."""
        return len(self.rows) > 1 and self.rows["method"].nunique() == 1

    @property
    def best_of_many(self) -> pd.DataFrame:
        """The best other setting of each method that would be ahead of the best row, the best first.

        Only settings that have all of the table's seeds, none that a search chose on validation images, and none that
        nobody chose, the defaults. ``tried`` is the number of the method's settings.
        """
        ahead = self._ahead
        ahead = ahead[~ahead["tuned"] & ~ahead["default"]]
        tried = self.settings["method"].value_counts()
        best = ahead.drop_duplicates("method")
        return best.assign(tried=[int(tried[method]) for method in best["method"]])

    @property
    def defaults_ahead(self) -> pd.DataFrame:
        """Settings at the defaults, for whose methods a tuned setting stands, that are ahead of the best row."""
        ahead = self._ahead
        return ahead[ahead["default"]]

    @property
    def _ahead(self) -> pd.DataFrame:
        """The other settings that are ahead of the best row on the table's seeds, the best first."""
        top = self.rows["comparable"].max() if self.reference is not None else math.nan
        others = self.others
        if math.isnan(top) or others.empty:
            return others.head(0).astype({"tuned": bool, "default": bool})
        ahead = others[others["comparable"] > top + 1e-9]
        return ahead.sort_values("comparable", ascending=False, kind="stable")


def leaderboards(stored: Collection) -> list[Leaderboard]:
    """Aggregate finished runs over seeds.

    Args:
        stored: runs that are not done, or have not looked at the test set, are left out.

    Raises:
        LtbenchError: if no finished run is left.
    """
    finished = _finished(frame(stored))
    found = [_leaderboard(runs, stored) for _, runs in finished.groupby("table", sort=False)]
    for part, word in (("train", "data"), ("test", "test data"), ("validation", "validation data")):
        uses = Counter(one.title for one in found)
        found = [_naming(one, part, word) if uses[one.title] > 1 else one for one in found]
    return sorted(found, key=_place)


def _naming(leaderboard: Leaderboard, part: str, word: str) -> Leaderboard:
    """A leaderboard whose title names a part of the data by its fingerprint, too, since another one has the same."""
    print_ = str(json.loads(leaderboard.key["data"]).get(part, "unknown"))[:6]
    return replace(leaderboard, title=f"{leaderboard.title} · {word} {print_}")


def _place(leaderboard: Leaderboard) -> tuple[Any, ...]:
    """Data sets by name; of each first what most look for: from scratch, not adapted to the test set, by the recipe."""
    key = (leaderboard.key[name] for name in ("dataset", "transductive", "comparison_group"))
    return (*key, bool(leaderboard.trained.warning), leaderboard.title)


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
    candidates = [
        candidate(str(setting), stored.results[some["run_id"].iloc[0]], frozenset(some["seed"]))
        for setting, some in grouped
    ]
    chosen = choose(candidates, _seeds_of_table)
    rows = _measured(runs, stored, row_labels(runs, candidates, chosen)).assign(**_roles(candidates, chosen))
    balanced = all(_balanced(stored.results[run_id]) for run_id in runs["run_id"])
    metric = "top1" if balanced else "macro"
    rows = rows.sort_values([metric, "label"], ascending=[False, True]).rename_axis("setting").reset_index()
    is_row = rows["setting"].isin(chosen.settings)
    others = rows[~is_row].reset_index(drop=True)
    rows = rows[is_row].reset_index(drop=True)
    seeds, every = _scores(runs, [*rows["setting"], *others["setting"]])
    scores = {name: values[: len(rows)] for name, values in every.items()}
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
        compared_runs = runs[runs["seed"].isin(used) & runs["setting"].isin(chosen.settings)]
        if not _is_lowest_without_noise(bold["ece"], compared_runs, stored):
            del bold["ece"]
    rows = rows.assign(**_behind(scores[metric], ranking, seeds), rank=ranks)
    rows = _ordered(rows, reference)
    rows["label"] += np.where(rows["lacks_seeds"] == "", "", f" {LACKS_SEEDS}")
    row_of = {other: setting for setting, some in chosen.further.items() for other in some}
    others = others.assign(
        of=[row_of[setting] for setting in others["setting"]],
        comparable=_on_seeds(every[metric][len(rows) :], ranking),
    )
    # Not from the columns: pandas makes NaN of None and floats of integers where runs of other tables lack a value.
    key = dict(zip(TABLE_KEYS, json.loads(runs.iloc[0]["table"]), strict=True))
    trained = how_trained(key, [one.result for one in candidates], _in_all(candidates))
    return Leaderboard(
        title=trained.title,
        key=key,
        metric=metric,
        rows=rows,
        others=others,
        trained=trained,
        reference=reference,
        leads=ranking.leads,
        best=best,
        bold=bold,
        seeds=tuple(seed for seed, used in zip(seeds, ranking.seeds, strict=True) if used),
        blocks=shape[1],
        critical_difference=_known(compare.critical_difference(*shape)),
        friedman=_known(friedman),
    )


def _in_all(candidates: Sequence[Candidate]) -> list[str]:
    """Settings of the recipe that every row has otherwise."""
    each = [one.departures.others for one in candidates]
    return [name for name, value in each[0].items() if all(name in one and one[name] == value for one in each)]


def _measured(runs: pd.DataFrame, stored: Collection, labels: dict[str, str]) -> pd.DataFrame:
    """What was measured of each setting, over its seeds."""
    grouped = runs.groupby("setting", sort=False)
    rows = pd.DataFrame(
        {
            "label": pd.Series(labels),
            "method": grouped["method"].first(),
            "seeds": grouped["seed"].agg(lambda seeds: ",".join(map(str, seeds))),
            "n": grouped["seed"].nunique(),
            "run_ids": grouped["run_id"].agg(list),
            "hardware": grouped["hardware"].agg(lambda found: "; ".join(sorted(set(found)))),
        }
    )
    means, deviations = grouped[[*METRICS, *COSTS]].mean(), grouped[list(METRICS)].std(ddof=1).add_suffix("_sd")
    shortest = grouped["training_seconds"].min()  # the one that other work on the machine disturbed least
    means["training_seconds"] = shortest
    of_rows = dict(rows["run_ids"])
    calibrated = partial(calibration.of_rows, of_rows, stored)
    with in_background(calibrated) if len(runs) >= MANY else nullcontext(calibrated) as of_calibration:
        found = [intervals.of_rows(of_rows, stored), of_calibration()]
    return rows.join([means, deviations, *found])


def _roles(candidates: Sequence[Candidate], chosen: Chosen) -> dict[str, pd.Series]:
    """The columns on what each setting is, by setting."""
    settings = [one.setting for one in candidates]
    methods = {one.setting: one.method for one in candidates}
    same = {
        setting: ", ".join(dict.fromkeys(display_name(methods[other]) for other in some))
        for setting, some in chosen.same.items()
    }
    return {
        "default": pd.Series({setting: setting in chosen.defaults for setting in settings}),
        "tuned": pd.Series({one.setting: one.tuned for one in candidates}),
        "further": pd.Series({setting: len(chosen.further.get(setting, ())) for setting in settings}),
        "same_as": pd.Series({setting: same.get(setting, "") for setting in settings}),
    }


def _seeds_of_table(rows: Sequence[frozenset[int]]) -> frozenset[int]:
    """The seeds on which rows with such seeds are compared."""
    seeds = sorted(frozenset().union(*rows))
    there = np.array([[seed in row for seed in seeds] for row in rows])
    return frozenset(seed for seed, used in zip(seeds, table_seeds(there), strict=True) if used)


def _ordered(rows: pd.DataFrame, reference: str | None) -> pd.DataFrame:
    """Rows in the order of a table, with the columns ``tie`` and ``place``.

    Rows stand in the order of their means. Those from the first on that are not significantly worse than the best tie
    for the first rank. One further below that is not, either, since its seeds scatter, has the rank of its mean.
    """
    complete = (rows["lacks_seeds"] == "") & rows["behind"].notna()
    is_reference = rows["setting"] == reference
    tested = rows["p"].notna()
    # The reference first, also among those that are level with it; without a comparison by the rows' own means.
    order = pd.DataFrame({"lacks": ~complete, "behind": rows["behind"], "first": ~is_reference})
    if reference is None:
        order["lacks"] = False
    level = is_reference
    if (tested & complete).any():  # nothing ties where nothing is tested
        level = complete & (is_reference | (tested & ~rows["significantly_worse"]))
    index = order.sort_values(["lacks", "behind", "first"], kind="stable").index
    rows = rows.assign(tie=level).loc[index].reset_index(drop=True)
    rows["tie"] = rows["tie"].cummin()
    behind = rows["behind"].to_numpy(dtype=float)
    has_all = (rows["lacks_seeds"] == "").to_numpy()
    before = ((behind < behind[:, None] - 1e-9) & has_all).sum(1)
    ahead = int((~has_all & (behind < -1e-9)).sum())  # then no row is first, and none has rank 1
    places = ahead + np.where(rows["tie"], 1.0, 1.0 + before)
    return rows.assign(place=np.where(has_all & ~np.isnan(behind), places, math.nan))


def _on_seeds(scores: NDArray[np.float64], ranking: Comparison) -> NDArray[np.float64]:
    """The mean of settings over the table's seeds; NaN for those that lack one, and where nothing is compared."""
    if ranking.reference is None or not len(scores):
        return np.full(len(scores), math.nan)
    means: NDArray[np.float64] = scores[:, ranking.seeds].mean(1)  # NaN where a run is not there
    return means


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


def _scores(runs: pd.DataFrame, settings: Sequence[str]) -> tuple[list[int], dict[str, NDArray[np.float64]]]:
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


def largest(leaderboards: Sequence[Leaderboard]) -> Leaderboard:
    """The leaderboard with the most settings, and of those the one with the most runs."""
    return max(leaderboards, key=lambda leaderboard: (len(leaderboard.rows), leaderboard.rows["n"].sum()))
