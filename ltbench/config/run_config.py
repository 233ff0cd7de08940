"""The settings of a run: frozen, validated, unknown keys refused, canonical as JSON."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field

from ltbench.config.recipe import LARGEST_BATCH, MOST_EPOCHS, Recipe
from ltbench.config.validation import Frozen

FEATURE_VIEWS = 4
"""Augmented views of an image whose frozen features a head is trained on, unless a run says otherwise."""


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
    imbalance: Literal["exp", "step"] = Field(
        "exp", description="class counts fall exponentially, or those of half of the classes in one step"
    )
    class_order: Literal["label", "drawn"] = Field(
        "label", description="the first labels are the largest classes, or the classes are drawn by data_seed"
    )
    data_seed: int = Field(
        0, ge=0, lt=2**32, description="seed that draws the images of a long-tailed subset, and those held out of it"
    )
    labels: str | None = Field(
        None, description="table of the labels of a folder's images; what it says is in the data, not in a run's id"
    )
    label_columns: str | None = Field(
        None, description="columns of the table of labels: path=COLUMN,label=COLUMN,split=COLUMN"
    )
    image_size: int | None = Field(None, ge=4, le=1024, description="side of the images, pixels")
    backbone: str | None = None
    pretrained: bool = Field(False, description="start from the weights that timm offers for the backbone")
    weights: str | None = Field(
        None,
        description="pre-trained weights: a file, a folder, hf-hub:OWNER/MODEL; stored as their hash",
    )
    train: Literal["all", "head"] = Field(
        "all", description="train the whole network, or the classifier on its frozen features (linear probing)"
    )
    feature_views: int | None = Field(
        None, ge=0, le=1000, description="augmented views of an image whose frozen features train the head"
    )
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
    decode: Literal["cpu", "gpu"] = Field("cpu", description="what decodes image files; a GPU rounds differently")
    batch_norm_images: int | None = Field(
        None,
        ge=2,
        le=LARGEST_BATCH,
        description="images of a batch that share batch-norm statistics; by default those of a process's pass",
    )
    validation: bool = Field(
        False, description="hold out the official validation images, else 20 % of each training class"
    )
    keep_classes_without_test_images: bool = Field(
        False, description="train on classes of a folder of images that have no test images, instead of refusing them"
    )
    hyperparameters: dict[str, Any] = Field(default_factory=dict)
    seed: int = Field(0, ge=0, lt=2**32)

    @property
    def full_recipe(self) -> Recipe:
        """The recipe of a run whose settings are all filled in.

        Raises:
            TypeError: if the recipe is still a name.
        """
        if isinstance(self.recipe, str):
            raise TypeError(f"the recipe '{self.recipe}' is a name; resolve the run first")
        return self.recipe

    @property
    def starts_from_weights(self) -> bool:
        """Whether the network has pre-trained weights at the beginning."""
        return self.weights is not None or self.pretrained

    @property
    def draws_images(self) -> bool:
        """Whether ``data_seed`` may draw images: those of a long-tailed subset, or those held out for validation."""
        return self.imbalance_ratio is not None or self.validation

    def replace(self, **changes: Any) -> "RunConfig":
        """A copy with some settings changed, validated again."""
        return RunConfig.model_validate({**self.model_dump(), **changes})

    def without_seed(self) -> dict[str, Any]:
        """Everything that runs must share to be averaged, as plain data."""
        return self.model_dump(mode="json", exclude={"seed"})


_NEWER = ("weights", "train", "feature_views", "imbalance", "class_order", "labels", "label_columns")
_NEWER_OF_RECIPES = ("optimizer", "layer_decay", "decay_norms", "head_epochs")
"""Settings that the checkpoints of versions before 0.2 know nothing of."""


def settings_text(config: RunConfig) -> str:
    """All settings of a run as text, by which its checkpoint is known.

    A run id leaves defaults out; these guard against a default that has changed since. Settings that older versions
    did not have are left out at their default, so that older checkpoints still fit.
    """
    absent: dict[str, Any] = dict.fromkeys(_at_default(config, _NEWER), True)
    if isinstance(config.recipe, Recipe):
        absent["recipe"] = set(_at_default(config.recipe, _NEWER_OF_RECIPES))
    return canonical_json(config.model_dump(mode="json", exclude=absent))


def _at_default(settings: Frozen, names: Sequence[str]) -> list[str]:
    fields = type(settings).model_fields
    return [name for name in names if getattr(settings, name) == fields[name].default]


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


def _integral(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _integral(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_integral(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
