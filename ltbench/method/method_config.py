"""The hyper-parameters of a method."""

from collections.abc import Mapping
from typing import Any, ClassVar

from ltbench.method.mixing import Mixing
from ltbench.method.search_space import Choice, Range

DatasetDefaults = Mapping[str | tuple[str, float], Mapping[str, Any]]
"""Hyper-parameters by data set, or by data set and imbalance ratio."""


class MethodConfig(Mixing):
    """The hyper-parameters that every method has, those of mixing; a method's own ``Config`` adds to them."""

    dataset_defaults: ClassVar[DatasetDefaults] = {}
    """The authors' values where they depend on the data set. The key is the data set's name, or the name and the
    imbalance ratio for what holds at that ratio only: ``{"cifar10-lt": {...}, ("cifar10-lt", 50): {...}}``."""
    space: ClassVar[Mapping[str, Range | Choice]] = {"mixup": Range(0.0, 1.0)}
    """What ``ltbench tune`` searches, by hyper-parameter."""

    @classmethod
    def defaults_for(cls, dataset: str, imbalance_ratio: float | None) -> dict[str, Any]:
        """The authors' values for a data set; those for its imbalance ratio come before those for every ratio.

        Args:
            dataset: its name.
            imbalance_ratio: of the run; None for a data set that is used as it is.
        """
        at_ratio = cls.dataset_defaults.get((dataset, imbalance_ratio), {}) if imbalance_ratio is not None else {}
        return {**cls.dataset_defaults.get(dataset, {}), **at_ratio}
