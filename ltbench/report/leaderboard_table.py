"""The tables of a leaderboard as rows of text, before they are rendered as Markdown, LaTeX or for a terminal."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ltbench.errors import unknown
from ltbench.registry.declared import method_named
from ltbench.report.leaderboard import LACKS_SEEDS, Leaderboard, Row
from ltbench.report.numbers import duration, number, probability, spread
from ltbench.report.table import Bold, Table
from ltbench.results.records import LOWER_IS_BETTER

COLUMNS = {
    "top1": "Acc",
    "macro": "Macro",
    "worst_class": "Worst",
    "many": "Many",
    "medium": "Med",
    "few": "Few",
    "ece": "ECE",
    "mce": "MCE",
    "nll": "NLL",
    "brier": "Brier",
    "adaptive_ece": "ECE adaptive",
    "classwise_ece": "ECE class-wise",
}
"""Metrics with a mean and a standard deviation, and their headings."""
_UNITLESS = ("nll", "brier")
_LOWEST_FIRST = ("rank", *LOWER_IS_BETTER, "ece_floor", "ece_debiased", "parameters", "multiply_adds")
_LOWEST_FIRST += ("training_seconds", "peak_memory_bytes", "behind", "p", "method")


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    heading: str
    cell: Callable[[Leaderboard, Row], str]
    key: str
    """The column of ``Leaderboard.rows`` that it sorts by."""


def _metric(name: str) -> Column:
    digits = 3 if name in _UNITLESS else 1
    return Column(COLUMNS[name], lambda leaderboard, row: _cell(leaderboard, row, name, digits), name)


def _of(heading: str, key: str, text: Callable[[Any], str]) -> Column:
    return Column(heading, lambda _, row: text(row[key]), key)


_ALL = {
    "rank": Column("Rank", lambda leaderboard, row: place_text(leaderboard, row), "place"),
    "n": _of("n", "n", str),
    **{name: _metric(name) for name in COLUMNS},
    "floor": _of("Floor", "ece_floor", lambda value: number(value, 1)),
    "debiased": _of("Debiased", "ece_debiased", lambda value: number(value, 1)),
    "params": _of("Params (M)", "parameters", lambda value: number(value / 1e6, 2)),
    "madds": _of("MAdds (M)", "multiply_adds", lambda value: number(value / 1e6, 1)),
    "train": _of("Train", "training_seconds", duration),
    "speed": _of("Images/s", "training_images_per_second", lambda value: number(value, 0)),
    "memory": _of("Memory (MB)", "peak_memory_bytes", lambda value: number(value / 1e6, 0)),
    "behind": Column("Behind", lambda leaderboard, row: _behind(leaderboard, row), "behind"),
    "p": Column("p (adj.)", lambda leaderboard, row: _p(leaderboard, row), "p"),
    "wins": _of("Wins %", "wins", lambda value: number(100 * value, 0)),
}
_OTHER_NAMES = {"acc": "top1", "worst": "worst_class", "med": "medium"}
_NEED_A_COMPARISON = ("rank", "behind", "p", "wins")


@dataclass(frozen=True)
class TableOptions:
    """What a reader wants to see of a table."""

    columns: tuple[str, ...] = ()
    """Names of columns; none for the usual ones."""
    sort: str = ""
    """The column to sort by; none for the table's own order."""
    opened: tuple[str, ...] = ()
    """Methods whose other settings are shown below their row; "all" for all."""

    @classmethod
    def parsed(cls, columns: str | None = None, sort: str | None = None, opened: str | None = None) -> "TableOptions":
        """From the comma-separated lists of a command line.

        Raises:
            LtbenchError: for a column that there is not.
        """
        names = tuple(_column_name(name, "--columns") for name in (columns or "").split(",") if name)
        return cls(
            names,
            "method" if sort == "method" else _column_name(sort, "--sort") if sort else "",
            tuple(method_named(name) for name in (opened or "").split(",") if name),
        )

    def refuse_unknown_methods(self, stored: Set[str]) -> None:
        """Refuse names whose settings shall be shown and of which there is no run.

        Raises:
            LtbenchError: which one.
        """
        for name in self.opened:
            if name not in {*stored, "all"}:
                raise unknown("method", name, [*stored, "all"], where="--settings: the stored runs")


def _column_name(text: str, where: str) -> str:
    """A column by its name or heading, in any case."""
    name = text.strip().casefold()
    headings = {column.heading.casefold(): key for key, column in _ALL.items()}
    name = _OTHER_NAMES.get(name, headings.get(name, name))
    if name not in _ALL:
        known = [*(key for key in _ALL if key not in _OTHER_NAMES.values()), *_OTHER_NAMES]
        raise unknown("column", text.strip(), known, where=where)
    return name


