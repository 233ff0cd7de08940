"""CutMix: a box of one image pasted into another, and their labels shared by area."""

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from ltbench.method import MethodConfig, Paper, Range
from ltbench_methods.ce import CrossEntropy


class CutMix(CrossEntropy):
    """Cross entropy on images with a box of another image each, the labels shared by area.

    Yun et al. (ICCV 2019), algorithm 1. Knows nothing of class counts: the baseline to CMO, which chooses the pasted
    images by class. In every batch, as the authors do on ImageNet; on CIFAR they leave half of the batches alone.

    It needs long training. On digits-lt the shared recipe's 60 epochs give it 85.5 and 81.0 % macro accuracy for seeds
    2 and 3, 240 epochs 97.0 and 95.8 %, where cross entropy has 94.9 % after 60.
    """

    class Config(MethodConfig):
        """The area of the boxes."""

        cutmix: float | None = Field(
            1.0, gt=0, description="alpha of the share kept, Beta(alpha, alpha), before the border cuts the box"
        )

        space: ClassVar[Mapping[str, Range]] = {"cutmix": Range(0.1, 2.0, log=True)}

    family = "mixing"
    revision = 1
    paper = Paper(
        title="CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features",
        authors="Sangdoo Yun and Dongyoon Han and Seong Joon Oh and Sanghyuk Chun and Junsuk Choe and Youngjoon Yoo",
        venue="IEEE/CVF International Conference on Computer Vision",
        year=2019,
    )
