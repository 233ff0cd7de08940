"""Builds the method of a run: its network for the data, with random weights, and its hyper-parameters."""

from collections.abc import Sequence

import torch

from ltbench import rng
from ltbench.config import Recipe, RunConfig
from ltbench.errors import LtbenchError
from ltbench.method.base import ClassPrior, Method
from ltbench.models.experts import Backbone


def build_method(
    cls: type[Method], config: RunConfig, counts: Sequence[int], shape: tuple[int, int, int], device: torch.device
) -> Method:
    """Build the method of a run, on the device.

    Args:
        cls: class of the method.
        config: settings of the run, with everything filled in.
        counts: (C,) number of training images of each class.
        shape: channels, height and width of an image.
        device: device that holds the method's parameters and buffers.

    Raises:
        LtbenchError: if its hyper-parameters or its backbone do not suit the data.
    """
    assert isinstance(config.recipe, Recipe)
    assert config.backbone is not None
    build = Backbone(
        config.backbone,
        classes=len(counts),
        channels=shape[0],
        image_size=shape[1],
        head=config.recipe.head,
        pretrained=config.pretrained,
    )
    hyperparameters = cls.Config.model_validate(config.hyperparameters)
    try:
        with rng.global_stream(config.seed, "init"):
            method = cls(build, ClassPrior(torch.tensor(counts)), hyperparameters)
    except ValueError as error:
        raise LtbenchError(f"{config.method}: {error}", where="--set") from None
    method.to(memory_format=torch.channels_last)
    return method.to(device)
