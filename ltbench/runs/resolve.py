"""RunConfig -> resolve() -> ResolvedRun: the data set, the recipe and the method fill in what the user left out."""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from ltbench import registry
from ltbench.config import FEATURE_VIEWS, Recipe, ResolvedRun, RunConfig, recipes, validated
from ltbench.errors import LtbenchError, UnsuitableMethodError, first_line, unknown
from ltbench.method.declaration import Declaration
from ltbench.method.search_space import Choice, Range
from ltbench.models import network_names

if TYPE_CHECKING:
    from ltbench.models.weights import Weights


def resolve(config: RunConfig, *, find_weights: bool = True) -> ResolvedRun:
    """Fill in everything that a run leaves to its data set, recipe and method.

    Args:
        config: what the user wrote.
        find_weights: whether to look for pre-trained weights; without, the run is known well enough to be found among
            stored ones, but it cannot be carried out.

    Raises:
        LtbenchError: for unknown names, or settings out of range.
    """
    source, method = registry.dataset(config.dataset), registry.declaration(config.method)
    registry.check_paper(config.method)
    backbone = config.backbone or source.backbone
    network_names.check_backbone(backbone)
    weights = _weights(config, backbone) if find_weights else None
    probing = config.train == "head"
    if probing and find_weights:
        _check_probing(method, config, weights)
    table = recipes.table_of(config.train, source.recipe_table)
    recipe = config.recipe
    if recipe == recipes.FINETUNE and weights is None:
        raise LtbenchError(
            "the recipe is for pre-trained networks, and there are no weights",
            where="--recipe finetune",
            hint="add --weights FILE, or --pretrained for timm's own; from nothing, --recipe standard trains",
        )
    if recipe == recipes.PAPER:
        recipe = recipes.of_paper(config.method, method.paper.recipe, table)
    elif isinstance(recipe, str):
        recipe = recipes.recipe(recipe, table)
    overrides = {name: getattr(config, name) for name in ("epochs", "lr", "batch_size")}
    given = {name: value for name, value in {**overrides, "head": method.head}.items() if value is not None}
    ratio = source.imbalance_ratio if config.imbalance_ratio is None else config.imbalance_ratio
    filled = Recipe.model_validate({**recipe.model_dump(), **given})
    if find_weights:
        _check_head_epochs(filled, config, weights)
    image_size = config.image_size or source.image_size
    if config.image_size is None and weights is not None and weights.image_size and (probing or source.any_size):
        image_size = weights.image_size
    settings = config.replace(
        imbalance_ratio=ratio,
        image_size=image_size,
        backbone=backbone,
        recipe=filled,
        hyperparameters=_hyperparameters(method, config, ratio),
        weights=weights.name if weights is not None else None,
        pretrained=not find_weights and (probing or config.starts_from_weights),  # else the hash
        feature_views=(FEATURE_VIEWS if config.feature_views is None else config.feature_views) if probing else None,
        **dict.fromkeys(overrides),
    )
    if probing:
        _check_needs_no_pixels(settings)
    elif config.feature_views is not None:
        raise LtbenchError(
            "there are no frozen features where the whole network is trained",
            where="--feature-views",
            hint="add --train head, or leave the option out",
        )
    return ResolvedRun(settings, filled, backbone, image_size, weights)


def _weights(config: RunConfig, backbone: str) -> "Weights | None":
    if not config.starts_from_weights:
        return None
    from ltbench.models.weights import OWN, find_weights  # takes torch, which others need not wait for

    return find_weights(config.weights or OWN, backbone)


def _check_probing(method: Declaration, config: RunConfig, weights: "Weights | None") -> None:
    """Refuse to train a head on features that nobody has learnt, or a method that is about the network itself."""
    if weights is None:
        raise LtbenchError(
            "a head is trained on the frozen features of a pre-trained network, and there are no weights",
            where="--train head",
            hint="add --weights FILE, or --pretrained for timm's own, and their --backbone",
        )
    if method.trains_backbone:
        raise UnsuitableMethodError(
            f"{config.method} changes the network itself, which --train head freezes",
            where="--method",
            hint="leave it out, or train it with --train all",
        )


def _check_head_epochs(recipe: Recipe, config: RunConfig, weights: "Weights | None") -> None:
    """Refuse epochs of the head alone where the rest is random, or where nothing else is trained anyway."""
    if recipe.head_epochs and (weights is None or config.train == "head"):
        reason = "there are no weights" if weights is None else "--train head trains nothing else"
        raise LtbenchError(
            f"the recipe trains the head of a pre-trained network first, and {reason}",
            where="recipe: head_epochs",
            hint="leave head_epochs out, or fine-tune a network (--weights FILE, or --pretrained)",
        )


