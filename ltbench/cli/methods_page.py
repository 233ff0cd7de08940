"""The page about all methods, made from their files: idea, hyper-parameters, measured cost, published accuracies."""

import inspect
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from tabulate import tabulate

from ltbench import registry
from ltbench.method import Choice, Method, Range
from ltbench.method.method_config import MethodConfig
from ltbench.method.paper import by_imbalance_ratio, paper_of, year
from ltbench.registry.declared import recipe_of
from ltbench.report.frame import load_results
from ltbench.report.published import headlines

FAMILIES = {
    "baseline": "Baselines",
    "loss": "Losses for one network",
    "mixing": "Mixing",
    "two stages": "Two stages",
    "experts": "Experts",
    "contrastive": "Contrastive",
    "fine-tuning": "Fine-tuning of foundation models",
    "other": "Others",
}
_WIDTH = 100
_HEADER = ("Method", "Year", "Cost")
_INTRODUCTION = """\
# The methods

This page is made by
`ltbench list methods --format md --results results/costs > docs/methods.md`; do not edit it.

Every method can be trained with mixup, CutMix, Remix and CMO (`--set mixup=0.4`, `cutmix=1`, `remix=3`, `cmo=0.5`). A
batch is mixed in one way: by CMO with its chance, else by mixup or CutMix, each in half of the batches where both are
on.

Every method can be trained with sharpness-aware minimization, too (`--set sam=0.05`, `sam_variant=imbsam`, `focal-sam`
or `cc-sam`): [SAM](recipes.md#sharpness-aware-minimization).

Cost: training time over that of cross entropy, the shortest run of each, with the runs that it starts from{where};
larger networks have other ratios. The cell is empty where the two were not measured on one machine.

Hyper-parameters: default, and in brackets what `ltbench tune` searches.

Published: accuracies about the method, in percent, from the lowest to the highest that a source gives for any length of
training, by its authors or by a paper that compares with it, with a recipe that need not be that of a leaderboard here.
They are rows of [published.csv](../ltbench/report/published.csv), where each has its source, and where there are more.
`ltbench report` sets them beside what was measured.
"""


def render(folders: Sequence[Path]) -> str:
    """The page as markdown.

    Args:
        folders: of results, for the costs; none for a page without them.
    """
    costs = relative_costs(load_results(*folders)) if folders else pd.DataFrame()
    methods = registry.loadable(registry.method_names(), registry.method)
    where = f", on {', then '.join(map(str, costs.columns))}" if len(costs) else ""
    parts = [*(_wrapped(part) + "\n" for part in _INTRODUCTION.format(where=where).strip().split("\n\n"))]
    for family, title in FAMILIES.items():
        members = {name: cls for name, cls in methods.items() if _family(cls) == family}
        if members:
            rows = [_row(name, cls, costs) for name, cls in members.items()]
            aligned = ("left", "right", "right")
            table = tabulate(rows, _HEADER, tablefmt="pipe", disable_numparse=True, colalign=aligned)
            parts += [f"## {title}\n\n{table}\n", *(_notes(name, cls) for name, cls in members.items())]
    return "\n".join(parts)


def relative_costs(runs: pd.DataFrame) -> pd.DataFrame:
    """Training time over cross entropy's: methods down, data sets across; shortest runs of equal length.

    Times are compared on equal hardware alone; a method without a run where cross entropy has one is left out. Cross
    entropy is that with the recipe's classifier, without mixup and without SAM, whose steps take twice as long.
    """
    done = runs[(runs["status"] == "done") & runs["training_seconds"].notna() & (runs["recipe.name"] == "standard")]
    for setting in {"hyperparameters.mixup", "hyperparameters.sam"} & set(done.columns):
        done = done[(done["method"] != "ce") | (done[setting].fillna(0) == 0)]
    heads = done["dataset"].map(lambda name: usual.head if (usual := recipe_of("standard", name)) else None)
    done = done[(done["method"] != "ce") | (done["recipe.head"] == heads)]
    alike = ["dataset", "recipe.epochs", "precision", "hardware"]
    shortest = done.groupby([*alike, "method"])["training_seconds"].min().unstack()
    if "ce" not in shortest:
        return pd.DataFrame()
    ratios = shortest.div(shortest["ce"], axis=0).dropna(how="all")
    return ratios.groupby("dataset").first().sort_index(ascending=False).T


