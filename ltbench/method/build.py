"""A method as a run begins with it: built by its settings for the data, with random weights."""

from collections.abc import Sequence

import torch

from ltbench import registry, rng
from ltbench.config import Recipe, RunConfig
from ltbench.errors import LtbenchError
from ltbench.method.base import ClassPrior, Method
from ltbench.models.backbone import Backbone


def build_method(config: RunConfig, counts: Sequence[int], shape: tuple[int, int, int], device: torch.device) -> Method:
    """Build the method of a run, on the device.

    Args:
        config: with everything filled in.
        counts: (C,) images of each class to train on.
        shape: of an image: channels, height, width.
        device: to put it on.

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
    cls = registry.method(config.method)
    hyperparameters = cls.Config.model_validate(config.hyperparameters)
    try:
        with rng.global_stream(config.seed, "init"):
            method = cls(build, ClassPrior(torch.tensor(counts)), hyperparameters)
    except ValueError as error:
        raise LtbenchError(f"{config.method}: {error}", where="--set") from None
    method.to(memory_format=torch.channels_last)
    return method.to(device)
