"""The settings of a run: frozen, validated, unknown keys refused, canonical as JSON."""

import hashlib
import json
import tomllib
from collections.abc import Mapping
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ltbench.errors import LtbenchError, unknown
from ltbench.reading import read_small

Model = TypeVar("Model", bound=BaseModel)
Fraction = Annotated[float, Field(ge=0, le=1)]
NonNegative = Annotated[float, Field(ge=0)]
MOST_EPOCHS, LARGEST_BATCH = 1_000_000, 10_000_000
"""Beyond every use; a schedule or a batch beyond them would fill the memory."""


class Frozen(BaseModel):
    """A record that cannot be changed and refuses keys that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Augment(Frozen):
    """How a training image is varied, in this order; every image has its own draws."""

    crop: tuple[Fraction, Fraction] | None = Field(
        None, description="smallest and largest share of the area that a random resized crop keeps, e.g. 0.2,1"
    )
    padding: Fraction = Field(0.0, description="zero padding before a random crop, as a fraction of the side")
    flip: bool = Field(False, description="mirror left and right, with probability one half")
    rotation: float = Field(0.0, ge=0, le=180, description="largest rotation, degrees either way")
    jitter: tuple[NonNegative, NonNegative, NonNegative, Annotated[float, Field(ge=0, le=0.5)]] = Field(
        (0.0, 0.0, 0.0, 0.0), description="largest change of brightness, contrast, saturation and hue"
    )
    jitter_chance: Fraction = Field(1.0, description="probability of the jitter")
    grey: Fraction = Field(0.0, description="probability of turning an image grey")
    blur: Fraction = Field(0.0, description="probability of a Gaussian blur, standard deviation 0.1 to 2 pixels")
    policy: Literal["cifar10", "randaugment"] | None = Field(
        None, description="AutoAugment's for CIFAR-10, or RandAugment with two operations of magnitude 10"
    )
    cutout: Fraction = Field(0.0, description="side of a black square at a random place, as a fraction of the side")


class Recipe(Frozen):
    """How a network is trained; the same for every method of a comparison."""

    name: str = "custom"
    epochs: int = Field(200, ge=1, le=MOST_EPOCHS)
    batch_size: int = Field(128, ge=2, le=LARGEST_BATCH, description="global batch size, images")
    lr: float = Field(0.1, gt=0, description="peak learning rate of SGD")
    momentum: float = Field(0.9, ge=0, lt=1)
    nesterov: bool = True
    weight_decay: float = Field(5e-4, ge=0, description="on every parameter, norms and heads too")
    schedule: Literal["step", "cosine"] = "step"
    milestones: tuple[Fraction, ...] = Field((0.8, 0.9), description="of the epochs; the step schedule only")
    gamma: float = Field(0.1, gt=0, le=1, description="factor at each milestone")
    warmup: Fraction = Field(0.025, description="of the epochs, linear, at least one epoch unless 0")
    augment: Augment = Augment()
    contrast: Augment | None = Field(
        None, description="the further views of contrastive methods; without it SimCLR's, mirrored if augment mirrors"
    )
    head: Literal["linear", "cosine"] = "cosine"

    def epochs_of(self, share: float) -> int:
        """The whole number of epochs nearest to a share of them; a half is rounded up.

        The share counts as the decimal number that was written: 0.7 of 15 epochs is 10.5, in binary a bit less.
        """
        return int((Decimal(repr(float(share))) * self.epochs).to_integral_value(ROUND_HALF_UP))

    @property
    def milestone_epochs(self) -> tuple[int, ...]:
        """The epochs, counted from 0, at which the step schedule lowers the rate, in order.

        Milestones that differ have epochs that differ, so that rounding makes no large step of two small ones. Where
        two would fall together the earlier one comes an epoch sooner, but none after the start comes before the second
        epoch. An epoch that training does not reach lowers nothing: (0.8, 0.9) are the epochs 1 and 2 of one or two, 2
        and 3 of three, 4 and 5 of five or six.
        """
        shares = sorted(set(self.milestones))
        found = [self.epochs_of(share) for share in shares]
        for k in reversed(range(len(found) - 1)):
            found[k] = min(found[k], found[k + 1] - 1)
        for k, share in enumerate(shares):
            found[k] = max(found[k], int(share > 0), found[k - 1] + 1 if k else 0)
        return tuple(
            epoch for epoch, share in zip(found, shares, strict=True) for _ in range(self.milestones.count(share))
        )

    @property
    def views(self) -> dict[str, Augment]:
        """How each kind of view is made: "train", "contrast", "plain".

        The contrast view is that of SimCLR (Chen et al., ICML 2020, appendix A) on small images, which PaCo and BCL
        use; mirrored only where the recipe mirrors, since a mirrored digit is another shape.
        """
        contrast = self.contrast or Augment(
            crop=(0.2, 1.0), flip=self.augment.flip, jitter=(0.4, 0.4, 0.4, 0.1), jitter_chance=0.8, grey=0.2
        )
        return {"train": self.augment, "contrast": contrast, "plain": Augment()}


class RunConfig(Frozen):
    """One training run. What is left out is filled in by the data set, the recipe and the method.

    A flag beats the file, the file beats the method's table for the data set, that beats the recipe.
    Paths, devices and launchers are no part of it, so they never change a ``run_id``.
    """

    method: str = "balpoe"
    dataset: str = "digits-lt"
    imbalance_ratio: float | None = Field(
        None, ge=1, description="head count over tail count; folder-lt without one is used as it is"
    )
    data_seed: int = Field(0, ge=0, lt=2**32, description="draws the images of the long-tailed subset")
    image_size: int | None = Field(None, ge=4, le=1024, description="side in pixels")
    backbone: str | None = None
    pretrained: bool = False
    recipe: str | Recipe = "standard"
    epochs: int | None = Field(None, ge=1, le=MOST_EPOCHS)
    lr: float | None = Field(None, gt=0)
    batch_size: int | None = Field(None, ge=2, le=LARGEST_BATCH)
    precision: Literal["fp32", "bf16"] = "fp32"
    cache_resized: int | None = Field(
        None,
        ge=4,
        le=4096,
        description="shorter side, in pixels, to which image files are scaled once and kept; it changes pixels",
    )
    decode: Literal["cpu", "gpu"] = Field("cpu", description="what decodes image files; a GPU rounds otherwise")
    batch_norm_images: int | None = Field(
        None,
        ge=2,
        le=LARGEST_BATCH,
        description="images of a batch that share batch-norm statistics; by default those of a process's pass",
    )
    validation: bool = Field(False, description="hold out 20 % of each training class")
    keep_classes_without_test_images: bool = Field(
        False, description="train on classes of a folder of images that have no test images, instead of refusing them"
    )
    hyperparameters: dict[str, Any] = Field(default_factory=dict)
    seed: int = Field(0, ge=0, lt=2**32)

    def replace(self, **changes: Any) -> "RunConfig":
        """A copy with some settings changed, validated again."""
        return RunConfig.model_validate({**self.model_dump(), **changes})

    def without_seed(self) -> dict[str, Any]:
        """Everything that runs must share to be averaged, as plain data."""
        return self.model_dump(mode="json", exclude={"seed"})


def canonical_json(value: Any) -> str:
    """Compact JSON with sorted keys: equal settings give equal text. 1.0 and 1 are one number."""
    return json.dumps(_integral(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


def run_id(config: RunConfig, revision: str, fingerprint: str) -> str:
    """Twelve hexadecimal digits that name a run by what it computes.

    Settings at their default are left out, so that a setting which is new to ltbench renames no older run.

    Args:
        config: with everything filled in.
        revision: of the method's code.
        fingerprint: of the data.
    """
    text = canonical_json([config.model_dump(mode="json", exclude_defaults=True), revision, fingerprint])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def validated(model: type[Model], values: Mapping[str, Any], *, where: object = None, kind: str = "setting") -> Model:
    """Build a settings record, turning pydantic's complaint into ours.

    Args:
        model: the record's class.
        values: of its fields.
        where: they come from.
        kind: what a field of it is called.

    Raises:
        LtbenchError: for an unknown key (with the nearest known one) or a value out of range.
    """
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        raise _explained(model, error, where, kind) from None


def read_toml(path: Path) -> dict[str, Any]:
    """Parse a TOML file.

    Raises:
        LtbenchError: if it is missing or malformed.
    """
    content = read_small(path)
    try:
        return tomllib.loads(content.decode())
    except RecursionError:
        raise LtbenchError("not a valid TOML file: it is nested too deeply", where=path) from None
    except ValueError as error:
        reason = str(error).partition(";")[0]  # of a number with thousands of digits, what follows is for programmers
        raise LtbenchError(f"not a valid TOML file: {reason}", where=path) from None


def _explained(model: type[BaseModel], error: ValidationError, where: object, kind: str) -> LtbenchError:
    first = max(error.errors(), key=lambda one: len(one["loc"]))  # of alternatives, the one that fitted furthest
    inner, field, path = model, None, []
    for part in map(str, first["loc"]):
        if part in inner.model_fields:
            field = inner.model_fields[part]
            inner = _record(field.annotation) or inner
        elif not part.isdigit():  # the name of an alternative
            continue
        path.append(part)
    name = ".".join(path)
    if first["type"] == "extra_forbidden":
        return unknown(kind, str(first["loc"][-1]), inner.model_fields, where=where)
    reason = first["msg"].removeprefix("Value error, ")
    shown = f" (got {_shown(first['input'])})" if first["loc"] else ""
    hint = f"{name}: {field.description}" if field is not None and field.description else None
    return LtbenchError(f"{name or 'settings'}: {reason}{shown}", where=where, hint=hint)


def _shown(value: object) -> str:
    """A value for a message, which may be of any length."""
    try:
        text = repr(value)
    except ValueError:  # the interpreter writes no number of more than 4300 digits
        return "a number of thousands of digits"
    return text if len(text) <= 200 else f"{text[:150]}... of {len(text)} characters"


def _record(annotation: Any) -> type[BaseModel] | None:
    kinds = (annotation, *get_args(annotation))
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)


def _integral(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _integral(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_integral(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
