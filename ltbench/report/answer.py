"""The answer of a table in one sentence, and what it lacks with the command that would mend it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from ltbench.registry.declared import display_name
from ltbench.report.collection import Collection
from ltbench.report.commands import predict_command, run_commands, seeds_text
from ltbench.report.compare import FEWEST
from ltbench.report.how_trained import FAR_TOO_SHORT
from ltbench.report.leaderboard import LACKS_SEEDS, Leaderboard, Row
from ltbench.report.row_labels import from_elsewhere, in_brackets
from ltbench.results.schema import Result

_NEAR_CHANCE = 0.1
"""An accuracy is called chance level up to this fraction of the way from guessing to none wrong."""
_OWN_IMAGES = "folder-lt"
_SEEDS = 5
"""Seeds that a command asks for where a table has too few."""


@dataclass(frozen=True)
class Remedy:
    """Something that a table lacks."""

    sentence: str
    commands: tuple[str, ...] = ()
    """What would mend it; none where nothing that ltbench runs would."""


def answer(leaderboard: Leaderboard) -> str:
    """Who leads, how many tie, and which of these is the cheapest, in one sentence."""
    rows = leaderboard.records
    what = _settings_or_methods(leaderboard)
    best = next((row for row in rows if row["setting"] == leaderboard.reference), None)
    if best is None:
        return "Nothing is decided: too few of the rows share seeds for a comparison."
    reached = f"{_name(best)} {{verb}} with {best[leaderboard.metric]:.1f} %{_metric(leaderboard)}"
    if leaderboard.compares_settings and leaderboard.leads and len(rows) > 1:
        reached += f", best of {len(rows)} settings on these test images"
    if len(rows) == 1:
        return f"Nothing to compare: {reached.format(verb='stands alone')}."
    tested = [row for row in rows if not math.isnan(row["p"])]
    beaten = [row for row in tested if row["significantly_worse"]]
    if not leaderboard.leads:
        ahead = [_name(row) for row in rows if row["behind"] < 0]
        names = ", ".join(ahead)
        verb = "is" if len(ahead) == 1 else "are"
        return (
            f"No row is first: {reached.format(verb='leads')} among those with all seeds; {names} {verb} ahead of it "
            "on the seeds that both have."
        )
    if not tested:
        why = "no two rows have been tested against each other"
        return f"Nothing is decided: {reached.format(verb='is ahead')}, but {why}."
    if len(beaten) == len(rows) - 1:
        others = f"all {len(beaten)} others" if len(rows) > 2 else "the other"
        return f"{reached.format(verb='wins')}, significantly better than {others} (5 % level)."
    ties = [row for row in rows if row["tie"]]
    level = [row for row in tested if not row["significantly_worse"] and not row["tie"]]
    lacking = [_name(row) for row in level if row["lacks_seeds"]]
    scattered = len(level) - len(lacking)
    head = "Not all is tested" if len(tested) == len(beaten) else "No clear winner"
    tie = f", {len(ties)} of {len(rows)} {what} tie at 5 %" if len(ties) > 1 else ""
    if scattered:
        more = f"{scattered} more" if len(ties) > 1 else f"{scattered} of {len(rows)} {what}"
        verb = "are" if scattered > 1 else "is"
        tie += f"{' and' if tie else ','} {more}, whose seeds vary widely, {verb} not significantly worse"
    if lacking:
        lack = "lack seeds and are" if len(lacking) > 1 else "lacks seeds and is"
        tie += f"{' and' if tie else ','} {', '.join(lacking)} {lack} not significantly worse"
    return f"{head}: {reached.format(verb='leads')}{tie}{_cheapest(best, ties)}."


def _cheapest(best: Row, ties: list[Row]) -> str:
    """A clause on the tie that took the shortest training; empty where that is not known or there is no choice.

    Times are compared on equal hardware alone.
    """
    known = [row for row in ties if row["training_seconds"] > 0 and row["hardware"] == best["hardware"]]
    if len(ties) < 2 or best not in known or len(known) < 2:
        return ""
    row = min(known, key=lambda one: float(one["training_seconds"]))
    of = "of them" if len(known) == len(ties) else f"of the {len(known)} on equal hardware"
    if row is best:
        return f"; it is the cheapest {of}"
    ratio = row["training_seconds"] / best["training_seconds"]
    return f"; cheapest {of} {_name(row)}, {ratio:.2g} x the time"


def _settings_or_methods(leaderboard: Leaderboard) -> str:
    if not leaderboard.compares_settings:
        return "methods"
    return f"settings of {display_name(str(leaderboard.rows['method'].iloc[0]))}"


def _metric(leaderboard: Leaderboard) -> str:
    return "" if leaderboard.metric == "top1" else " macro accuracy"


def _name(row: Row) -> str:
    """The label without the sign for missing seeds, its settings in brackets."""
    return in_brackets(str(row["label"]).removesuffix(f" {LACKS_SEEDS}"))


def remedies(leaderboard: Leaderboard, stored: Collection | None = None) -> list[Remedy]:
    """What a table lacks: accuracy above chance, epochs, seeds.

    Args:
        leaderboard: the table.
        stored: the results that it was made of, for commands.
    """
    rows = leaderboard.records
    longer = _epochs(leaderboard, rows, stored)
    covered = longer is not None and bool(longer.commands)  # what trains more epochs trains the seeds, too
    found = [_chance(leaderboard, rows, stored), longer, _seeds(leaderboard, rows, stored, covered=covered)]
    return [one for one in found if one is not None]


def _chance(leaderboard: Leaderboard, rows: list[Row], stored: Collection | None) -> Remedy | None:
    """Rows whose accuracy guessing would reach, too: no more than two standard deviations above it."""
    test = stored.results[rows[0]["run_ids"][0]].test if stored is not None else None
    if test is None:
        return None
    images = [count for count in test.total if count]
    chance = 1 / len(test.total)
    # Of the mean over classes; where these have as many images, of all images, too.
    deviation = math.sqrt(sum(chance * (1 - chance) / count for count in images)) / len(images)
    limit = 100 * (chance + 2 * deviation)
    at_chance = [row for row in rows if row[leaderboard.metric] <= limit]
    if not at_chance:
        return None
    who = "All rows are" if len(at_chance) == len(rows) else ", ".join(_name(row) for row in at_chance[:4])
    more = f" and {len(at_chance) - 4} more" if len(at_chance) > 4 and len(at_chance) < len(rows) else ""
    verb = "" if len(at_chance) == len(rows) else " is" if len(at_chance) == 1 else " are"
    if len(rows) == 1:
        who, verb = _name(rows[0]), " is"
    level = f"{100 * chance:.2g} % with {len(test.total)} classes"
    if all(row[leaderboard.metric] <= 100 * (chance + _NEAR_CHANCE * (1 - chance)) for row in at_chance):
        return Remedy(f"{who}{more}{verb} at chance level, {level}.")
    few = f"{sum(images)} test images are too few to tell"
    return Remedy(f"{who}{more}{verb} perhaps no better than guessing ({level}): {few}.")


def _epochs(leaderboard: Leaderboard, rows: list[Row], stored: Collection | None) -> Remedy | None:
    fraction = leaderboard.trained.fraction
    if fraction is None or fraction > FAR_TOO_SHORT or stored is None:
        return None
    own = [row for row in rows if not from_elsewhere(row, stored)]
    longest = leaderboard.trained.recipe_epochs
    seeds = sorted({int(seed) for row in own for seed in row["seeds"].split(",")})
    wanted = seeds if len(seeds) >= FEWEST else list(range(_SEEDS))
    commands = run_commands([row["run_ids"][0] for row in own], stored, seeds=seeds_text(wanted), epochs=longest)
    decided = any(row["significantly_worse"] for row in rows)
    what = "for the accuracy that methods reach" if decided else "to tell methods apart"
    few = f"Far too few epochs {what}"
    return Remedy(f"{few}; the recipe's are trained by:" if commands else f"{few}.", tuple(commands))


def _seeds(leaderboard: Leaderboard, rows: list[Row], stored: Collection | None, *, covered: bool) -> Remedy | None:
    """Rows with fewer seeds than a test needs, or without those of the table.

    Args:
        leaderboard: the table.
        rows: of it.
        stored: the results that it was made of.
        covered: whether another remedy's commands train them.
    """
    short = [row for row in rows if row["n"] < FEWEST]
    lacking = [row for row in rows if row not in short and _shares_too_few(row, leaderboard)]
    if not short and not lacking:
        return None
    # No seeds are the table's where its rows have none in common: one row's are then for the others to have.
    fullest = max(rows, key=lambda row: row["n"])
    compared = leaderboard.seeds or [int(seed) for seed in fullest["seeds"].split(",")]
    needed = sorted({*leaderboard.seeds, *range(_SEEDS)} if short else compared)
    commands: list[str] = []
    failed: dict[str, list[int]] = {}
    if stored is not None:
        failed = {row["setting"]: _failed_seeds(row, stored) for row in lacking}
        # Nobody but their makers can train more of those that come from elsewhere.
        own = [] if covered else [row for row in [*short, *lacking] if not from_elsewhere(row, stored)]
        commands = run_commands([row["run_ids"][0] for row in own], stored, seeds=seeds_text(needed))
    parts = []
    if short:
        whose = "All rows have" if len(short) == len(rows) else f"{len(short)} of {len(rows)} rows have"
        whose = f"{_name(rows[0])} has" if len(rows) == 1 else whose
        parts.append(f"{whose} fewer than {FEWEST} seeds, too few for a test of every row")
    for untested in (True, False):
        some = [row for row in lacking if _is_untested(row, leaderboard) == untested]
        listed = ", ".join(_name(row) + _failure(failed.get(row["setting"], [])) for row in some)
        verb, have = ("lack", "they have") if len(some) > 1 else ("lacks", "it has")
        why = "too few for a test of every row" if untested else f"so that {have} no rank"
        parts += [f"{listed} {verb} seeds, {why}"] if some else []
    text = "; ".join(parts)
    return Remedy(f"{text}; more are trained by:" if commands else f"{text}.", tuple(commands))


def _failed_seeds(row: Row, stored: Collection) -> list[int]:
    """The seeds of a setting whose training has failed, e.g. since its loss was not finite."""
    one = stored.results[row["run_ids"][0]]
    alike = [other for other in stored.results.values() if other.status == "failed" and _same_setting(one, other)]
    return sorted(other.config.seed for other in alike)


def _same_setting(one: Result, other: Result) -> bool:
    if (one.config.method, one.method.revision) != (other.config.method, other.method.revision):
        return False
    return one.config.without_seed() == other.config.without_seed()


def _failure(seeds: Sequence[int]) -> str:
    """For example " (seed 3 failed)"."""
    return f" (seed{'s' * (len(seeds) > 1)} {seeds_text(seeds)} failed)" if seeds else ""


def _shares_too_few(row: Row, leaderboard: Leaderboard) -> bool:
    return bool(row["lacks_seeds"]) or _is_untested(row, leaderboard)


def _is_untested(row: Row, leaderboard: Leaderboard) -> bool:
    return bool(row["setting"] != leaderboard.reference and row["behind_n"] < FEWEST)


def labelling_command(leaderboard: Leaderboard, stored: Collection) -> str:
    """The command by which the first row labels new images, where the data are a user's own; empty elsewhere.

    It takes the run of the lowest seed: the test images do not choose it.
    """
    best = next((row for row in leaderboard.records if row["setting"] == leaderboard.reference), None)
    if best is None or not leaderboard.leads or leaderboard.key["dataset"] != _OWN_IMAGES:
        return ""
    if from_elsewhere(best, stored):
        return ""
    run_id = min(best["run_ids"], key=lambda one: stored.results[one].config.seed)
    return predict_command(stored.results[run_id], stored.paths[run_id])


def best_of_many(leaderboard: Leaderboard) -> str:
    """A sentence on settings that would lead and stand apart, since the test images have chosen them; empty if none."""
    found: pd.DataFrame = leaderboard.best_of_many
    listed = "; ".join(
        f"{row['label']} has {row['comparable']:.1f} %, best of {row['tried']} settings on these test images"
        for row in found.head(3).to_dict("records")
    )
    return f"Apart, since the test images chose it: {listed}." if listed else ""


def default_ahead(leaderboard: Leaderboard) -> str:
    """A sentence on default settings that are ahead of the best row, for whose methods a tuned one stands."""
    listed = "; ".join(
        f"{row['label']} has {row['comparable']:.1f} %" for row in leaderboard.defaults_ahead.to_dict("records")
    )
    return f"Apart, since tuned settings stand for their methods, at the defaults: {listed}." if listed else ""


def tuned_apart(leaderboard: Leaderboard) -> str:
    """Sentences on tuned settings that stand for no method; empty if there is none.

    They lack seeds of the table, or another search of the method stands for it.
    """
    others = leaderboard.others
    rows = others[others["tuned"]].to_dict("records") if len(others) else []
    lacking: list[str] = []
    further: list[str] = []
    for row in rows:
        has_all = set(leaderboard.seeds) <= set(map(int, row["seeds"].split(",")))
        seeds = "" if has_all else f" on seeds {row['seeds'].replace(',', ', ')}"
        (further if has_all else lacking).append(f"{row['label']} has {row[leaderboard.metric]:.1f} %{seeds}")
    sentences = [
        f"Apart, since another search stands for the method: {'; '.join(further)}." if further else "",
        f"Apart, on other seeds than the table's: {'; '.join(lacking)}." if lacking else "",
    ]
    return " ".join(filter(None, sentences))
