"""A trained run as one module from pixels to logits, and what must be known to use it or to build it again."""

import warnings
from pathlib import Path

import torch
from pydantic import Field
from torch import Tensor, nn

from ltbench import __version__, registry, rng
from ltbench.config import Frozen, Recipe, RunConfig, settings_text
from ltbench.data import dataset
from ltbench.deploy.imported_network import Imported
from ltbench.errors import LtbenchError
from ltbench.features.encoder import Encoder
from ltbench.files import paths
from ltbench.method import BackboneFactory, ClassPrior, Method
from ltbench.models.backbone import Backbone
from ltbench.models.linear_probe import LinearProbe
from ltbench.models.weights import Weights, find_weights
from ltbench.results.external import IMPORTED
from ltbench.results.schema import Result
from ltbench.training.checkpoint import Checkpoint, load_trained
from ltbench.training.finite import not_finite


class Card(Frozen):
    """The metadata of a predictor, stored in every exported file: its input, its classes, and where it comes from."""

    run_id: str
    ltbench: str = Field(__version__, description="version that wrote this")
    classes: list[str]
    input: tuple[int, int, int] = Field(description="channels, height, width; pixels in [0, 1], float32")
    mean: tuple[float, ...] = Field(description="mean of each channel, which the predictor subtracts")
    std: tuple[float, ...] = Field(description="standard deviation of each channel, by which the predictor divides")
    logit_prior: float | None = Field(description="exponent of the training prior that is left in the logits")
    streamed: bool = Field(False, description="whether the run saw the centres of images, scaled with a margin")
    trained_on: list[int] = Field(description="training images by class")
    revision: str = Field(description="revision of the method")
    imported: bool = Field(False, description="whether others have trained the weights")
    config: RunConfig


