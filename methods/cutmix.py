"""CutMix: a box of one image pasted into another, and their labels shared by area."""

from ltbench.method import MethodConfig, Range, hyperparameter
from ltbench_methods.ce import CrossEntropy


class CutMix(CrossEntropy):
    """Cross entropy on images with a box of another image each, the labels shared by area.

    Yun et al. (ICCV 2019), algorithm 1. Knows nothing of class counts: the baseline to CMO, which chooses the pasted
    images by class. In every batch, as the authors do on ImageNet; on CIFAR they leave half of the batches alone.

    It needs long training. On digits-lt the shared recipe's 60 epochs give it 85.5 and 81.0 % macro accuracy for seeds
    2 and 3, 240 epochs 97.0 and 95.8 %, where cross entropy has 94.9 % after 60.
    """

    class Config(MethodConfig):
        searches_mixup = False

        cutmix: float | None = hyperparameter(
            1.0,
            search=Range(0.1, 2.0, log=True),
            gt=0,
            description="alpha of Beta(alpha, alpha), the fraction of the area kept before the border cuts the box",
        )

    family = "mixing"
    revision = 1