NOTE = (
    "A row a method, at its default settings, or tuned where its label says so; +n settings: others are stored, "
    "which --settings shows; =: the method equals another by construction, and both count once. Rank: 1 for all "
    "that tie with the best, then by order; the ties stand above the rule. Below it, a row whose seeds vary widely "
    "may not be significantly worse either. Percent, mean ± standard deviation over n seeds; accuracy on the test "
    "set after the last epoch: all, many- (> 100 training images), medium- and few-shot (< 20) classes, the groups "
    "averaged over classes; where the test set is not balanced, Macro: over all classes, and Worst: the class with "
    "the lowest. ECE and MCE: 15 bins; lower is better. Floor: the ECE that a perfectly calibrated model with the "
    "same confidences measures on as many images (mean of consistency resampling). Debiased: the ECE without what "
    "noise adds to it. MAdds: of one image. Train: the shortest of the seeds, on the machine at hand, with the runs "
    "that a method starts from. Order, bold and ≈ come from the same comparison, on the seeds that at least half of "
    "the rows have, of each row with the best of the rows that have them all. Bold: significantly better than every "
    "other row of its column (paired tests, p < .05, adjusted); not of MCE, which a bin of a few images decides, "
    "and of ECE only where the debiased one is the lowest, too. ≈: tie with the best in the column that ranks, not "
    "significantly worse. Neither where rows share fewer than three seeds. †: the row lacks some of these seeds and "
    "is neither first nor bold. Plain text has a star for bold. In simulated tables of equally good rows, some row "
    "is called worse than the best in 5 % of tables where all rows spread alike over seeds, and in 0 to 7 % where "
    "they do not."
)
DIFFERENCES_NOTE = (
    "Differences: the 95 % interval of an accuracy is about another seed and other test images, with one seed about "
    "images only; in simulation it covers the truth in 94 to 97 % of cases with three seeds or more, with two in 89 "
    "to 97 %, and in fewer where seeds spread widely on a nearly solved test set. The interval of the debiased ECE "
    "covers the true ECE in at least 89 % of simulated cases. Behind: points behind the best row, mean over the seeds"
    " that both have, their number in brackets where it is not n. p: paired test over these, adjusted for the number "
    "of rows and for the choice of the best row by the same runs. Mean rank: over the table's seeds; a row that lacks"
    " one has none. Wins: comparisons with another row on the same seed that the row wins, equality being half a "
    "win. All is about these data and settings: other data may rank methods otherwise."
)


def leaderboard_table(
    leaderboard: Leaderboard,
    view: TableOptions | None = None,
    above: Sequence[str] = (),
    keys: Mapping[str, str] | None = None,
) -> Table:
    """Mean and standard deviation of every row, and what it costs.

    Args:
        leaderboard: the table.
        view: columns, order, and which methods show all of their settings.
        above: paragraphs between title and rows.
        keys: the BibTeX keys of papers by method.
    """
    view = view or TableOptions()
    names = list(view.columns) or _usual_columns(leaderboard)
    ordered = _sorted(leaderboard, view.sort)
    rows: list[list[str]] = []
    cited: list[str] = []
    further: list[str] = []
    band, subordinate = set(), set()
    last_tie = 0
    for row in ordered:
        if row["tie"]:
            band.add(len(rows))
        further.append(f"+{row['further']} setting{'s' * (row['further'] != 1)}" if row["further"] else "")
        rows.append([_label(row), *(_ALL[name].cell(leaderboard, row) for name in names)])
        cited.append((keys or {}).get(row["method"], ""))
        for other in _opened(leaderboard, row, view):
            subordinate.add(len(rows))
            cells = ("" if name in _NEED_A_COMPARISON else _ALL[name].cell(leaderboard, other) for name in names)
            rows.append([str(other["label"]), *cells])
            cited.append("")
            further.append("")
        last_tie = len(rows) if row["tie"] else last_tie
    ties = sum(row["tie"] for row in ordered)
    has_rule = 1 < ties < len(ordered) and not view.sort
    return Table(
        leaderboard.title,
        ["Method", *(_ALL[name].heading for name in names)],
        rows,
        " ".join(filter(None, (about_seeds(leaderboard), about_scatter(leaderboard), about_hardware(leaderboard)))),
        expendable=() if view.columns else _EXPENDABLE,
        legend=_LEGEND,
        above=above,
        band=frozenset(band) if ties > 1 else frozenset(),
        rule=last_tie if has_rule else None,
        keys=cited if keys else (),
        subordinate=frozenset(subordinate),
        further=further if any(further) else (),
    )


_LEGEND = (
    "Percent, mean ± standard deviation over n seeds; bold: significantly better than every other row of its column."
)
_EXPENDABLE = ("MAdds (M)", "Params (M)", "MCE", "Debiased", "Floor", "Med", "Many", "Train", "n", "Few")


def _usual_columns(leaderboard: Leaderboard) -> list[str]:
    first = ["top1"] if leaderboard.metric == "top1" else ["macro", "worst_class", "top1"]
    known = [name for name in ("many", "medium", "few") if leaderboard.rows[name].notna().any()]
    return ["rank", "n", *first, *known, "ece", "floor", "debiased", "mce", "params", "madds", "train"]


