"""The hyper-parameters of a method."""

import inspect
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

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
        description="Remix: mixed images keep the rarer class alone if it is this many times as rare (3)",
    )
    cutmix: float | None = Field(
        None, ge=0, description="alpha of CutMix, 0 turns it off; beside mixup, each has half of the batches"
    )
    cmo: float | None = Field(
        None, ge=0, le=1, description="share of the batches into which boxes of tail images are pasted, as CMO does"
    )

    @property
    def keeps_prior(self) -> bool:
        """Whether labels keep their frequencies; Remix and CMO make rare classes more frequent."""
        return not self.cmo and not (self.remix and (self.mixup or self.cutmix))


class MethodConfig(Mixing):
    """The hyper-parameters that every method has, those of mixing; a method's own ``Config`` adds to them."""

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
        declared = [name for base in reversed(cls.__mro__) if issubclass(base, MethodConfig) for name in _body(base)]
        order = [name for name in dict.fromkeys([*declared, *cls.model_fields]) if name in cls.model_fields]
        found = {key: option for name in order for key, option in options_of(name, cls.model_fields[name]).items()}
        if not cls.searches_mixup:
            found.pop("mixup", None)
        return found


def _body(cls: type) -> Mapping[str, Any]:
    return inspect.get_annotations(cls)
