"""The tables of a leaderboard as rows of text, before they are rendered as Markdown, LaTeX or for a terminal."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd

from ltbench.report.leaderboard import LACKS_SEEDS, Leaderboard

COLUMNS = {
    "top1": "Acc",
    "macro": "Macro",
    "many": "Many",
    "medium": "Med",
    "few": "Few",
    "ece": "ECE",
    "mce": "MCE",
}
_BESIDE = {"ece": {"ece_floor": "Floor", "ece_debiased": "Debiased"}}
"""Columns to the right of a metric's."""
NOTE = (
    "Percent, mean ± standard deviation over n seeds; accuracy on the test set after the last epoch: all, many- (> "
    "100 training images), medium- and few-shot (< 20) classes, the groups averaged over classes; Macro, where the "
    "test set is not balanced: over all classes. ECE and MCE: 15 bins; lower is better. Floor: the ECE that a "
    "perfectly calibrated model with the same confidences measures on as many images (mean of consistency "
    "resampling). Debiased: the ECE without what noise adds to it. MAdds: of one image. Train: the shortest of the "
    "seeds, on the machine at hand, with the runs that a method starts from. Order, bold and ≈ come from the same "
    "comparison, on the seeds that at least half of the rows have, of each row with the best of the rows that have "
    "them all. Bold: significantly better than every other row of its column (paired tests, p < .05, adjusted); not "
    "of MCE, which a bin of a few images decides, and of ECE only where the debiased one is the lowest, too. ≈: tie "
    "with the best in the column that ranks, not significantly worse. Neither where rows share fewer than three seeds. "
    "†: the row lacks some of these seeds and is neither first nor bold. Plain text has a star for bold. In simulated "
    "tables of equally good rows, some row is called worse than the best in 5 % of tables where all rows spread alike"
    " over seeds, and in 0 to 7 % where they do not."
)
DIFFERENCES_NOTE = (
    "Differences: the 95 % interval of an accuracy is about another seed and other test images, with one seed about "
    "images only; in simulation it covers the truth in 94 to 97 % of cases with three seeds or more, with two in 89 "
    "to 97 %, and in fewer where seeds spread widely on a nearly solved test set. The interval of the debiased ECE "
    "covers the true ECE in at least 87 % of simulated cases. Behind: points behind the best row, mean over the seeds"
    " that both have, their number in brackets where it is not n. p: paired test over these, adjusted for the number "
    "of rows and for the choice of the best row by the same runs. Rank: mean over the table's seeds; a row that lacks"
    " one has no rank. Wins: comparisons with another row on the same seed that the row wins, equality being half a "
    "win. All is about these data and settings: other data may rank methods otherwise."
)


class Bold(str):
    """The text of a cell that stands out."""

    __slots__ = ()


@dataclass(frozen=True)
class Table:
    """Rows of text under a header; the first column is a label, the others are figures."""

    title: str
    header: list[str]
    rows: list[list[str]]
    caption: str = ""
    level: int = 1
    """1 for a leaderboard, 2 for what belongs to it."""
    expendable: Sequence[str] = field(default=())
    """Columns that a narrow terminal leaves out, in this order."""


def leaderboard_table(leaderboard: Leaderboard) -> Table:
    """Mean and standard deviation of every row, and what it costs."""
    metrics = [metric for metric in COLUMNS if metric != "macro" or leaderboard.metric == "macro"]
    rows = [
        [
            str(row["label"]),
            str(row["n"]),
            *(cell for metric in metrics for cell in _cells(leaderboard, row, metric)),
            _number(row["parameters"] / 1e6, 2),
            _number(row["multiply_adds"] / 1e6, 1),
            _duration(row["training_seconds"]),
        ]
        for _, row in leaderboard.rows.iterrows()
    ]
    named = [name for metric in metrics for name in (COLUMNS[metric], *_BESIDE.get(metric, {}).values())]
    header = ["Method", "n", *named, "Params (M)", "MAdds (M)", "Train"]
    expendable = ["MAdds (M)", "Params (M)", "MCE", "Train", "Debiased", "Med", "Many", "Floor", "Few", "n"]
    return Table(leaderboard.title, header, rows, about_seeds(leaderboard), expendable=expendable)


NO_COMPARISON = "too few of the rows share seeds for a comparison"


def about_seeds(leaderboard: Leaderboard) -> str:
    """Sentences on rows that lack seeds of the table and on why none is first; empty where there is nothing to say."""
    if leaderboard.reference is None:
        return f"No row is first: {NO_COMPARISON}."
    lacking = leaderboard.rows[leaderboard.rows["lacks_seeds"] != ""]
    table = set(map(str, leaderboard.seeds))
    if lacking.empty and all(set(row.split(",")) == table for row in leaderboard.rows["seeds"]):
        return ""
    compares = (
        f"The table compares on seed{'s' * (leaderboard.blocks > 1)} {_listed(','.join(map(str, leaderboard.seeds)))}"
    )
    if lacking.empty:
        return f"{compares}; means are over all seeds of a row."
    listed = "; ".join(f"{row['label']}: {_listed(row['lacks_seeds'])}" for row in lacking.to_dict("records"))
    sentences = [
        f"{compares}; means are over all seeds of a row.",
        f"Rows with {LACKS_SEEDS} lack some ({listed}), are compared on those that they have, and cannot be first.",
    ]
    if not leaderboard.leads:
        sentences.append(f"No row is first: {ahead_of_reference(leaderboard)}.")
    return " ".join(sentences)