def _sorted(leaderboard: Leaderboard, name: str) -> list[Row]:
    """The rows, by a column or in the leaderboard's own order."""
    rows = leaderboard.rows
    if not name:
        return leaderboard.records
    if name == "method":
        ordered = rows.sort_values("label", kind="stable", key=lambda labels: labels.str.casefold())
    else:
        key = _ALL[name].key
        ordered = rows.sort_values(key, ascending=name in _LOWEST_FIRST or key in _LOWEST_FIRST, kind="stable")
    return ordered.to_dict("records")


def _opened(leaderboard: Leaderboard, row: Row, view: TableOptions) -> list[Row]:
    """The other settings of a row that are shown below it."""
    opened = row["method"] in view.opened or "all" in view.opened
    return leaderboard.other_records.get(row["setting"], []) if opened else []


def rows_in_view(leaderboard: Leaderboard, view: TableOptions) -> Iterator[Row]:
    """The rows, and below each those of its other settings that are shown, which have ``of``."""
    for row in _sorted(leaderboard, view.sort):
        yield row
        yield from _opened(leaderboard, row, view)


def _label(row: Row) -> str:
    """The label, and the methods that equal the row's."""
    return f"{row['label']} = {row['same_as']}" if row["same_as"] else str(row["label"])


def place_text(leaderboard: Leaderboard, row: Mapping[Any, Any]) -> str:
    """For example "1=" for a rank that several rows have, and "–" for a row without one."""
    if pd.isna(row["place"]):
        return "–"
    shared = int((leaderboard.rows["place"] == row["place"]).sum()) > 1
    return f"{row['place']:.0f}{'=' * shared}"


def _p(leaderboard: Leaderboard, row: Row) -> str:
    return "" if row["setting"] == leaderboard.reference else probability(row["p"])


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
    ahead = [str(row["label"]) for row in leaderboard.records if row["behind"] < 0]
    (reference,) = leaderboard.rows["label"][leaderboard.rows["setting"] == leaderboard.reference]
    verb = "is" if len(ahead) == 1 else "are"
    return f"{', '.join(ahead)} {verb} ahead of {reference}, the best row that lacks none, on the seeds that both have"


def about_scatter(leaderboard: Leaderboard) -> str:
    """A sentence on rows below the tie that are not significantly worse than the best; empty where there are none."""
    rows = leaderboard.rows
    level = rows[~rows["tie"] & rows["p"].notna() & ~rows["significantly_worse"] & (rows["lacks_seeds"] == "")]
    if level.empty or not rows["tie"].any():
        return ""
    which = f"{level.iloc[0]['label']} is" if len(level) == 1 else f"{len(level)} rows with p ≥ .05 are"
    pronoun = "its" if len(level) == 1 else "their"
    return f"Below the tie, {which} not significantly worse than the best either, since {pronoun} seeds scatter."


def about_hardware(leaderboard: Leaderboard) -> str:
    """A sentence on training times that cannot be compared; empty where all rows were trained on equal hardware."""
    kinds = leaderboard.rows.loc[leaderboard.rows["training_seconds"] > 0, "hardware"].nunique()
    where = f"Rows were trained on {kinds} kinds of hardware or numbers of processes"
    return f"{where}: their training times are not comparable." if kinds > 1 else ""


def _listed(numbers: str) -> str:
    """Comma-separated numbers for a sentence; of many, the first and the last."""
    each = numbers.split(",")
    return ", ".join(each) if len(each) <= 10 else f"{', '.join(each[:3])} ... {each[-1]} ({len(each)} in all)"


def _cell(leaderboard: Leaderboard, row: Row, metric: str, digits: int) -> str:
    text = spread(row[metric], row[f"{metric}_sd"], digits)
    compared = metric == leaderboard.metric and "p" in row and not math.isnan(row["p"])
    if compared and not row["significantly_worse"]:
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
            _p(leaderboard, row),
            number(row["rank"], 1),
            number(100 * row["wins"], 0),
        ]
        for row in leaderboard.records
    ]
    header = ["Method", "n", f"{name} [95 %]", "ECE debiased [95 %]", "Behind", "p (adj.)", "Mean rank", "Wins %"]
    expendable = ["n", "Mean rank", "Wins %", "ECE debiased [95 %]"]
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
    shown = number(value, 1)
    return f"{shown} [n/a]" if math.isnan(low) else f"{shown} [{low:.1f}, {high:.1f}]"


def _behind(leaderboard: Leaderboard, row: Row) -> str:
    if row["setting"] == leaderboard.reference:
        return "best" if leaderboard.leads else number(row["behind"], 1)
    seeds = "" if row["behind_n"] in (0, row["n"]) else f" ({row['behind_n']})"
    return number(row["behind"], 1) + seeds


def _equal(p: float) -> str:
    return "< .001" if p < 0.001 else f"= {probability(p)}"
