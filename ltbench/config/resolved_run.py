"""A run with everything filled in: what ``ltbench.runs.resolve`` makes of a ``RunConfig``."""

from dataclasses import dataclass

from ltbench.config.recipe import Recipe
from ltbench.config.run_config import RunConfig


@dataclass(frozen=True)
class ResolvedRun:
    """One training run, with nothing left to its data set, its recipe or its method."""

    config: RunConfig
    """The settings as results store them, everything filled in."""
    recipe: Recipe
    backbone: str
    image_size: int
    """Side of the images, pixels."""
