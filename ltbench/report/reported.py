"""Reported numbers beside measured ones: the gap, the source, and what differs."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from statistics import fmean
from typing import Any

import pandas as pd

from ltbench.config import Recipe
from ltbench.config.format_settings import format_value
from ltbench.report.collection import Collection
from ltbench.report.leaderboard import Leaderboard
from ltbench.report.numbers import signed
from ltbench.report.published import reported_numbers
from ltbench.results.records import PaperRecord, ShiftTable
from ltbench.results.schema import Result

METRICS = {
    ("acc", "all"): "top1",
    ("acc@uniform", "all"): "top1",
    ("acc", "many"): "many",
    ("acc", "med"): "medium",
    ("acc", "few"): "few",
    ("ECE_percent", "all"): "ece",
    ("MCE_percent", "all"): "mce",
}
"""Metric and split of ``published.csv`` -> ours. Others are accuracies on shifted test sets, or not measured here."""
NAMES = {"top1": "Acc", "many": "Many", "medium": "Med", "few": "Few", "ece": "ECE", "mce": "MCE"}
HEADER = ("Published as", "Metric", "Epochs", "Reported", "Measured", "Gap", "Note")
CAPTION = (
    "Percent. Epochs: ours / theirs; a question mark: inferred, or not stated in epochs. Gap: measured less reported; "
    "– where lengths differ by more than a tenth, backbones differ, or their length is not known."
)
_NEAR = 0.1
"""Trainings whose lengths differ by more than this fraction of the longer one, or are not known, have no gap."""
_SPREAD = {"acc": "acc_std", "ECE_percent": "ECE_std", "MCE_percent": "MCE_std"}
_WITH_PRIOR = "+prior"
"""The end of a published method's name where predictions were corrected for the class prior of the test set."""
_SELECTION = "Cao et al."
"""The authors whose rule ltbench follows for the images of a long-tailed subset (``ltbench.data.long_tail.select``)."""


@dataclass(frozen=True)
class ReportedNumber:
    """A published figure beside the measured one, in percent."""

    leaderboard: str
    label: str
    published: str
    """Method as the source names it, and its backbone and epochs where they are not ours."""
    metric: str
    reported: float
    reported_sd: float | None
    measured: float
    epochs: str
    """Epochs of ours and of theirs, e.g. "10 / 200" or "200 / 200+10"; "200?" if inferred, "?" if not stated in
    epochs."""
    gap: float | None
    """Measured less reported, points; None where lengths differ by more than a tenth or are not known, or backbones
    differ."""
    n: int
    """Seeds that were measured."""
    source: str
    differs: str
    """What differs, in words separated by semicolons."""


def reported(leaderboards: list[Leaderboard], stored: Collection) -> pd.DataFrame:
    """Every published figure of the leaderboards' methods for the same data, beside what was measured.

    A row is put beside figures of its own hyper-parameters only (``Result.method.paper.claims``), linear probing beside
    none. Sources that disagree have a row each; figures of what no run has measured are left out.

    Args:
        leaderboards: whose rows are looked up.
        stored: the results that the leaderboards were made of.

    Returns:
        One row a figure; the columns are the fields of ``ReportedNumber``.
    """
    found = [asdict(figure) for leaderboard in leaderboards for figure in _of_leaderboard(leaderboard, stored)]
    return pd.DataFrame(found, columns=list(ReportedNumber.__dataclass_fields__))


def same_data(claim: str, run: Result) -> bool:
    """Whether a claim is about the data set of a run, at its imbalance ratio.

    Names are compared by letters and digits; a data set that is used as it is has one ratio only.
    """
    _, dataset, ratio, *_ = [*claim.split("|"), "", ""]  # a claim of a result may be anything
    own = run.config.imbalance_ratio
    if run.config.imbalance != "exp" or run.config.class_order != "label":  # what is published is neither
        return False
    return _bare(dataset) == _bare(run.config.dataset) and (own is None or ratio == f"{own:g}")


