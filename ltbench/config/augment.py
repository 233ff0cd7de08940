"""How a training image is augmented, and the augmentations that recipes name."""

from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from ltbench.config.validation import Fraction, Frozen, NonNegative, read_toml, validated
from ltbench.errors import unknown


class Augment(Frozen):
    """How a training image is augmented, in this order; every image has its own draws."""

    crop: tuple[Fraction, Fraction] | None = Field(
        None, description="smallest and largest fraction of the area that a random resized crop keeps, e.g. 0.2,1"
    )
    padding: Fraction = Field(0.0, description="zero padding before a random crop, as a fraction of the side")
    flip: bool = Field(False, description="mirror left and right, with probability one half")
    rotation: float = Field(0.0, ge=0, le=180, description="largest rotation either way, degrees")
    jitter: tuple[NonNegative, NonNegative, NonNegative, Annotated[float, Field(ge=0, le=0.5)]] = Field(
        (0.0, 0.0, 0.0, 0.0), description="largest change of brightness, contrast, saturation and hue"
    )
    jitter_chance: Fraction = Field(1.0, description="probability of the jitter")
    grey: Fraction = Field(0.0, description="probability of turning an image grey")
    blur: Fraction = Field(0.0, description="probability of a Gaussian blur, standard deviation 0.1 to 2 pixels")
    policy: Literal["cifar10", "randaugment"] | None = Field(
        None,
        description="cifar10: AutoAugment's for CIFAR-10; randaugment: RandAugment, two operations of magnitude 10",
    )
    cutout: Fraction = Field(0.0, description="side of a black square at a random place, as a fraction of the side")

    @model_validator(mode="after")
    def _crop_keeps_something(self) -> "Augment":
        if self.crop is not None and not 0 < self.crop[0] <= self.crop[1]:
            raise ValueError(f"crop is {self.crop[0]:g} to {self.crop[1]:g}: the smaller fraction above 0 comes first")
        return self


@cache
def augmentations() -> dict[str, Augment]:
    """The augmentations that recipes may name, from augmentations.toml."""
    content = read_toml(Path(str(files(__package__) / "augmentations.toml")))
    return {name: validated(Augment, values, where="augmentations.toml") for name, values in content.items()}


def augmentation(name: str, *, where: object) -> Augment:
    """The augmentation of a name.

    Raises:
        LtbenchError: for an unknown one, with the nearest known ones.
    """
    known = augmentations()
    if name not in known:
        raise unknown("augmentation", name, known, where=where)
    return known[name]
