"""A run with everything filled in: what ``ltbench.runs.resolve`` makes of a ``RunConfig``."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ltbench.config.recipe import Recipe
from ltbench.config.run_config import RunConfig

if TYPE_CHECKING:
    from ltbench.models.weights import Weights


@dataclass(frozen=True)
class ResolvedRun:
    """One training run, with nothing left to its data set, its recipe or its method."""

    config: RunConfig
    """The settings as results store them, everything filled in."""
    recipe: Recipe
    backbone: str
    image_size: int
    """Side of the images, pixels."""
    weights: "Weights | None" = None
    """Pre-trained weights that the network starts from."""