def _bare(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _of_leaderboard(leaderboard: Leaderboard, stored: Collection) -> Iterator[ReportedNumber]:
    for row in leaderboard.settings.to_dict("records"):
        runs = [stored.results[run_id] for run_id in row["run_ids"]]
        with_paper = next((run for run in runs if run.method.paper is not None), None)
        if with_paper is None or with_paper.method.paper is None or with_paper.recipe is None:
            continue
        if with_paper.config.train == "head":  # what is published is about networks that were trained as a whole
            continue
        shifts = cache(partial(_shifts, stored, tuple(row["run_ids"])))
        for claim in with_paper.method.paper.claims:
            if same_data(claim, with_paper):
                for _, experiment in reported_numbers(claim).groupby("source", sort=False):
                    differs = differences(claim, experiment, with_paper, with_paper.method.paper, with_paper.recipe)
                    yield from _beside(leaderboard.title, row, runs, with_paper.recipe, shifts, experiment, differs)


def _shifts(stored: Collection, run_ids: Sequence[str]) -> list[ShiftTable]:
    return [shift for run_id in run_ids if (shift := stored.shift(run_id)) is not None]


def _beside(
    leaderboard: str,
    row: dict[Any, Any],
    runs: list[Result],
    recipe: Recipe,
    shifts: Callable[[], list[ShiftTable]],
    experiment: pd.DataFrame,
    differs: list[str],
) -> Iterator[ReportedNumber]:
    """The figures of one source about one experiment."""
    ours, theirs = recipe.epochs, _stated_epochs(experiment["epochs"].iloc[0])
    alike = theirs is not None and abs(ours - theirs) <= _NEAR * max(ours, theirs)
    alike = alike and _same_backbone(experiment["backbone"].iloc[0], runs[0])
    spreads = {figure["metric"]: float(figure["value"]) for figure in experiment.to_dict("records")}
    for figure in experiment.to_dict("records"):
        name, measured = _measured(figure, row, shifts)
        if measured is None or pd.isna(measured):
            continue
        value = float(figure["value"])
        yield ReportedNumber(
            leaderboard=leaderboard,
            label=row["label"],
            published=_published(figure, runs[0], ours),
            metric=name,
            reported=value,
            reported_sd=spreads.get(_SPREAD.get(figure["metric"], "")) if figure["split"] == "all" else None,
            measured=measured,
            epochs=f"{ours} / {_length(experiment['epochs'].iloc[0])}",
            gap=measured - value if alike else None,
            n=row["n"],
            source=figure["source"],
            differs="; ".join([*differs, *filter(None, [figure["remark"]])]) or "nothing that is known",
        )


def _published(figure: dict[Any, Any], run: Result, ours: int) -> str:
    epochs = _stated_epochs(figure["epochs"])
    said = [
        figure["method"],
        "" if _same_backbone(figure["backbone"], run) else figure["backbone"],
        "" if epochs in (None, ours) else f"{epochs} epochs",
    ]
    return ", ".join(filter(None, said))


def _measured(
    figure: dict[Any, Any], row: dict[Any, Any], shifts: Callable[[], list[ShiftTable]]
) -> tuple[str, float | None]:
    """Our name of a published metric, and what the runs have for it."""
    ours = METRICS.get((figure["metric"], figure["split"]))
    if ours is not None:
        return NAMES[ours], row[ours]
    shifted = re.fullmatch(r"acc@(fwd|bwd)(\d+)", figure["metric"])
    if not shifted or figure["split"] != "all":
        return figure["metric"], None
    distribution = f"{'forward' if shifted[1] == 'fwd' else 'backward'}-{shifted[2]}"
    known = figure["method"].endswith(_WITH_PRIOR)
    wanted = (distribution, "known" if known else "unknown")
    values = [
        top1
        for shift in shifts()
        for name, prior, top1 in zip(shift.distribution, shift.prior, shift.top1, strict=True)
        if (name, prior) == wanted
    ]
    name = f"Acc, {distribution}{', prior known' if known else ''}"
    return name, fmean(values) if values and len(values) == row["n"] else None


def differences(claim: str, experiment: pd.DataFrame, run: Result, paper: PaperRecord, recipe: Recipe) -> list[str]:
    """What differs between a published experiment and a run; what is not known is called not stated.

    Args:
        claim: the key by which the run's method names the experiment.
        experiment: its rows of ``published.csv``.
        run: one of ours.
        paper: the paper of its method.
        recipe: the recipe by which it was trained.
    """
    config, published = run.config, experiment.iloc[0]
    words = []
    if not _same_epochs(published["epochs"], recipe.epochs):
        words.append(f"epochs {recipe.epochs} (reported: {published['epochs']})")
    if not _same_backbone(published["backbone"], run):
        words.append(f"backbone {config.backbone} (reported: {published['backbone']})")
    if config.starts_from_weights:
        words.append("starts from pre-trained weights (reported: not stated)")
    words += paper.differs.get(claim, [])
    words.append(_recipes(recipe, paper.recipe))
    if paper.checkpoint != "last epoch":
        words.append(f"ours is the last epoch (authors: {paper.checkpoint or 'not stated'})")
    if config.imbalance_ratio is not None:
        words.append(_images(paper.draw, config.data_seed))
    if config.validation:
        words.append("trained without the validation part, a fifth of each class")
    if config.cache_resized is not None:
        words.append(f"image files scaled to {config.cache_resized} first (reported: not stated)")
    if config.decode == "gpu":
        words.append("image files decoded on a GPU (reported: not stated)")
    if config.precision != "fp32":
        words.append(f"precision {config.precision} (reported: not stated)")
    return [word for word in words if word]


def _same_backbone(published: str, run: Result) -> bool:
    return _bare(published) == _bare(run.config.backbone or "").removeprefix("cifar")


def _same_epochs(stated: str, ours: int) -> bool:
    return "not stated" not in stated and _stated_epochs(stated) == ours


def _stated_epochs(stated: str) -> int | None:
    """The epochs of the first stage that a table states, such as "standard (200)" or "200+10".

    Also what it is inferred to be, as in "not stated (inferred 200)"; None for a length in steps, or of no number.
    """
    numbers = re.findall(r"\d+", stated)
    return int(numbers[0]) if numbers and "iters" not in stated else None


def _length(stated: str) -> str:
    """A length of training that a table states, in a few characters."""
    stages = re.fullmatch(r"\d+\+\d+", stated)
    known = stages[0] if stages else str(_stated_epochs(stated) or "")
    return known + "?" * (not known or "not stated" in stated)


def _recipes(ours: Recipe, authors: Recipe | None) -> str:
    """The settings in which a recipe departs from the authors' own, in words; empty if in none."""
    if authors is None:
        return "the authors' recipe is not on record"
    mine, theirs = _settings(ours), _settings(authors)
    skipped = {"name", "epochs"}
    if not ours.schedule == authors.schedule == "step":
        skipped |= {"milestones", "gamma"}
    if ours.contrast is None or authors.contrast is None:
        skipped.add("contrast")  # the further views of contrastive methods have a default
    differing = [name for name in mine if name not in skipped and mine[name] != theirs[name]]
    listed = ", ".join(
        f"{name.replace('_', ' ')} {format_value(mine[name])} ({format_value(theirs[name])})" for name in differing
    )
    return f"other settings than in the authors' own recipe of {authors.epochs} epochs: {listed}" if listed else ""


def _settings(recipe: Recipe) -> dict[str, Any]:
    settings = recipe.model_dump(mode="json", exclude={"augment"})
    augment = recipe.augment.model_dump(mode="json")
    return {**settings, **{f"augment {name}": value for name, value in augment.items()}}


def _images(draw: str | None, seed: int) -> str:
    """How their draw of a long-tailed subset relates to ours."""
    if draw is None:
        return "the authors' draw of images is not stated"
    if draw != _SELECTION:
        return f"other images (theirs drawn as by {draw}, ours by the rule of {_SELECTION})"
    if seed:
        return f"other images (data seed {seed})"
    return f"images by the rule of {_SELECTION}, the same ones only if read from the official archive"


def cells(found: pd.DataFrame) -> list[list[str]]:
    """The figures as text, below ``HEADER``; the last cell is the number of a note."""
    numbers = {key: str(number) for number, key in enumerate(_keys(found), 1)}
    return [
        [
            row["published"],
            row["metric"],
            row["epochs"],
            f"{row['reported']:.1f}" + ("" if pd.isna(row["reported_sd"]) else f" ± {row['reported_sd']:.1f}"),
            f"{row['measured']:.1f}",
            "–" if pd.isna(row["gap"]) else signed(row["gap"], 1),
            numbers[(row["source"], row["differs"])],
        ]
        for row in found.to_dict("records")
    ]


def notes(found: pd.DataFrame) -> list[str]:
    """Source and differences, numbered from 1 as in ``cells``."""
    return [f"{number}. {source}. Differs: {differs}." for number, (source, differs) in enumerate(_keys(found), 1)]


def _keys(found: pd.DataFrame) -> list[tuple[str, str]]:
    return list(dict.fromkeys(zip(found["source"], found["differs"], strict=True)))
