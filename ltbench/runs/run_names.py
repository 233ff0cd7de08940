"""Short names of runs, which say what tells those at hand apart."""

from collections import defaultdict
from collections.abc import Iterable

from ltbench.config import Recipe, RunConfig
from ltbench.config.format_settings import format_value


class RunNames:
    """What runs are called: the method, the seed, and the settings in which those at hand differ.

    Args:
        configs: of the runs at hand.
    """

    def __init__(self, configs: Iterable[RunConfig]) -> None:
        shared: dict[str, set[str]] = defaultdict(set)
        own: dict[tuple[str, str], set[str]] = defaultdict(set)
        for config in configs:
            for name, value in _settings(config).items():
                shared[name].add(value)
            for name, value in config.hyperparameters.items():
                own[config.method, name].add(format_value(value))
        self._differing = {name for name, values in shared.items() if len(values) > 1}
        self._differing_of_method = {key for key, values in own.items() if len(values) > 1}
        same = {name: next(iter(values)) for name, values in shared.items() if len(values) == 1}
        self.common = ", ".join(_named(name, same[name]) for name in ("data", "IR", "epochs") if name in same)
        """Data set, imbalance ratio and epochs, as far as all runs share them."""

    def __call__(self, config: RunConfig) -> str:
        """The name of one of the runs."""
        return self._joined(config, [f"seed {config.seed}"])

    def setting(self, config: RunConfig) -> str:
        """The name of what runs share that differ in their seed only."""
        return self._joined(config, [])

    def _joined(self, config: RunConfig, seed: list[str]) -> str:
        settings = {name: value for name, value in _settings(config).items() if name in self._differing}
        for name, value in config.hyperparameters.items():
            if (config.method, name) in self._differing_of_method:
                settings[name] = format_value(value)
        return ", ".join([config.method, *seed, *(_named(*one) for one in settings.items())])


def _settings(config: RunConfig) -> dict[str, str]:
    """What is known of a run; little of what ltbench has not trained."""
    recipe = config.recipe
    settings = {"data": config.dataset, "IR": format_value(config.imbalance_ratio)}
    if config.imbalance != "exp":
        settings["imbalance"] = config.imbalance
    if config.class_order != "label":
        settings["class order"] = config.class_order
    if config.backbone is not None:
        settings["backbone"] = config.backbone
    if not isinstance(recipe, Recipe):
        return {**settings, "recipe": recipe}
    trained = {"epochs": str(recipe.epochs), "lr": format_value(recipe.lr), "batch": str(recipe.batch_size)}
    return {**settings, "recipe": recipe.name, **trained}


def _named(name: str, value: str) -> str:
    return {"data": value, "epochs": f"{value} epochs"}.get(name, f"{name} {value}")
