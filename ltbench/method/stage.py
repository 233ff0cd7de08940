"""The stages of training, and where in them a step is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ltbench import rng
from ltbench.config import Recipe


@dataclass(frozen=True)
class Schedule:
    """The learning rate of a stage that does not follow the recipe's: base rate and shape over the stage."""

    lr: float
    shape: Literal["constant", "cosine"] = "cosine"


@dataclass(frozen=True)
class Stage:
    """A part of training in which nothing changes, so that its step can be compiled once."""

    name: str = "train"
    epochs: int | None = None
    """Length; None: what is left of the recipe's epochs."""
    trains: tuple[str, ...] = ("",)
    """Prefixes of the names of the parameters that train; the rest is frozen."""
    frozen_norms: Literal["eval", "train"] = "eval"
    """Whether frozen batch norms keep their running statistics ("eval") or go on updating them ("train")."""
    lr_scale: Mapping[str, float] = field(default_factory=dict)
    """Learning-rate factors by parameter-name prefix; the longest matching prefix counts."""
    schedule: Schedule | None = None
    """None: the recipe's schedule, which runs on through all stages that follow it."""
    optimiser: Literal["new", "carried"] = "carried"
    """Whether the parameters that trained in the stage before keep their momentum or all start afresh."""
    views: tuple[str, ...] | None = None
    """The views of a batch in this stage; None: the method's."""
    source: Literal["train", "unlabelled-test"] = "train"
    """Unlabelled test images make a method transductive; it must say so."""


def deferred(recipe: Recipe, share: float = 0.8) -> tuple[Stage, ...]:
    """Two stages: "train" for ``share`` of the recipe's epochs, and "deferred" for the rest.

    Each has one epoch at least; there is no second one where the share is 1 or the recipe has a single epoch. For what
    begins late, such as deferred re-weighting (DRW): Cao et al. (NeurIPS 2019), algorithm 1.
    """
    last = recipe.epochs if share == 1 else recipe.epochs - 1
    first = max(1, min(recipe.epochs_of(share), last))
    return (Stage(epochs=first), Stage("deferred")) if first < recipe.epochs else (Stage(epochs=first),)


@dataclass
class Progress:
    """Where training is. For ``forward``, which must compile whole: ``fraction``, ``gather`` and ``first`` only."""

    seed: int
    stage: Stage
    epoch: int
    """Within the stage."""
    step: int
    """Within the epoch."""
    fraction: Tensor
    """Scalar: share of the stage that is done."""
    share: float = 0.0
    """Share of all training that is done; for ``prepare``, not for ``forward``."""
    gather: Callable[[Tensor], Tensor] = lambda tensor: tensor
    """Concatenate a tensor over processes along its first axis, gradients too; the identity in one process."""
    first: int = 0
    """Where this process's images begin among those of all; they follow one another. 0 in one process."""

    def generator(self, stream: str) -> np.random.Generator:
        """A private generator for one purpose in this step."""
        return rng.numpy_generator(self.seed, stream, self.stage.name, self.epoch, self.step)


def at_rest(stage: Stage, seed: int = 0) -> Progress:
    """A ``Progress`` at the start of a stage, for calling a method's step outside of training."""
    return Progress(seed, stage, 0, 0, torch.tensor(0.0))
