"""RunConfig -> resolve() -> ResolvedRun: the data set, the recipe and the method fill in what the user left out."""

from typing import Any

from ltbench import registry
from ltbench.config import Recipe, ResolvedRun, RunConfig, recipes, validated
from ltbench.method.declaration import Declaration


def resolve(config: RunConfig) -> ResolvedRun:
    """Fill in everything that a run leaves to its data set, recipe and method.

    Raises:
        LtbenchError: for unknown names, or settings out of range.
    """
    source, method = registry.dataset(config.dataset), registry.declaration(config.method)
    registry.check_paper(config.method)
    backbone = config.backbone or source.backbone
    registry.check_backbone(backbone)
    recipe = config.recipe
    if recipe == recipes.PAPER:
        recipe = recipes.of_paper(config.method, method.paper.recipe, source.recipe_table)
    elif isinstance(recipe, str):
        recipe = recipes.recipe(recipe, source.recipe_table)
    overrides = {name: getattr(config, name) for name in ("epochs", "lr", "batch_size")}
    given = {name: value for name, value in {**overrides, "head": method.head}.items() if value is not None}
    ratio = source.imbalance_ratio if config.imbalance_ratio is None else config.imbalance_ratio
    filled = Recipe.model_validate({**recipe.model_dump(), **given})
    image_size = config.image_size or source.image_size
    settings = config.replace(
        imbalance_ratio=ratio,
        image_size=image_size,
        backbone=backbone,
        recipe=filled,
        hyperparameters=_hyperparameters(method, config, ratio),
        **dict.fromkeys(overrides),
    )
    return ResolvedRun(settings, filled, backbone, image_size)


def _hyperparameters(method: Declaration, config: RunConfig, ratio: float | None) -> dict[str, Any]:
    where, kind = "--set", f"hyper-parameter of {config.method}"
    given = validated(method.config, config.hyperparameters, where=where, kind=kind)
    explicit = given.model_dump(include=given.model_fields_set)
    defaults = method.paper.defaults_for(config.dataset, ratio)
    settings = validated(method.config, {**defaults, **explicit}, where=where, kind=kind)
    return settings.model_dump(mode="json", exclude_none=True)  # what is off leaves no trace in a run id
