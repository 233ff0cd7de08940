"""How the rows of a table were trained, in words: its title, and a warning where that is not the recipe."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ltbench.config.format_settings import format_imbalance
from ltbench.registry.declared import data_set, recipe_of
from ltbench.results.schema import Result

FAR_TOO_SHORT = 0.1
"""A table whose rows are trained for this fraction of the recipe's epochs, or less, says little about the methods."""


@dataclass(frozen=True)
class HowTrained:
    """What a table says about its training."""

    title: str
    """For example "cifar100-lt · IR 100 · ResNet-32 · standard recipe, 10 of 200 epochs · bf16"."""
    warning: str
    """A sentence on what is not as the recipe and the data set have it; empty where nothing is."""
    fraction: float | None
    """Epochs over the recipe's, the least of the rows; None where the recipe is none of ltbench's."""
    recipe_epochs: int | None = None
    """The recipe's, the most of the rows."""
    data: str = ""
    """Name of the data set, or of the user's folder."""


def how_trained(key: Mapping[str, Any], results: Sequence[Result], others: Sequence[str] = ()) -> HowTrained:
    """How the rows of a table were trained.

    Args:
        key: the values that its rows share, of ``ltbench.report.frame.TABLE_KEYS``.
        results: its runs, at least one.
        others: names of further settings that all of them have otherwise than the recipe.
    """
    scored = results[0].recipe is None
    lengths = sorted({_lengths(result) for result in results}, key=lambda pair: (pair[0] or 0, pair[1] or 0))
    known = data_set(str(key["dataset"]))
    weights = results[0].config.weights
    other_size = known is not None and weights is None and key["image_size"] not in (None, known.image_size)
    other_backbone = known is not None and not key["comparison_group"] and key["backbone"] not in (None, known.backbone)
    data = _data(key, results[0], named_size=other_size or weights is not None)
    parts = [
        *data,
        "" if scored else backbone_name(key["backbone"]) + _pretrained(results[0]),
        _recipe(str(key["recipe.name"]), lengths),
        "" if scored else str(key["precision"]),
        str(key["comparison_group"] or ""),
        f"data seed {key['data_seed']}" if key["data_seed"] else "",
        "trained without the validation part" if key["validation"] else "",
        "adapted to the unlabelled test set" if key["transductive"] else "",
    ]
    differs = [_other_length(lengths)]
    if known is not None and not scored:
        differs += [f"images of {key['image_size']} pixels instead of {known.image_size}"] if other_size else []
        names = backbone_name(key["backbone"]), backbone_name(known.backbone)
        differs += [f"backbone {names[0]} instead of {names[1]}"] if other_backbone else []
    differs += [f"another {', '.join(name.replace('_', ' ') for name in others)}"] if others and not scored else []
    said = [one for one in differs if one]
    fractions = [ours / theirs for ours, theirs in lengths if ours and theirs]
    return HowTrained(
        title=" · ".join(filter(None, parts)),
        warning=f"Warning: not as the recipe has it: {'; '.join(said)}." if said else "",
        fraction=min(fractions, default=None),
        recipe_epochs=max((theirs for _, theirs in lengths if theirs), default=None),
        data=data[0],
    )


def backbone_name(name: Any) -> str:
    """A backbone as papers write it, e.g. "ResNet-32" of cifar_resnet32; names of others stay as they are."""
    found = re.fullmatch(r"(?:cifar_)?(resnet|resnext)(\d+)(?:_(\d+x\d+d))?", str(name))
    if found is None:
        return str(name)
    family = {"resnet": "ResNet", "resnext": "ResNeXt"}[found[1]]
    return "-".join(filter(None, (family, found[2], found[3])))


def _pretrained(result: Result) -> str:
    """A clause on the weights that a network starts from, by the beginning of their hash."""
    if result.config.weights is not None:
        return f", weights {result.config.weights.removeprefix('sha256:')[:8]}"
    return ", pretrained" if result.config.pretrained else ""


def _data(key: Mapping[str, Any], result: Result, *, named_size: bool) -> list[str]:
    """The data: its name and imbalance ratio; of a user's folder also what is in it."""
    data, size = result.data, f"{key['image_size']} pixels"
    ratio = format_imbalance(key["imbalance_ratio"], key["imbalance"], key["class_order"])
    if key["dataset"] != "folder-lt":
        return [str(key["dataset"]), ratio, size if named_size else ""]
    images = f"{sum(data.counts):,} training images"
    return [data.folder or "folder-lt", f"{len(data.classes)} classes", images, size, ratio]


def _lengths(result: Result) -> tuple[int | None, int | None]:
    """Epochs of a run, and of its recipe; None where they are not known."""
    recipe = result.recipe
    if recipe is None:
        return None, None
    own = recipe_of(recipe.name, result.config.dataset, result.config.train)
    if recipe.name == "paper" and result.method.authors_recipe is not None:
        own = result.method.authors_recipe
    return recipe.epochs, own.epochs if own is not None else None


def _recipe(name: str, lengths: Sequence[tuple[int | None, int | None]]) -> str:
    if name == "external" or lengths[0][0] is None:
        return "trained elsewhere"
    ours = sorted({own for own, _ in lengths if own})
    if name == "paper":
        return f"authors' recipes, {_span(ours)}"
    stated = {theirs for _, theirs in lengths if theirs} - set(ours)
    return f"{name} recipe, " + (f"{ours[0]} of {min(stated)} epochs" if stated else _span(ours))


def _span(epochs: Sequence[int]) -> str:
    words = str(epochs[0]) if epochs[0] == epochs[-1] else f"{epochs[0]} to {epochs[-1]}"
    return f"{words} epoch{'s' * (words != '1')}"


def _other_length(lengths: Sequence[tuple[int | None, int | None]]) -> str:
    other = [f"{ours} of {theirs}" for ours, theirs in lengths if theirs is not None and ours != theirs]
    return f"{', '.join(other)} epochs" if other else ""
