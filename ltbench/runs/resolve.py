"""RunConfig -> resolve() -> ResolvedRun: the data set, the recipe and the method fill in what the user left out."""

from typing import Any

from ltbench import registry
from ltbench.config import Recipe, ResolvedRun, RunConfig, recipes, validated
from ltbench.method import Method
from ltbench.method.paper import paper_of


def resolve(config: RunConfig) -> ResolvedRun:
    """Fill in everything that a run leaves to its data set, recipe and method.

    Raises:
        LtbenchError: for unknown names, or settings out of range.
    """
    source, cls = registry.dataset(config.dataset), registry.method(config.method)
    registry.check_paper(cls)
    backbone = config.backbone or source.backbone
    registry.check_backbone(backbone)
    recipe = config.recipe
    if recipe == recipes.PAPER:
        recipe = recipes.of_paper(config.method, paper_of(cls).recipe, source.recipe_table)
    elif isinstance(recipe, str):
        recipe = recipes.recipe(recipe, source.recipe_table)
    overrides = {name: getattr(config, name) for name in ("epochs", "lr", "batch_size")}
    given = {name: value for name, value in {**overrides, "head": cls.head}.items() if value is not None}
    ratio = source.imbalance_ratio if config.imbalance_ratio is None else config.imbalance_ratio
    filled = Recipe.model_validate({**recipe.model_dump(), **given})
    image_size = config.image_size or source.image_size
    settings = config.replace(
        imbalance_ratio=ratio,
        image_size=image_size,
        backbone=backbone,
        recipe=filled,
        hyperparameters=_hyperparameters(cls, config, ratio),
        **dict.fromkeys(overrides),
    )
    return ResolvedRun(settings, filled, backbone, image_size)


def default_hyperparameters(cls: type[Method], config: RunConfig) -> dict[str, Any]:
    """The hyper-parameters of a method where a run on the data set sets none.

    Args:
        cls: the method.
        config: of the run, filled in.
    """
    return _hyperparameters(cls, config.replace(hyperparameters={}), config.imbalance_ratio)


def _hyperparameters(cls: type[Method], config: RunConfig, ratio: float | None) -> dict[str, Any]:
    where, kind = "--set", f"hyper-parameter of {config.method}"
    given = validated(cls.Config, config.hyperparameters, where=where, kind=kind)
    explicit = given.model_dump(include=given.model_fields_set)
    defaults = paper_of(cls).defaults_for(config.dataset, ratio)
    settings = validated(cls.Config, {**defaults, **explicit}, where=where, kind=kind)
    return settings.model_dump(mode="json", exclude_none=True)  # what is off leaves no trace in a run id
