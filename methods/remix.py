"""Remix: mixup whose mixed images take the label of the rarer class."""

from ltbench.method import MethodConfig, Range, hyperparameter
from ltbench_methods.ce import CrossEntropy


class Remix(CrossEntropy):
    """Cross entropy with mixup; where one of two mixed images is of a much rarer class, that label alone may count.

    Chou et al. (ECCV Workshops 2020), equation 5. The mixing is a setting of every method, so Remix over another loss
    is for example ``--method ldam_drw --set mixup=1 --set remix=3``, and plain mixup is ``--method ce --set mixup=1``.
    The tables often show Remix with deferred re-weighting (Remix-DRW), which is another method than this one.
    """

    class Config(MethodConfig):
        mixup: float = hyperparameter(
            1.0, search=Range(0.1, 1.0), ge=0, description="alpha of mixup's Beta(alpha, alpha); 0 turns it off"
        )
        remix: float | None = hyperparameter(
            3.0,
            search=Range(1.0, 10.0),
            ge=1,
            description="kappa: ratio of class counts from which the rarer class takes the label alone",
        )

    family = "mixing"
    revision = 1
