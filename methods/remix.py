"""Remix: mixup whose mixed images take the label of the rarer class."""

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from ltbench.method import MethodConfig, Paper, Range
from ltbench_methods.ce import CrossEntropy


class Remix(CrossEntropy):
    """Cross entropy with mixup; where one of two mixed images is of a much rarer class, that label alone may count.

    Chou et al. (ECCV Workshops 2020), equation 5. The mixing is a setting of every method, so Remix over another loss
    is for example ``--method ldam_drw --set mixup=1 --set remix=3``, and plain mixup is ``--method ce --set mixup=1``.
    The tables often show Remix with deferred re-weighting (Remix-DRW), which is another method than this one.
    """

    class Config(MethodConfig):
        """Mixup, and when a label is given away."""

        mixup: float = Field(1.0, ge=0, description="alpha of mixup's Beta(alpha, alpha); 0 turns it off")
        remix: float | None = Field(
            3.0, ge=1, description="how many times as rare a class must be to take the label alone"
        )

        space: ClassVar[Mapping[str, Range]] = {"mixup": Range(0.1, 1.0), "remix": Range(1.0, 10.0)}

    family = "mixing"
    revision = 1
    paper = Paper(
        title="Remix: Rebalanced Mixup",
        authors="Hsin-Ping Chou and Shih-Chieh Chang and Jia-Yu Pan and Wei Wei and Da-Cheng Juan",
        venue="European Conference on Computer Vision Workshops",
        year=2020,
        claims=("Remix|CIFAR-100-LT|100|ResNet-32|standard (200)",),
    )
