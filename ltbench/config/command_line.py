"""The words of an ``ltbench run`` command with the settings of a run."""

from collections.abc import Collection

from ltbench.config.format_settings import format_value
from ltbench.config.run_config import RunConfig

_OPTIONS = (
    "imbalance_ratio",
    "data_seed",
    "image_size",
    "weights",
    "feature_views",
    "cache_resized",
    "batch_norm_images",
    "backbone",
    "precision",
)
_CHOICES = ("imbalance", "class_order")
_FLAGS = ("pretrained", "validation", "keep_classes_without_test_images")
_OF_RECIPE = ("epochs", "lr", "batch_size")


def run_words(config: RunConfig, *, methods: str, seeds: str, leave_out: Collection[str] = ()) -> list[str]:
    """Options of ``ltbench run`` that name every setting of a run.

    Args:
        config: of the run, filled in, with a recipe that comes with ltbench.
        methods: for ``--method``.
        seeds: for ``--seeds``.
        leave_out: settings that the run has without an option: fields of the run, of its recipe, or hyper-parameters.
    """
    recipe = config.full_recipe
    words = ["--method", methods, "--dataset", config.dataset]
    for name in _OPTIONS:
        value = getattr(config, name)
        if value is not None and name not in leave_out:
            words += [_flag(name), format_value(value, exact=True)]
    for name in _CHOICES:
        if (value := getattr(config, name)) != RunConfig.model_fields[name].default:
            words += [_flag(name), value]
    words += ["--recipe", recipe.name]
    for name in _OF_RECIPE:
        words += [] if name in leave_out else [_flag(name), format_value(getattr(recipe, name), exact=True)]
    words += ["--seeds", seeds]
    words += ["--train", config.train] if config.train != "all" else []
    words += [_flag(name) for name in _FLAGS if getattr(config, name)]
    words += ["--decode-on-gpu"] if config.decode == "gpu" else []
    for name, value in config.hyperparameters.items():
        words += [] if name in leave_out else ["--set", f"{name}={format_value(value, exact=True)}"]
    return words


def label_words(labels: str | None, columns: str | None) -> list[str]:
    """Options that name a table of labels, which settings do not keep.

    Args:
        labels: its name; None for none.
        columns: what it has where, if that was said.
    """
    words = [] if labels is None else ["--labels", labels]
    return words if columns is None else [*words, "--label-columns", columns]


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