def _family(cls: type[Method]) -> str:
    return cls.family if cls.family in FAMILIES else "other"


def _row(name: str, cls: type[Method], costs: pd.DataFrame) -> list[str]:
    measured = [f"{cost:.1f}" for cost in list(costs.loc[name].dropna())] if name in costs.index else []
    return [f"[{name}](#{name})", year(cls.family, paper_of(cls)), ", ".join(measured)]


def _claimed(cls: type[Method]) -> list[str]:
    """Published accuracies with the default hyper-parameters, or, where there are none, with any."""
    claims = paper_of(cls).claims
    usual = [claim.key for claim in claims if not claim.settings and not claim.unstated]
    return headlines(usual) or headlines(claim.key for claim in claims)


def _settings(cls: type[Method]) -> str:
    """Name, default and search range of the hyper-parameters that are the method's own or searched."""
    settings, space = [], cls.Config.search_space()
    for name, field in cls.Config.model_fields.items():
        searched = space.get(name)
        usual = name in MethodConfig.model_fields and field.default == MethodConfig.model_fields[name].default
        if not usual or searched:
            settings.append(f"{name} {_shown(field.default)}{f' [{_range(searched)}]' if searched else ''}")
    settings += [f"{name} [{_range(one)}]" for name, one in space.items() if name not in cls.Config.model_fields]
    return ", ".join(settings)


def _shown(value: object) -> str:
    if isinstance(value, list | tuple):
        return f"({', '.join(map(_shown, value))})"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _range(searched: Range | Choice) -> str:
    if isinstance(searched, Choice):
        return ", ".join(map(_shown, searched.options))
    return f"{searched.low:g} to {searched.high:g}"


def _notes(name: str, cls: type[Method]) -> str:
    (idea, *rest), paper = _paragraphs(cls), paper_of(cls)
    claims = _claimed(cls)
    listed = [f"Hyper-parameters: {_settings(cls)}.", *([f"Published: {'; '.join(claims)}."] if claims else [])]
    settings = "\n".join(_wrapped(f"- {line}", "  ") for line in listed)
    source = [f"*{paper.title}*, {', '.join(paper.authors)}, {paper.venue} {paper.year}."] if paper.title else []
    text = [_wrapped(paragraph) for paragraph in [idea, *rest, *_elsewhere(cls), *source]]
    return "\n\n".join([f"### {name}", text[0], settings, *text[1:]]) + "\n"


def _wrapped(text: str, indent: str = "") -> str:
    """A paragraph of at most 100 columns, no line of which begins as an item of a list would."""
    kept = re.sub(r" (?=[-+*>#]+ |1[.)] )", "\N{NO-BREAK SPACE}", " ".join(text.split()))
    lines = textwrap.fill(kept, _WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return lines.replace("\N{NO-BREAK SPACE}", " ")


def _elsewhere(cls: type[Method]) -> list[str]:
    """The values that stand in for the defaults on some data sets, in a sentence; none if there are none."""
    tables = []
    for dataset, table in paper_of(cls).defaults.items():
        usual, by_ratio = by_imbalance_ratio(table)
        tables += [(dataset, usual)] if usual else []
        tables += [(f"{dataset} at imbalance ratio {ratio:g}", own) for ratio, own in by_ratio.items()]
    values = [
        f"{where}: {', '.join(f'{name} {_shown(value)}' for name, value in settings.items())}"
        for where, settings in tables
    ]
    return [f"Its authors' values, taken where none are given, on {'; on '.join(values)}."] if values else []


def _paragraphs(cls: type[Method]) -> list[str]:
    """The docstring's paragraphs, each on one line."""
    return [" ".join(part.split()) for part in (inspect.getdoc(cls) or "").split("\n\n")]