class Predictor(nn.Module):
    """A network from pixels to logits, always in evaluation mode.

    Args:
        method: trained.
        card: of its run.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, method: Method, card: Card) -> None:
        super().__init__()
        self.method, self.card = method, card
        self.register_buffer("mean", torch.tensor(card.mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(card.std).view(1, -1, 1, 1))
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """(N, C) logits from (N, channels, H, W) float32 pixels in [0, 1]."""
        return self.method.predict((images - self.mean) / self.std)


def describe(result: Result, data_dir: Path) -> Card:
    """The metadata of a finished run.

    Args:
        result: of the run.
        data_dir: looked into for the data of a run that is older than its channels' mean and deviation on record.

    Raises:
        LtbenchError: if the run is not done, or the data of an older run is not there or not its own.
    """
    if result.status != "done":
        raise LtbenchError(
            f"run {result.run_id} is {result.status} and has no trained weights",
            where=result.reason,
            hint="train it again",
        )
    mean, std = result.data.mean, result.data.std
    if mean is None or std is None:
        mean, std = _measured(result, data_dir)
    assert result.config.image_size is not None
    side = result.config.image_size
    if result.config.train == "head" and not registry.dataset(result.config.dataset).any_size:
        side = registry.dataset(result.config.dataset).image_size  # the frozen network scales them itself
    return Card(
        run_id=result.run_id,
        classes=result.data.classes,
        input=(len(mean), side, side),
        mean=mean,
        std=std,
        logit_prior=result.method.logit_prior,
        streamed=result.data.streamed,
        trained_on=result.data.trained_on,
        revision=result.method.revision,
        imported=IMPORTED in result.provenance,
        config=result.config,
    )


def _measured(result: Result, data_dir: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
    source = registry.dataset(result.config.dataset)
    try:
        data = dataset.load(source, result.config, data_dir)
    except LtbenchError as error:
        raise LtbenchError(
            f"run {result.run_id} is older than its images' mean and deviation on record, and they cannot be measured: "
            f"{error}"
        ) from None
    if data.fingerprints["train"] != result.data.fingerprints.get("train"):
        raise LtbenchError(
            f"run {result.run_id} is older than its images' mean and deviation on record, and these images are others",
            where=data_dir.absolute(),
            hint="give the folder with the images that the run was trained on (--data-dir)",
        )
    return data.mean, data.std


def build(card: Card) -> Predictor:
    """The run's predictor with random weights, on the CPU, the frozen network of a head included.

    Raises:
        LtbenchError: if its method is not known here, or has changed since.
    """
    encoder = _encoder(card, None, "fp32")
    return _with_encoder(_build_trained(card, encoder), encoder)


def _encoder(card: Card, weights: Weights | None, precision: str) -> Encoder | None:
    """The frozen network before a head; None for a run that has trained the whole network."""
    config = card.config
    if config.train != "head":
        return None
    assert config.backbone is not None
    assert config.image_size is not None
    return Encoder(config.backbone, weights, channels=card.input[0], image_size=config.image_size, precision=precision)


def _with_encoder(predictor: Predictor, encoder: Encoder | None) -> Predictor:
    """Put the frozen network before the head, so that the method takes images."""
    if encoder is not None:
        network = predictor.method.network
        network.trunk = nn.Sequential(encoder, network.trunk)
    return predictor


def _build_trained(card: Card, encoder: Encoder | None) -> Predictor:
    """What the run has trained, with random weights, on the CPU: a network, or a head on frozen features.

    Raises:
        LtbenchError: if its method is not known here, or has changed since.
    """
    config = card.config
    cls: type[Method] = Imported if card.imported else registry.method(config.method)
    if not card.imported and registry.revision(cls) != card.revision:
        raise LtbenchError(
            f"the method '{config.method}' has changed since run {card.run_id}: its weights may mean something else",
            where=f"revision {card.revision} then, {registry.revision(cls)} now",
            hint="train it again",
        )
    assert config.backbone is not None
    head = config.recipe.head if isinstance(config.recipe, Recipe) else ""  # imported networks say their own
    make: BackboneFactory
    if encoder is not None:
        make = LinearProbe(encoder.num_features, classes=len(card.classes), head=head)
    else:
        make = Backbone(  # no pre-trained weights: those of the run replace them
            config.backbone,
            classes=len(card.classes),
            channels=card.input[0],
            image_size=card.input[1],
            head=head,
            whole_width=config.starts_from_weights,
        )
    with rng.restored(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the user was told when the run was made
        prior = ClassPrior(torch.tensor(card.trained_on))
        method = cls(make, prior, cls.Config.model_validate(config.hyperparameters))
    return Predictor(method.to(memory_format=torch.channels_last), card)


def checkpoint_of(card: Card) -> Checkpoint:
    """The file in the cache that has a run's weights."""
    path = paths.cache_dir() / "runs" / card.run_id / "checkpoint.pt"
    return Checkpoint(path, settings=settings_text(card.config))


def restore(card: Card, device: torch.device, remake: str, *, exported: bool = False) -> Predictor:
    """A run's predictor with its weights from the cache, on the device.

    Args:
        card: of the run.
        device: to predict on.
        remake: the command that makes the weights, for the user.
        exported: whether it is for a file, whose numbers are all float32; else a frozen network computes as in the run.

    Raises:
        LtbenchError: if they are not there, or not finite.
    """
    config, checkpoint = card.config, checkpoint_of(card)
    encoder = None
    if config.train == "head" and config.weights is not None and config.backbone is not None:
        precision = "fp32" if exported else config.precision
        encoder = _encoder(card, find_weights(config.weights, config.backbone), precision)
    predictor = _build_trained(card, encoder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a damaged file: that training would begin anew
        there = load_trained(predictor.method, checkpoint, torch.device("cpu"))
    if not there:
        raise LtbenchError(
            f"the trained weights of run {card.run_id} are not in the cache folder, damaged or incomplete",
            where=checkpoint.path,
            hint=f"make them again: {remake}",
        )
    predictor = _with_encoder(predictor, encoder)
    check_finite(predictor, checkpoint.path, f"make them again: {remake}")
    return predictor.to(device)


def check_finite(predictor: Predictor, file: str | Path, hint: str) -> None:
    """Refuse weights that are not finite, whose predictions would be none.

    Args:
        predictor: with its weights.
        file: they come from.
        hint: what to do.

    Raises:
        LtbenchError: naming the first such parameter.
    """
    broken = not_finite(predictor.method)
    if broken is not None:
        raise LtbenchError(f"the weights of run {predictor.card.run_id}: {broken}", where=file, hint=hint)
