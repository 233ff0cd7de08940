"""A method as a run begins with it: built by its settings for the data, with random weights."""

from collections.abc import Sequence

import torch

from ltbench import rng
from ltbench.config import ResolvedRun
from ltbench.errors import LtbenchError
from ltbench.method.base import BackboneFactory, ClassPrior, Method
from ltbench.models.backbone import Backbone
from ltbench.models.linear_probe import LinearProbe


def build_method(
    method: type[Method], run: ResolvedRun, counts: Sequence[int], shape: tuple[int, int, int], device: torch.device
) -> Method:
    """Build the method of a run with random weights, on the device.

    Args:
        method: its class.
        run: its settings.
        counts: (C,) images of each class to train on.
        shape: of an image: channels, height, width; or of its frozen features: D, 1, 1.
        device: to put it on.

    Raises:
        LtbenchError: if its hyper-parameters or its backbone do not suit the data.
    """
    build: BackboneFactory
    if run.config.train == "head":
        build = LinearProbe(shape[0], classes=len(counts), head=run.recipe.head)
    else:
        build = Backbone(
            run.backbone,
            classes=len(counts),
            channels=shape[0],
            image_size=shape[1],
            head=run.recipe.head,
            pretrained=run.weights,
            whole_width=run.config.starts_from_weights,
        )
    hyperparameters = method.Config.model_validate(run.config.hyperparameters)
    try:
        with rng.global_stream(run.config.seed, "init"):
            built = method(build, ClassPrior(torch.tensor(counts)), hyperparameters)
    except ValueError as error:
        raise LtbenchError(f"{run.config.method}: {error}", where="--set") from None
    built.to(memory_format=torch.channels_last)
    return built.to(device)
