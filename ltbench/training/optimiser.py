"""What a stage trains: which parameters are frozen, parameter groups, and momentum that is carried over."""

from typing import Any

import torch
from timm.optim import create_optimizer_v2  # type: ignore[attr-defined]
from torch import Tensor, nn

from ltbench.config import Recipe
from ltbench.errors import TrainingFailedError
from ltbench.method import Method, Stage
from ltbench.models.layers import layers_below_last


class StageSetup:
    """Freezes parameters and makes the optimiser, stage by stage.

    A parameter that the method has frozen and a module that it has put in evaluation mode (a teacher) stay so.

    Args:
        method: as it is before training.
        recipe: optimiser, learning rates, momentum and weight decay.
        device: where the method is.
        recorded: whether steps will be recorded as CUDA graphs, for which learning rates are tensors.
    """

    def __init__(self, method: Method, recipe: Recipe, device: torch.device, *, recorded: bool) -> None:
        self.method, self.recipe, self.device, self.recorded = method, recipe, device, recorded
        self.trainable = {name for name, weight in method.named_parameters() if weight.requires_grad}
        self.layers = layers_below_last(method) if recipe.layer_decay != 1 else {}
        self.frozen_modules = [module for module in method.modules() if not module.training]

    def freeze(self, stage: Stage) -> None:
        """Set which parameters train and which mode each module is in."""
        for name, weight in self.method.named_parameters():
            weight.requires_grad_(name in self.trainable and name.startswith(stage.trains))
        self.method.train()
        for module in self.frozen_modules:
            module.training = False
        if stage.frozen_norms == "eval":
            for prefix, module in self.method.named_modules():
                if isinstance(module, nn.modules.batchnorm._NormBase) and module not in self.frozen_modules:
                    names = {f"{prefix}.{name}" for name, _ in module.named_parameters(recurse=False)}
                    # Without parameters, its place tells whether it trains; so does that of a copy which never learns.
                    module.train(any(name.startswith(stage.trains) for name in names or {f"{prefix}."}))

    def optimiser(self, stage: Stage, previous: torch.optim.Optimizer | None = None) -> torch.optim.Optimizer:
        """The optimiser of a stage whose parameters ``freeze`` has set.

        Args:
            stage: to train.
            previous: the optimiser of the stage before; its momentum is carried over if the stage says so.

        Raises:
            TrainingFailedError: if the stage trains no parameter.
            LtbenchError: if the recipe has a rate for each layer and those of the backbone are not known.
        """
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        weight_decay = self.recipe.weight_decay if stage.weight_decay is None else stage.weight_decay
        for name, weight in self.method.named_parameters():
            if weight.requires_grad:
                decay = weight_decay if weight.ndim > 1 or self.recipe.decay_norms else 0.0
                groups.setdefault((self._lr_scale(stage, name), decay), []).append(weight)
        if not groups:
            raise TrainingFailedError(f"stage '{stage.name}' trains nothing: no parameter is named {stage.trains}...")
        optimiser = self._made(
            [{"params": weights, "scale": scale, "weight_decay": decay} for (scale, decay), weights in groups.items()]
        )
        if stage.optimiser == "carried" and previous is not None:
            carried = [weight for weight in _weights(optimiser) if weight in previous.state]
            optimiser.state.update({weight: previous.state[weight] for weight in carried})
        return optimiser

    def _made(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        recipe = self.recipe
        if recipe.optimizer != "sgd":
            made: torch.optim.Optimizer = create_optimizer_v2(groups, opt=recipe.optimizer, lr=recipe.lr)
            return made
        if self.recorded:  # a tensor each: one for all would have the scale of the last group
            groups = [{**group, "lr": torch.tensor(recipe.lr, device=self.device)} for group in groups]
        return torch.optim.SGD(
            groups,
            lr=recipe.lr,
            momentum=recipe.momentum,
            nesterov=recipe.nesterov,
            fused=self.recorded or None,  # the only one that reads its learning rate from a tensor
        )

    def _lr_scale(self, stage: Stage, name: str) -> float:
        """The stage's factor of a parameter's learning rate, times the recipe's for its layer."""
        scale = lr_scale(stage, name)
        return scale * self.recipe.layer_decay ** self.layers.get(name, 0)


def add_missing_momentum(optimiser: torch.optim.Optimizer) -> None:
    """Give parameters without momentum zeros, which amount to none: the fused optimiser wants all or none of it."""
    for weight in _weights(optimiser):
        optimiser.state[weight].setdefault("momentum_buffer", torch.zeros_like(weight))


def set_lr(optimiser: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate, times the scale of each parameter group."""
    for group in optimiser.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(lr * group["scale"])
        else:
            group["lr"] = lr * group["scale"]


def lr_scale(stage: Stage, name: str) -> float:
    """The learning-rate factor of a parameter: that of the longest prefix of its name."""
    prefixes = [prefix for prefix in stage.lr_scale if name.startswith(prefix)]
    return stage.lr_scale[max(prefixes, key=len)] if prefixes else 1.0


def _weights(optimiser: torch.optim.Optimizer) -> list[Tensor]:
    return [weight for group in optimiser.param_groups for weight in group["params"]]
