"""CMO: boxes of tail images pasted into images of the natural distribution, over balanced softmax."""

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from ltbench.config.recipes.augmentations import CIFAR_AUTOAUGMENT_CUTOUT, IMAGENET_RANDAUGMENT
from ltbench.method import Choice, MethodConfig, Paper, Range
from ltbench_methods.balanced_softmax import BalancedSoftmax


class CMO(BalancedSoftmax):
    """Balanced softmax on images into which boxes of tail images are pasted, as CutMix does.

    Park et al. (CVPR 2022), equations 2 and 3. In half of the batches a box of images drawn with class-balanced
    chances replaces that part of the images, and the two labels share the loss by area. This is the entry of the
    paper's tables; the pasting is a setting of every method, so CMO over another loss is for example
    ``--method ldam_drw --set cmo=0.5``.

    Where the first and last epochs go without pasting, as published, these are here shares of training, so that they
    scale with its length. In the authors' recipe of 400 epochs each image is augmented by AutoAugment and Cutout or as
    in SimCLR, by chance; ``--recipe paper`` has the first alone.
    """

    class Config(MethodConfig):
        """The share of batches with pasting."""

        cmo: float | None = Field(
            0.5, ge=0, le=1, description="share of the batches into which boxes of tail images are pasted"
        )

        space: ClassVar[Mapping[str, Range | Choice]] = {"cmo": Range(0.0, 1.0)}

    family = "mixing"
    revision = 1
    paper = Paper(
        title="The Majority Can Help The Minority: Context-rich Minority Oversampling for Long-tailed Classification",
        authors="Seulki Park and Youngkyu Hong and Byeongho Heo and Sangdoo Yun and Jin Young Choi",
        venue="IEEE/CVF Conference on Computer Vision and Pattern Recognition",
        year=2022,
        claims=(
            *(f"CMO+BS|CIFAR-100-LT|{ratio}|ResNet-32|400" for ratio in (10, 50, 100)),
            "BS+CMO|ImageNet-LT|256|ResNet-50|100",
            "BS+CMO|ImageNet-LT|256|ResNet-50|400",
            "CMO+BS|ImageNet-LT|256|ResNet-50|400",
            "BS+CMO|iNaturalist-2018|500|ResNet-50|400",
            "CMO+BS|iNaturalist-2018|500|ResNet-50|400",
        ),
        recipes={  # of the 400 epochs that the tables compare
            "cifar": {
                "epochs": 400,
                "batch_size": 128,
                "lr": 0.1,
                "nesterov": False,
                "weight_decay": 2e-4,
                "milestones": (0.8, 0.9),
                "warmup": 0.025,
                "augment": CIFAR_AUTOAUGMENT_CUTOUT,
                "head": "linear",
            },
            "imagenet-lt": {
                "epochs": 400,
                "batch_size": 128,
                "lr": 0.02,
                "nesterov": False,
                "weight_decay": 5e-4,
                "schedule": "cosine",
                "warmup": 0.025,
                "augment": IMAGENET_RANDAUGMENT,
                "head": "linear",
            },
        },
        checkpoint="best epoch on the test set",
        draw="Cao et al.",
    )