def ahead_of_reference(leaderboard: Leaderboard) -> str:
    """A clause for a table without a first row: which rows that lack seeds are ahead of the best row with all seeds."""
    ahead = [str(row["label"]) for row in leaderboard.rows.to_dict("records") if row["behind"] < 0]
    (reference,) = leaderboard.rows["label"][leaderboard.rows["setting"] == leaderboard.reference]
    verb = "is" if len(ahead) == 1 else "are"
    return f"{', '.join(ahead)} {verb} ahead of {reference}, the best row that lacks none, on the seeds that both have"


def _listed(numbers: str) -> str:
    """Comma-separated numbers for a sentence; of many, the first and the last."""
    each = numbers.split(",")
    return ", ".join(each) if len(each) <= 10 else f"{', '.join(each[:3])} ... {each[-1]} ({len(each)} in all)"


def _cells(leaderboard: Leaderboard, row: pd.Series, metric: str) -> list[str]:
    """The figure, and what it is read against."""
    return [_cell(leaderboard, row, metric), *(_number(row[name], 1) for name in _BESIDE.get(metric, {}))]


def _cell(leaderboard: Leaderboard, row: pd.Series, metric: str) -> str:
    text = spread(row[metric], row[f"{metric}_sd"])
    if metric == leaderboard.metric and not math.isnan(row["p"]) and not row["significantly_worse"]:
        return f"≈ {text}"
    return Bold(text) if leaderboard.bold.get(metric) == row["setting"] else text


def differences_table(leaderboard: Leaderboard) -> Table:
    """Intervals, paired differences, p values and ranks of the rows."""
    name = COLUMNS[leaderboard.metric]
    rows = [
        [
            str(row["label"]),
            str(row["n"]),
            _interval(*(row[f"{leaderboard.metric}{end}"] for end in ("", "_low", "_high"))),
            _interval(row["ece_debiased"], row["ece_low"], row["ece_high"]),
            _behind(leaderboard, row),
            "" if row["setting"] == leaderboard.reference else probability(row["p"]),
            _number(row["rank"], 1),
            _number(100 * row["wins"], 0),
        ]
        for _, row in leaderboard.rows.iterrows()
    ]
    header = ["Method", "n", f"{name} [95 %]", "ECE debiased [95 %]", "Behind", "p (adj.)", "Rank", "Wins %"]
    expendable = ["n", "Rank", "Wins %", "ECE debiased [95 %]"]
    return Table(f"Differences: {leaderboard.title}", header, rows, _ranks(leaderboard), 2, expendable)


def _ranks(leaderboard: Leaderboard) -> str:
    among = f"Ranks: of {leaderboard.rows['rank'].notna().sum()} rows, seeds in common: {leaderboard.blocks}"
    if leaderboard.critical_difference is None:
        return f"{among}, too few for a test." if len(leaderboard.rows) > 1 else ""
    friedman = (
        ""
        if leaderboard.friedman is None
        else f"Friedman's test that all rank alike: p {_equal(leaderboard.friedman)}. "
    )
    return f"{among}. {friedman}Two differ if their ranks do by {leaderboard.critical_difference:.1f} (Nemenyi, 5 %)."


def _interval(value: float, low: float, high: float) -> str:
    shown = _number(value, 1)
    return f"{shown} [n/a]" if math.isnan(low) else f"{shown} [{low:.1f}, {high:.1f}]"


def _behind(leaderboard: Leaderboard, row: pd.Series) -> str:
    if row["setting"] == leaderboard.reference:
        return "best" if leaderboard.leads else _number(row["behind"], 1)
    seeds = "" if row["behind_n"] in (0, row["n"]) else f" ({row['behind_n']})"
    return _number(row["behind"], 1) + seeds


def spread(mean: float, deviation: float) -> str:
    """For example "63.0 ± 3.6"; one run has no deviation."""
    if pd.isna(mean):
        return "n/a"
    return f"{mean:.1f}" if pd.isna(deviation) else f"{mean:.1f} ± {deviation:.1f}"


def probability(p: float) -> str:
    """For example ".012"; n/a where there was no test."""
    if math.isnan(p):
        return "n/a"
    return "<.001" if p < 0.001 else f"{p:.3f}".removeprefix("0")


def _equal(p: float) -> str:
    return "< .001" if p < 0.001 else f"= {probability(p)}"


def _number(value: float, digits: int) -> str:
    return "n/a" if pd.isna(value) else f"{value:.{digits}f}"


def _duration(seconds: float) -> str:
    if math.isnan(seconds):
        return "n/a"
    return f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 60:.0f} min"
