"""How a network is trained: lengths, rates, augmentation."""

from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from ltbench.config.augment import Augment, augmentation
from ltbench.config.validation import Fraction, Frozen

MOST_EPOCHS, LARGEST_BATCH = 1_000_000, 10_000_000
"""Bounds beyond every use; a longer schedule or a larger batch would fill the memory."""


class Recipe(Frozen):
    """How a network is trained; the same for every method of a comparison."""

    name: str = "custom"
    epochs: int = Field(200, ge=1, le=MOST_EPOCHS)
    batch_size: int = Field(128, ge=2, le=LARGEST_BATCH, description="global batch size, images")
    optimizer: Literal["sgd", "adamw", "nadamw", "lamb", "lion"] = Field(
        "sgd", description="sgd and adamw are PyTorch's; nadamw, lamb and lion are timm's"
    )
    lr: float = Field(0.1, gt=0, description="peak learning rate")
    layer_decay: float = Field(
        1.0, gt=0, le=1, description="factor of the learning rate from each layer of the backbone to the one below it"
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum of SGD")
    nesterov: bool = Field(True, description="Nesterov momentum for SGD")
    weight_decay: float = Field(5e-4, ge=0, description="weight decay, on every parameter unless decay_norms is off")
    decay_norms: bool = Field(True, description="whether weight decay is also on norms and biases")
    schedule: Literal["step", "cosine"] = "step"
    milestones: tuple[Fraction, ...] = Field(
        (0.8, 0.9), description="fractions of the epochs at which the step schedule lowers the learning rate"
    )
    gamma: float = Field(0.1, gt=0, le=1, description="factor of the learning rate at each milestone")
    warmup: Fraction = Field(0.025, description="fraction of the epochs of linear warm-up, at least one epoch unless 0")
    augment: Augment = Augment()
    contrast: Augment | None = Field(
        None,
        description="augmentation of contrastive methods' views; by default SimCLR's, mirrored if augment mirrors",
    )
    head: Literal["linear", "cosine"] = "cosine"
    head_epochs: int = Field(
        0, ge=0, le=MOST_EPOCHS, description="epochs of the head alone, before the others and on pre-trained weights"
    )

    @field_validator("augment", "contrast", mode="before")
    @classmethod
    def _augmentation_named(cls, value: Any) -> Any:
        """An augmentation by its name, as in the files of recipes."""
        return augmentation(value, where="recipe.augment, recipe.contrast") if isinstance(value, str) else value

    @model_validator(mode="after")
    def _nesterov_has_momentum(self) -> "Recipe":
        if self.optimizer == "sgd" and self.nesterov and not self.momentum:
            raise ValueError("Nesterov's momentum must be above 0: add nesterov = false")
        return self

    def epochs_of(self, fraction: float) -> int:
        """The whole number of epochs nearest to a fraction of them; a half is rounded up.

        The fraction counts as the decimal number that was written: 0.7 of 15 epochs is 10.5, in binary a bit less.
        """
        return int((Decimal(repr(float(fraction))) * self.epochs).to_integral_value(ROUND_HALF_UP))

    @property
    def milestone_epochs(self) -> tuple[int, ...]:
        """The epochs, counted from 0, at which the step schedule lowers the rate, in order.

        Milestones that differ have epochs that differ, so that rounding makes no large step of two small ones. Where
        two would fall together the earlier one comes an epoch sooner, but none after the start comes before the second
        epoch. An epoch that training does not reach lowers nothing: (0.8, 0.9) are the epochs 1 and 2 of one or two, 2
        and 3 of three, 4 and 5 of five or six.
        """
        fractions = sorted(set(self.milestones))
        found = [self.epochs_of(fraction) for fraction in fractions]
        for k in reversed(range(len(found) - 1)):
            found[k] = min(found[k], found[k + 1] - 1)
        for k, fraction in enumerate(fractions):
            found[k] = max(found[k], int(fraction > 0), found[k - 1] + 1 if k else 0)
        return tuple(
            epoch
            for epoch, fraction in zip(found, fractions, strict=True)
            for _ in range(self.milestones.count(fraction))
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