def _check_needs_no_pixels(config: RunConfig) -> None:
    """Refuse a hyper-parameter that is about the pixels of an image."""
    for name in ("cutmix", "cmo"):
        if config.hyperparameters.get(name):
            raise UnsuitableMethodError(
                f"{config.method} pastes boxes of one image into another ({name}), and features have no boxes",
                where="--train head",
                hint=f"train the whole network (--train all), or mix features instead: --set {name}=0 --set mixup=0.2",
            )


def default_hyperparameters(method: Declaration, config: RunConfig) -> dict[str, Any]:
    """The hyper-parameters of a method where a run on the data set sets none.

    Args:
        method: what it declares.
        config: of the run, filled in.
    """
    return _hyperparameters(method, config.replace(hyperparameters={}), config.imbalance_ratio)


def search_space(
    config: RunConfig, search: Collection[str] = (), space: Mapping[str, Range | Choice] | None = None
) -> dict[str, Range | Choice]:
    """What a search chooses: the method's space without what the user has fixed.

    Args:
        config: settings of all trials.
        search: further settings to search, which are off by default.
        space: options that take the place of those that the method declares, or are added to them.

    Raises:
        LtbenchError: if that is nothing, or a setting cannot be searched.
    """
    declared, space = registry.declaration(config.method).config, space or {}
    optional, found = declared.optional_space(), dict(declared.search_space())
    for name in search:
        if name not in {**found, **optional}:
            raise unknown("setting to search", name, {**found, **optional}, where="--search")
        found[name] = {**found, **optional}[name]
    for name, option in space.items():
        known = {**found, **optional, **declared.model_fields}
        if name not in known:
            raise unknown(f"hyper-parameter of {config.method}", name, known, where="--space")
        found[name] = option
    for name, where in {**dict.fromkeys(search, "--search"), **dict.fromkeys(space, "--space")}.items():
        if name in config.hyperparameters:
            raise LtbenchError(f"{name} is both fixed and searched", where=where, hint="leave out one of the two")
    free = {name: option for name, option in found.items() if name not in config.hyperparameters}
    if not free:
        raise LtbenchError(
            f"method '{config.method}' leaves nothing to search",
            where="--set",
            hint=f"its space is {', '.join(found) or 'empty'}; do not fix all of it",
        )
    return free


def check_search(config: RunConfig, space: Mapping[str, Range | Choice]) -> ResolvedRun:
    """A trial, filled in, with hyper-parameters of no meaning.

    Each end of a range, a number within it and each choice are tried beside the first ones of the others.

    Raises:
        LtbenchError: as ``resolve``.
    """
    values = {
        name: option.options if isinstance(option, Choice) else (option.low, option.high, _within(option))
        for name, option in space.items()
    }
    some = {name: its[0] for name, its in values.items()}
    for name, its in values.items():
        for value in its[1:]:
            tried = config.replace(hyperparameters={**config.hyperparameters, **some, name: value})
            try:
                _refuse_null(resolve(tried, find_weights=False))
            except LtbenchError as error:
                if isinstance(space[name], Choice) or value in its[:2]:
                    raise
                raise LtbenchError(
                    f"a search of {name} from {its[0]:g} to {its[1]:g} draws {value:g}, too: {first_line(error)}",
                    where=f"the range of {name}",
                    hint="give a range of whole numbers a step: step = 1" if all(map(_is_whole, its[:2])) else None,
                ) from None
    found = resolve(config.replace(hyperparameters={**config.hyperparameters, **some}))
    _refuse_null(found)
    return found


def _refuse_null(found: ResolvedRun) -> None:
    for name, value in found.config.hyperparameters.items():
        if value is None:
            raise LtbenchError(
                f"a search cannot turn {name} off, which the file of its best settings has no word for",
                where="--set" if name != "remix" else "the mixup of the search, which is 0",
                hint="write 0 instead of null where 0 turns it off" if name != "remix" else "let it begin above 0",
            )


def _is_whole(value: Any) -> bool:
    return float(value).is_integer()


def _within(option: Range) -> float:
    """A number that a search may draw from a range: whole where all that it draws are, and else not."""
    return option.low + (option.step if option.step is not None else (option.high - option.low) * 0.382)


def _hyperparameters(method: Declaration, config: RunConfig, ratio: float | None) -> dict[str, Any]:
    where, kind = "--set", f"hyper-parameter of {config.method}"
    given = validated(method.config, config.hyperparameters, where=where, kind=kind)
    explicit = given.model_dump(include=given.model_fields_set)
    defaults = method.paper.defaults_for(config.dataset, ratio)
    settings = validated(method.config, {**defaults, **explicit}, where=where, kind=kind)
    # What is off leaves no trace in a run id, unless it is on where nothing is said.
    fields = type(settings).model_fields.items()
    said = {name for name, field in fields if field.default is not None or defaults.get(name) is not None}
    off = {name: None for name in said if getattr(settings, name) is None}
    return {**settings.model_dump(mode="json", exclude_none=True), **off}
