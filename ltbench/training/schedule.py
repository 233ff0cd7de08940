"""The learning rate of every epoch, and how a method's stages share the recipe's epochs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ltbench.config import Recipe
from ltbench.errors import LtbenchError
from ltbench.method import Method, Stage, StageSchedule


@dataclass(frozen=True)
class PlannedStage:
    """A stage with its length and learning rates."""

    stage: Stage
    lrs: tuple[float, ...]
    """The learning rate of each epoch."""

    @property
    def epochs(self) -> int:
        """Length of the stage."""
        return len(self.lrs)


def recipe_lr(recipe: Recipe, epoch: int) -> float:
    """The learning rate of an epoch, counted from 0.

    Linear warm-up (epoch + 1) / W, then steps at the milestones or a cosine over all epochs, one value an epoch. The
    cosine of the code of PaCo, GPaCo, BCL, ProCo, CMO and DBM begins after the warm-up instead: in between, it is
    higher by up to 2 % of the largest rate for 400 epochs with 10 of warm-up or 200 with 5.
    """
    warmup = max(1, recipe.epochs_of(recipe.warmup)) if recipe.warmup else 0
    if epoch < warmup:
        return recipe.lr * (epoch + 1) / warmup
    if recipe.schedule == "cosine":
        return recipe.lr * 0.5 * (1 + math.cos(math.pi * epoch / recipe.epochs))
    passed = sum(epoch >= milestone for milestone in recipe.milestone_epochs)
    return recipe.lr * recipe.gamma**passed


def stages_of(method: Method, recipe: Recipe) -> Sequence[Stage]:
    """The stages of a method, after one that trains its head alone if the recipe has epochs for it.

    Linear probing before fine-tuning keeps a new head, which is random, from spoiling the pre-trained features (Kumar
    et al., ICLR 2022). A method that starts with other than the whole network, such as a second stage, has no such
    stage.
    """
    stages = method.stages(recipe)
    if not recipe.head_epochs or not stages or stages[0].trains != ("",):
        return stages
    learning = (name for name, weight in method.named_parameters() if weight.requires_grad)
    beside = {name.partition(".")[0] for name in learning} - {"network"}
    trains = ("network.heads", *sorted(beside))
    schedule = StageSchedule(recipe.lr, "constant")
    head = replace(
        stages[0], name="head", epochs=recipe.head_epochs, trains=trains, schedule=schedule, is_head_first=True
    )
    return (head, replace(stages[0], after_head=True), *stages[1:])


def plan(stages: Sequence[Stage], recipe: Recipe) -> list[PlannedStage]:
    """Give every stage its number of epochs and its learning rates.

    Stages without a schedule of their own share the recipe's epochs, one after the other; one of them may leave
    its length open and gets what the others leave.

    Raises:
        LtbenchError: if the lengths do not fit the recipe's epochs, or two stages share a name.
    """
    names = [stage.name for stage in stages]
    if len(set(names)) < len(names):
        raise LtbenchError(f"the stages {names} need names of their own")
    shared = [stage for stage in stages if stage.schedule is None]
    fixed = sum(stage.epochs or 0 for stage in shared)
    left = recipe.epochs - fixed
    open_ended = sum(stage.epochs is None for stage in shared)
    if any(stage.epochs is not None and stage.epochs < 1 for stage in stages):
        raise LtbenchError(f"one of the stages {names} has no epochs", hint="leave out a stage that does not train")
    if left < 0 or open_ended > 1 or (bool(shared) and (open_ended == 0) != (left == 0)):
        raise LtbenchError(
            f"the stages {[stage.name for stage in shared]} do not fit into {recipe.epochs} epochs",
            where="--epochs",
            hint="together they must have as many; one of them may leave its length open and gets what is left",
        )
    planned, epoch = [], 0
    for stage in stages:
        if stage.schedule is not None:
            planned.append(PlannedStage(stage, _own_lrs(stage)))
            continue
        length = left if stage.epochs is None else stage.epochs
        planned.append(PlannedStage(stage, tuple(recipe_lr(recipe, epoch + e) for e in range(length))))
        epoch += length
    return planned


def _own_lrs(stage: Stage) -> tuple[float, ...]:
    assert stage.schedule is not None
    if stage.epochs is None:
        raise LtbenchError(f"stage '{stage.name}' has a schedule of its own and needs a number of epochs")
    if stage.schedule.shape == "constant":
        return (stage.schedule.lr,) * stage.epochs
    return tuple(
        stage.schedule.lr * 0.5 * (1 + math.cos(math.pi * epoch / stage.epochs)) for epoch in range(stage.epochs)
    )
