"""The stages of training, and how far training has come."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ltbench import rng
from ltbench.config import Recipe


@dataclass(frozen=True)
class StageSchedule:
    """Learning-rate schedule of a stage that does not follow the recipe's: initial rate and shape."""

    lr: float
    shape: Literal["constant", "cosine"] = "cosine"


@dataclass(frozen=True)
class Stage:
    """A period of training in which nothing changes, so that its step can be compiled once."""

    name: str = "train"
    epochs: int | None = None
    """Number of epochs; None: those that other stages leave of the recipe's."""
    trains: tuple[str, ...] = ("",)
    """Name prefixes of the parameters that train; the others are frozen."""
    frozen_norms: Literal["eval", "train"] = "eval"
    """Whether frozen batch norms keep their running statistics ("eval") or go on updating them ("train")."""
    lr_scale: Mapping[str, float] = field(default_factory=dict)
    """Learning-rate factors by parameter-name prefix; the longest matching prefix counts."""
    schedule: StageSchedule | None = None
    """None: the recipe's schedule, which runs on through all stages that follow it."""
    weight_decay: float | None = None
    """Weight decay of what trains; None: the recipe's."""
    optimiser: Literal["new", "carried"] = "carried"
    """Whether the parameters that trained in the stage before keep their momentum or all start afresh."""
    after_head: bool = False
    """Whether the head has trained alone before, as the recipe asks for; what begins it has done so then."""
    is_head_first: bool = False
    """Whether this is the recipe's training of the head alone, in which a method's time has not begun."""
    views: tuple[str, ...] | None = None
    """The views of a batch in this stage; None: the method's."""
    source: Literal["train", "unlabelled-test"] = "train"
    """Unlabelled test images make a method transductive; it must say so."""


def deferred(recipe: Recipe, start: float = 0.8) -> tuple[Stage, ...]:
    """Two stages, "train" and "deferred", for what begins late, such as deferred re-weighting (DRW).

    Cao et al. (NeurIPS 2019), algorithm 1. Each stage has at least one epoch; there is no second one where ``start`` is
    1 or the recipe has a single epoch.

    Args:
        recipe: recipe of the run.
        start: fraction of the recipe's epochs after which the second stage begins.
    """
    last = recipe.epochs if start == 1 else recipe.epochs - 1
    first = max(1, min(recipe.epochs_of(start), last))
    return (Stage(epochs=first), Stage("deferred")) if first < recipe.epochs else (Stage(epochs=first),)


@dataclass
class Progress:
    """How far training has come. ``forward`` compiles whole: it reads ``stage_fraction``, ``gather`` and ``first``."""

    seed: int
    stage: Stage
    epoch: int
    """Epoch of the stage, from 0."""
    step: int
    """Step of the epoch, from 0."""
    stage_fraction: Tensor
    """Scalar: fraction of the stage that is done; 0 while the head trains alone before the method's first stage."""
    run_fraction: float = 0.0
    """Fraction of the whole training that is done, all stages together; for ``prepare``, not for ``forward``."""
    gather: Callable[[Tensor], Tensor] = lambda tensor: tensor
    """Concatenates a tensor over processes along its first axis, gradients too; the identity in one process."""
    first: int = 0
    """Index of this process's first image in the global batch, whose images follow one another; 0 in one process."""

    @property
    def fraction(self) -> Tensor:
        """Refuse the name of older versions."""
        raise AttributeError("Progress.fraction is called stage_fraction")

    def generator(self, stream: str) -> np.random.Generator:
        """Random generator for one purpose in this step."""
        return rng.numpy_generator(self.seed, stream, self.stage.name, self.epoch, self.step)


def at_rest(stage: Stage, seed: int = 0) -> Progress:
    """The progress at the start of a stage, for calling a method's step outside of training."""
    return Progress(seed, stage, 0, 0, torch.tensor(0.0))
