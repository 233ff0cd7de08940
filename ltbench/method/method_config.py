"""The hyper-parameters of a method."""

import inspect
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from ltbench.config import Frozen
from ltbench.method.search_space import Choice, Range, hyperparameter, options_of

_MOVED = {
    "space": "give the hyper-parameter its range: tau: float = hyperparameter(1.0, search=Range(0.5, 2.0))",
    "dataset_defaults": "write [defaults.DATASET] into the TOML file beside the method's",
}


class Mixing(Frozen):
    """Whether and how the images of a batch are mixed: hyper-parameters of every method."""

    mixup: float = hyperparameter(
        0.0,
        search=Range(0.0, 1.0),
        ge=0,
        description="alpha of mixup's Beta(alpha, alpha): one weight a batch; 0 turns it off",
    )
    remix: float | None = Field(
        None,
        ge=1,
        description="kappa of Remix, e.g. 3: ratio of class counts from which the rarer class takes the label alone",
    )
    cutmix: float | None = Field(
        None,
        ge=0,
        description="alpha of CutMix's Beta(alpha, alpha); 0 turns it off; with mixup on, each has half of the batches",
    )
    cmo: float | None = Field(
        None, ge=0, le=1, description="fraction of the batches into which boxes of tail images are pasted, as CMO does"
    )

    @model_validator(mode="before")
    @classmethod
    def _remix_mixes(cls, values: Any) -> Any:
        """Turn Remix off where mixing is switched off, and refuse it where nothing was ever to be mixed."""
        if not isinstance(values, Mapping):
            return values
        remix, mixup, cutmix = (
            values.get(name, cls.model_fields[name].default) for name in ("remix", "mixup", "cutmix")
        )
        if remix is None or mixup or cutmix:
            return values
        if not {"mixup", "cutmix"} & values.keys():
            raise ValueError("remix has no effect without mixup or CutMix, e.g. mixup=1")
        return {**values, "remix": None}

    @property
    def keeps_prior(self) -> bool:
        """Whether labels keep their frequencies; Remix and CMO make rare classes more frequent."""
        return not self.cmo and not (self.remix and (self.mixup or self.cutmix))


_OF_VARIANT: dict[str, dict[str, Any]] = {
    "sam": {},
    "imbsam": {"sam_tail": 20},
    "focal-sam": {"sam_gamma": 3.2, "sam_share": 0.8},
    "cc-sam": {"sam_share": 0.5},
}
"""The further settings of each kind of sharpness-aware minimization: their authors' values for CIFAR-100-LT."""


class Sharpness(Frozen):
    """Whether and how training is sharpness-aware (``ltbench.training.sharpness``): settings of every method.

    What is off is None, and so leaves no trace in a run id. A variant fills in its further settings.
    """

    sam: float | None = hyperparameter(
        None,
        search=Range(0.01, 1.0, log=True),
        ge=0,
        description="radius rho of sharpness-aware minimization (SAM), e.g. 0.05; 0 turns it off",
    )
    sam_variant: Literal["sam", "imbsam", "focal-sam", "cc-sam"] | None = Field(
        None,
        description="kind of SAM: sam for all classes alike, imbsam for tail classes, focal-sam or cc-sam by class",
    )
    sam_tail: int | None = Field(
        None, ge=1, description="imbsam: classes with fewer training images than this are the tail (20)"
    )
    sam_gamma: float | None = hyperparameter(
        None,
        search=Range(0.5, 5.0),
        ge=0,
        description="focal-sam: gamma of a class's weight in the sharpness, (1 - its frequency)^gamma (3.2)",
    )
    sam_share: float | None = hyperparameter(
        None,
        search=Range(0.2, 1.0),
        gt=0,
        le=1,
        description="fraction of the loss that is sharpness-aware: lambda of focal-sam (0.8), of cc-sam (0.5)",
    )

    @model_validator(mode="before")
    @classmethod
    def _complete_sharpness(cls, values: Any) -> Any:
        """Fill in the settings of a variant; refuse those that would have no effect."""
        if not isinstance(values, Mapping):
            return values
        own = {name: values[name] for name in Sharpness.model_fields if values.get(name) is not None}
        rest = {name: value for name, value in values.items() if name not in Sharpness.model_fields}
        if "sam" in values and not own.get("sam"):
            return {**rest, "sam": None}
        variant = own.get("sam_variant", "sam")
        if not own or not isinstance(variant, str) or variant not in _OF_VARIANT:  # its type will complain
            return {**rest, **own}
        for name in own.keys() - {"sam", "sam_variant"} - _OF_VARIANT[variant].keys():
            which = " or ".join(kind for kind, settings in _OF_VARIANT.items() if name in settings)
            raise ValueError(f"{name} is a setting of sam_variant={which} and has no effect on {variant}")
        if "sam" not in own:
            raise ValueError(f"{', '.join(sorted(own))} has no effect without a radius, e.g. sam=0.05")
        return {**rest, **_OF_VARIANT[variant], **own, "sam_variant": None if variant == "sam" else variant}


class MethodConfig(Mixing, Sharpness):
    """The hyper-parameters that every method has: mixing and SAM. A method's own ``Config`` adds to them."""

    searches_mixup: ClassVar[bool] = True
    """Whether ``ltbench tune`` searches mixup, too."""

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Refuse what would be ignored."""
        super().__pydantic_init_subclass__(**kwargs)
        for name in _MOVED.keys() & cls.__dict__.keys():
            raise TypeError(f"{cls.__qualname__}.{name} is not read; {_MOVED[name]}")

    @classmethod
    def search_space(cls) -> Mapping[str, Range | Choice]:
        """What ``ltbench tune`` searches, by name, in the order of the class bodies; a mixup that is inherited last."""
        found = {key: option for name in cls._order() if not cls._is_off(name) for key, option in cls._options(name)}
        if not cls.searches_mixup:
            found.pop("mixup", None)
        return found

    @classmethod
    def optional_space(cls) -> Mapping[str, Range | Choice]:
        """What it searches only where it is asked to, by name: settings of every method that are off by default."""
        return {key: option for name in cls._order() if cls._is_off(name) for key, option in cls._options(name)}

    @classmethod
    def _order(cls) -> list[str]:
        declared = [name for base in reversed(cls.__mro__) if issubclass(base, MethodConfig) for name in _body(base)]
        return [name for name in dict.fromkeys([*declared, *cls.model_fields]) if name in cls.model_fields]

    @classmethod
    def _is_off(cls, name: str) -> bool:
        return name in MethodConfig.model_fields and cls.model_fields[name].default is None

    @classmethod
    def _options(cls, name: str) -> Iterable[tuple[str, Range | Choice]]:
        return options_of(name, cls.model_fields[name]).items()


class SelectedTau(MethodConfig):
    """Hyper-parameters of a method whose tau may be chosen on validation images."""

    tau: float = 1.0
    select_tau: bool = False

    @model_validator(mode="after")
    def _refuse_two_choices(self) -> "SelectedTau":
        if self.select_tau and self.tau != 1:
            raise ValueError(
                "tau has no effect where select_tau chooses it: leave one of the two out, in a search by --set tau=1"
            )
        return self


def _body(cls: type) -> Mapping[str, Any]:
    return inspect.get_annotations(cls)
