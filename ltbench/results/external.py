"""Results that ltbench has not trained: others' predictions, others' weights."""

import shlex

from ltbench.config.format_settings import format_value
from ltbench.results.schema import Result

EXTERNAL = "external"
"""Stands for a training recipe that ltbench knows nothing about."""


SCORED, IMPORTED = "scored", "imported"
"""Revisions of what ltbench has not trained, and where a result's provenance tells the file: predictions, weights."""


_COMMANDS = {SCORED: "score", IMPORTED: "import-checkpoint"}


def command(result: Result) -> str | None:
    """The command that makes a result from a file of others again; None for a run of ltbench's own."""
    found = next((name for name in _COMMANDS if name in result.provenance), None)
    if found is None:
        return None
    config = result.config
    record = result.provenance[found]
    options = {
        "name": config.method,
        "dataset": config.dataset,
        "train-counts": record.get("train_counts"),
        "imbalance-ratio": config.imbalance_ratio,
        "imbalance": None if config.imbalance == "exp" else config.imbalance,
        "class-order": None if config.class_order == "label" else config.class_order,
        "data-seed": config.data_seed or None,
        "image-size": config.image_size,
        "recipe": config.recipe if isinstance(config.recipe, str) else config.recipe.name,
        "seed": config.seed,
        "logit-prior": result.method.logit_prior,
    }
    given = {f"--{name}": format_value(value, exact=True) for name, value in options.items() if value is not None}
    words = [word for option in given.items() for word in option]
    words += ["--transductive"] if result.method.transductive else []
    return shlex.join(["ltbench", _COMMANDS[found], record["file"], *words])
